"""Activations computed by another program: checked, planned and written as a set."""
