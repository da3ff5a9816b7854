"""What lies on disk: the layout of a lake, how it is written, read and checked.

Knows Zarr; knows no model and no statistic.
"""
