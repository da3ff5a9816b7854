"""Training: batches, optimiser, memory plan, and the saved state a run resumes from."""
