"""Dask clusters as a service: `from gateway import Gateway, GatewayCluster`.

Names are imported when they are first used, so that the server does not load the client, nor the client the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.client.cluster import GatewayCluster
    from gateway.client.errors import GatewayError
    from gateway.client.gateway import Gateway
    from gateway.client.options import Options

__version__ = "0.1.0"
__all__ = ["Gateway", "GatewayCluster", "GatewayError", "Options", "__version__"]

_HOMES = {
    "Gateway": "gateway.client.gateway",
    "GatewayCluster": "gateway.client.cluster",
    "GatewayError": "gateway.client.errors",
    "Options": "gateway.client.options",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
