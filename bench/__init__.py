"""Benchmarks: workloads with named baselines measured in the same run."""
