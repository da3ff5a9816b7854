"""Profiles of single spaces: anisotropy, dimensions and norms."""
