"""How the client calls the gateway: settings, channels, messages, errors. Knows nothing of Dask's
cluster objects."""
