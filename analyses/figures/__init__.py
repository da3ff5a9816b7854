"""Figures of results, drawn with matplotlib's own objects: no window, no global state."""
