"""Variants: weights loaded, random, cut short, merged or live; their blocks, sites and lineage."""
