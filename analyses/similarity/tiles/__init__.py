"""Measures that need every pair of rows, tile by tile."""
