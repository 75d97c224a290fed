"""What the client raises: `from daskgateway.errors import ClusterNotFound, QuotaExceeded`."""

from __future__ import annotations

from daskgateway import find

find()

from gateway.client.calls.errors import *  # noqa: E402, F403
