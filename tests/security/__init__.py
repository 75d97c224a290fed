"""Keys and doors."""
