"""Variants of models: loading, randomising, truncating and merging; blocks, sites and lineage."""
