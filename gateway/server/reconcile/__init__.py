"""Makes what is observed match what is wished."""
