"""Plugins that start and stop processes somewhere."""
