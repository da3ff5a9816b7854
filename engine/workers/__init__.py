"""Where parts of a pass and whole jobs run: threads, processes, a Dask cluster."""
