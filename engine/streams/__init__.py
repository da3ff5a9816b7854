"""Batches of whole examples, all layers at once: what probes read."""
