"""Workers for parts of a pass and for whole jobs: threads, processes, a Dask cluster."""
