"""Protocols between agent, edge and server, version 1."""
