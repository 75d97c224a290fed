"""Which backends are installed: found by entry point, loaded when asked for."""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points

from gateway.backends.base import BaseBackend
from gateway.wire import DISTRIBUTION

GROUP = "gateway.backends"


def names() -> list[str]:
    """Return the names of the installed backends."""
    return sorted(point.name for point in entry_points(group=GROUP))


def load(name: str) -> type[BaseBackend]:
    """Return a backend's class; LookupError names those there are, or what it needs to be
    installed."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        meant = (
            f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(found))}"
        )
        raise LookupError(f"c.DaskGateway.backends: no backend {name!r} is installed{meant}")
    try:
        loaded: type[BaseBackend] = found[name].load()
    except ModuleNotFoundError as error:
        raise LookupError(
            f"c.DaskGateway.backends: {name} needs {error.name}: pip install"
            f" '{DISTRIBUTION}[{name}]'"
        ) from None
    return loaded
