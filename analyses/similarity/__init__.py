"""How alike two representation spaces of the same rows are.

`kernels` turns rows into features, `moments` sums those features over a pass, `inference` turns
sums into correlations and intervals, and `rsa` is what others call.
"""
