"""What the client raises: `from daskgateway.errors import ClusterNotFound, QuotaExceeded`."""

from __future__ import annotations

from daskgateway import find, hidden_by

try:
    find()

    from gateway.client.calls.errors import *  # noqa: F403
except Exception as error:
    if words := hidden_by(error):
        raise ImportError(words) from error
    raise
