"""A gateway for a module's tests of the client."""

from __future__ import annotations

from tests.e2e.conftest import served

__all__ = ["served"]
