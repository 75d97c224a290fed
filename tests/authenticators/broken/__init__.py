"""Authenticators that each break one promise: what the conformance suite must notice. Each is a
sound one but for that.

`BROKEN` tells of each which test is meant to notice it.
"""

from tests.authenticators.broken import believing, faulting, keeping, letting_in, telling
from tests.authenticators.broken.base import BROKEN, Broken

__all__ = ["BROKEN", "Broken", "believing", "faulting", "keeping", "letting_in", "telling"]
