"""The stores, all by the same tests."""
