"""How many files the process may open."""

from __future__ import annotations

import contextlib
import resource


def raise_descriptor_limit() -> int:
    """Let the process open as many files as the administrator permits (the hard limit); return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return 2**20 if soft == resource.RLIM_INFINITY else soft
