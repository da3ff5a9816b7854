"""Measures of similarity that are closed forms of centred sums over rows.

`SpaceSums` of each space and `CrossSums` of each pair, which one pass over the rows gives, are all
that they need: no measure here forms a rows x rows matrix, or reads a row again.
"""
