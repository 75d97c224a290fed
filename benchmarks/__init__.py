"""Figures of this gateway beside others, measured in one run: `make bench-start`, `make
bench-control`."""
