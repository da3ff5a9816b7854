"""What every analysis needs from a lake: its spaces, its rows, and cached answers."""
