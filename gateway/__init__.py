"""Dask clusters as a service: what `from daskgateway import Gateway, GatewayCluster` imports.

Users import `daskgateway`: a file of theirs may be called gateway.py. Names are imported when they
are first used, so that the server does not load the client, nor the client the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.client.async_gateway import AsyncGateway
    from gateway.client.calls.auths import Auth, BasicAuth, KerberosAuth, TokenAuth
    from gateway.client.calls.client_certificate import MtlsAuth
    from gateway.client.calls.errors import GatewayError, GatewayWarning
    from gateway.client.calls.options import Options
    from gateway.client.dask.cluster import AsyncGatewayCluster, GatewayCluster
    from gateway.client.dask.modes import CreateMode
    from gateway.client.gateway import Gateway
    from gateway.client.model import (
        Bookmark,
        Cluster,
        ClusterState,
        Event,
        Scope,
        WatchEvent,
        WatchEventType,
    )

__version__ = "0.1.0"
__all__ = [
    "AsyncGateway",
    "AsyncGatewayCluster",
    "Auth",
    "BasicAuth",
    "Bookmark",
    "Cluster",
    "CreateMode",
    "ClusterState",
    "Event",
    "Gateway",
    "GatewayCluster",
    "GatewayError",
    "GatewayWarning",
    "KerberosAuth",
    "MtlsAuth",
    "Options",
    "Scope",
    "TokenAuth",
    "WatchEvent",
    "WatchEventType",
    "__version__",
]

_HOMES = {
    "AsyncGateway": "gateway.client.async_gateway",
    "AsyncGatewayCluster": "gateway.client.dask.cluster",
    "Auth": "gateway.client.calls.auths",
    "BasicAuth": "gateway.client.calls.auths",
    "Bookmark": "gateway.client.model",
    "Cluster": "gateway.client.model",
    "CreateMode": "gateway.client.dask.modes",
    "ClusterState": "gateway.client.model",
    "Event": "gateway.client.model",
    "Gateway": "gateway.client.gateway",
    "GatewayCluster": "gateway.client.dask.cluster",
    "GatewayError": "gateway.client.calls.errors",
    "GatewayWarning": "gateway.client.calls.errors",
    "KerberosAuth": "gateway.client.calls.auths",
    "MtlsAuth": "gateway.client.calls.client_certificate",
    "Options": "gateway.client.calls.options",
    "Scope": "gateway.client.model",
    "TokenAuth": "gateway.client.calls.auths",
    "WatchEvent": "gateway.client.model",
    "WatchEventType": "gateway.client.model",
}


def _hidden(name: str) -> str:
    """Return what to say where a file of the user's has our name, and was meant perhaps."""
    import os
    import sys

    if name.startswith("_"):
        return ""
    mine = os.path.realpath(os.path.dirname(__file__))
    for place in sys.path:
        for file in ("gateway.py", os.path.join("gateway", "__init__.py")):
            path = os.path.join(place or os.getcwd(), file)
            if os.path.isfile(path) and not os.path.realpath(path).startswith(mine + os.sep):
                return (
                    f"; this is the package of daskgateway ({mine}), which hides {path}: give that"
                    " file another name"
                )
    return ""


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        import importlib

        if name not in _HOMES:
            if not name.startswith("_"):
                former = importlib.import_module("gateway.former_names")
                if words := former.of_client(name, "daskgateway"):
                    raise ImportError(words)  # `from … import` passes over an AttributeError's text
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r:.100}{_hidden(name)}"
            )

        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
