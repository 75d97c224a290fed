"""The local backend as root, attacked by its users."""
