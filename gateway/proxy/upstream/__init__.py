"""The way to the server, and whose turn it is on it."""
