"""Schedulers and workers as jobs of PBS."""

from gateway.backends.pbs.backend import PbsBackend

__all__ = ["PbsBackend"]
