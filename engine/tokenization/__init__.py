"""Examples into pieces: packings, words and their pieces, batches."""
