"""A gateway for the documents' programs."""

from __future__ import annotations

from tests.e2e.conftest import served

__all__ = ["served"]
