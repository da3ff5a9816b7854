"""What every analysis asks of a lake: which spaces, which rows, and whether it was answered."""
