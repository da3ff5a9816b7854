"""What is computed from a lake."""
