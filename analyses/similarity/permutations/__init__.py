"""Permutation tests of a relation between spaces, permuting whole examples."""
