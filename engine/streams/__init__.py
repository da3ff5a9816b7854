"""Batches of whole examples over all layers at once, as probes read them."""
