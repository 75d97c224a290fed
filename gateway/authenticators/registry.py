"""Which authenticators are installed: found by entry point, loaded when asked for."""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points

from gateway.authenticators.contract import Authenticator

GROUP = "gateway.authenticators"


def authenticator_class(name: str) -> type[Authenticator]:
    """Return an installed authenticator; LookupError names those there are."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        meant = (
            f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(found))}"
        )
        raise LookupError(
            f"c.DaskGateway.authenticator: no authenticator {name!r} is installed{meant}"
        )
    loaded: type[Authenticator] = found[name].load()
    return loaded
