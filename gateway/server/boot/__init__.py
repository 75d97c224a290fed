"""How the server begins: what is configured, where it listens, how it will be reached."""
