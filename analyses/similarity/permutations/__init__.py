"""Tests of a relation between spaces by permutations of whole examples."""
