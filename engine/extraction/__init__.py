"""Extraction: running a model over a corpus, capturing activations and storing them by window."""
