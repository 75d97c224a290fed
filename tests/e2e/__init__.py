"""The whole product, with real processes."""
