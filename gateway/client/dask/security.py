"""For `distributed.client.security-loader`: Dask asks it for the security of an address it is
given."""

from __future__ import annotations

from typing import Any

from gateway import wire
from gateway.client.calls import credentials
from gateway.client.dask import comm


def security_loader(description: dict[str, Any]) -> Any:
    """Return the Security for a `dgw://` address, None for any other."""
    address = str(description.get("address", ""))
    if not address.startswith(f"{wire.SCHEME}://"):
        return None
    target = wire.parse_scheduler_address(address)
    return credentials.kept(comm.connection_for(target), target.uid).security()
