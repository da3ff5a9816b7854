"""Comparisons of arrays and of spaces in a lake: pairs, passes, records and forecasts."""
