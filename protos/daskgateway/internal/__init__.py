"""Protocols between the parts of the gateway; no promise to outsiders."""
