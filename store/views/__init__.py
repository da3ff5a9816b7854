"""A space and a lake as other libraries and people take them: Dask, xarray, torch, pages."""
