"""Activations that another program computed: checked, planned and written as a set."""
