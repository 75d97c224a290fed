"""Machine rooms."""
