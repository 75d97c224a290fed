"""Bytes between clients and schedulers, untouched."""
