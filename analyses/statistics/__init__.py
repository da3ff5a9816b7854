"""Intervals and means that no analysis has for itself: jackknife, bootstrap, pairs, seeds."""
