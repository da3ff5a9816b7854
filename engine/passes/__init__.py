"""One pass over blocks of rows: arrays, devices, and the accumulators that share it."""
