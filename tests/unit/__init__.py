"""Pure code, tested by the thousand."""
