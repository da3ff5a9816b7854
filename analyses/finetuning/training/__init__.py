"""Updates: batches, optimiser, memory, and state that is saved and resumed."""
