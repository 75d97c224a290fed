"""The client by itself."""
