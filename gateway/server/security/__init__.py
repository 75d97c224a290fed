"""Tokens, certificates, secrets, authenticators."""
