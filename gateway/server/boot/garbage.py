"""Python's collector looks through all that lives, again and again: with 10,000 clusters for a
fifth of a second, in which nobody is answered. What it has looked through once is put aside here
(`gc.freeze`), so that each time it looks through what is new.

What is put aside and becomes a cycle of garbage later would stay for ever. So everything is looked
through once more whenever twice as much is put aside as after the last time: seldom, and never on a
server that does not grow.
"""

from __future__ import annotations

import gc
from typing import Any

SLACK = 200_000  # objects; less is looked through in some 10 ms

_whole = True  # whether all that lives is looked through next
_kept = 0  # objects that were put aside after that
_aside = 0  # objects that have been put aside, also those that are no more


def settle() -> None:
    """Look through everything now, and from now on through what is new."""
    gc.unfreeze()
    if _after not in gc.callbacks:
        gc.callbacks.append(_after)
    _expect_all()
    gc.collect()


def unsettle() -> None:
    """Let the collector do as it does by itself."""
    if _after in gc.callbacks:
        gc.callbacks.remove(_after)
    gc.unfreeze()


def _expect_all() -> None:
    global _whole
    _whole = True


def _after(phase: str, info: dict[str, Any]) -> None:
    """Put aside what a full collection has left."""
    global _aside, _kept, _whole
    if phase != "stop" or info["generation"] < 2:
        return
    _aside += len(gc.get_objects())
    gc.freeze()
    # to count what is put aside is to walk through all of it: seldom
    if _whole:
        _kept = _aside = gc.get_freeze_count()
        _whole = False
    elif _aside > 2 * _kept + SLACK:
        _aside = gc.get_freeze_count()
        if _aside > 2 * _kept + SLACK:
            gc.unfreeze()
            _expect_all()
