"""Tokenization: packings, alignment of words and pieces, and batches."""
