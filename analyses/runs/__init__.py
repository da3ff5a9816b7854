"""Resumable work: run folders, logs, tensor files, teams of processes, and grids of runs."""
