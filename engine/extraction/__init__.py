"""A model run over a corpus: what a run takes, its hooks, its windows and their storage."""
