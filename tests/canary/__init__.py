"""Secrets that were issued are searched for wherever somebody might read them."""
