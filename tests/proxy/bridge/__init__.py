"""The API over HTTP/1.1."""
