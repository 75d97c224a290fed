"""The gateway as Dask sees it: cluster objects, the comm scheme, discovery, security."""
