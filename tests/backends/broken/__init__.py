"""Backends that each break one promise: what the conformance suite must notice. Each is a sound one
but for that.

`BROKEN` tells of each which test is meant to notice it.
"""

from tests.backends.broken import ending, faulting, leaving, seeing, starting
from tests.backends.broken.base import BROKEN, Broken

__all__ = ["BROKEN", "Broken", "ending", "faulting", "leaving", "seeing", "starting"]
