"""Schedulers and workers as processes of this machine."""

from gateway.backends.local.backend import LocalBackend

__all__ = ["LocalBackend"]
