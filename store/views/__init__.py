"""Views of a space or a lake for other libraries and for people: Dask, xarray, torch, HTML."""
