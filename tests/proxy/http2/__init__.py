"""The edge over HTTP/2, on the event loop that it has in life."""
