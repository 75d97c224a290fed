"""Authenticators, and the suite that they must pass."""
