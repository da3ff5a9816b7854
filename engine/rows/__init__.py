"""Which tokens of a corpus become rows."""
