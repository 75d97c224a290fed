"""The public port: who comes in, and what for."""
