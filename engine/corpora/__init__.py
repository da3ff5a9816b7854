"""Corpora: readers that turn files, hub data sets and objects into a Corpus."""
