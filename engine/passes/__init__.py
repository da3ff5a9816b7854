"""Passes over blocks of rows: arrays, devices, and the accumulators that share a pass."""
