"""Dask clusters as a service: `from daskgateway import Gateway, GatewayCluster`.

Beside it lie the protocol's messages and stubs (`daskgateway.v1`). The program itself is the
package `gateway`. That is also what people call their first script: so it is found here by its
place beside this file, whatever lies in the current directory. Names are imported when they are
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway import AsyncGateway as AsyncGateway
    from gateway import AsyncGatewayCluster as AsyncGatewayCluster
    from gateway import Auth as Auth
    from gateway import BasicAuth as BasicAuth
    from gateway import Bookmark as Bookmark
    from gateway import Cluster as Cluster
    from gateway import ClusterState as ClusterState
    from gateway import CreateMode as CreateMode
    from gateway import Event as Event
    from gateway import Gateway as Gateway
    from gateway import GatewayCluster as GatewayCluster
    from gateway import GatewayError as GatewayError
    from gateway import GatewayWarning as GatewayWarning
    from gateway import KerberosAuth as KerberosAuth
    from gateway import MtlsAuth as MtlsAuth
    from gateway import Options as Options
    from gateway import Scope as Scope
    from gateway import TokenAuth as TokenAuth
    from gateway import WatchEvent as WatchEvent
    from gateway import WatchEventType as WatchEventType
    from gateway import __version__ as __version__

__all__ = [
    "AsyncGateway",
    "AsyncGatewayCluster",
    "Auth",
    "BasicAuth",
    "Bookmark",
    "Cluster",
    "ClusterState",
    "CreateMode",
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
# What entry points name: programs that Dask and the shell look up here.
_ENTRIES = {
    "main": "gateway.__main__",
    "gateway": "gateway.client.dask_command",
    "discover": "gateway.client.dask.discovery",
    "GatewayBackend": "gateway.client.dask.comm",
    "security_loader": "gateway.client.dask.security",
}


def find() -> Any:
    """Return the package `gateway` of this distribution, imported from beside this file.

    ImportError names a file of another's that was imported by that name before.
    """
    import importlib.util
    import os
    import sys

    beside = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    places = [os.path.join(beside, "gateway"), os.path.join(os.path.dirname(beside), "gateway")]
    home = next((one for one in places if os.path.isfile(os.path.join(one, "wire.py"))), None)
    if home is None:  # installed by parts: as Python finds it
        return importlib.import_module("gateway")
    known = sys.modules.get("gateway")
    if known is not None:
        path = str(getattr(known, "__file__", "") or next(iter(getattr(known, "__path__", ())), ""))
        if os.path.realpath(path) in (os.path.realpath(os.path.join(home, "__init__.py")),):
            return known
        raise ImportError(
            f"{path or 'a module of this process'} is called `gateway`, as is the package that"
            f" daskgateway consists of ({home}): give that file another name",
            name="gateway",
            path=path or None,
        )
    spec = importlib.util.spec_from_file_location(
        "gateway", os.path.join(home, "__init__.py"), submodule_search_locations=[home]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{home} cannot be imported", name="gateway", path=home)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gateway"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules["gateway"]
        raise
    return module


def hidden_by(error: BaseException | None = None) -> str:
    """Return which file of the user's hides a package that we need, in a sentence; empty if none
    does.

    :param error: by which an import failed; without one, of what was imported.
    """
    try:
        from daskgateway import hiding

        return hiding.loaded() if error is None else hiding.behind(error)
    except Exception:  # what it needs itself is hidden: the error speaks for itself
        return ""


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name in __all__:
            try:
                found = getattr(find(), name)
            except Exception as error:
                if words := hidden_by(error):
                    raise ImportError(words) from error
                raise
            if words := hidden_by():
                raise ImportError(words)
            return found
        import importlib

        if name in _ENTRIES:
            try:
                find()
                return getattr(importlib.import_module(_ENTRIES[name]), name)
            except Exception as error:
                if words := hidden_by(error):
                    raise ImportError(words) from error
                raise
        if not name.startswith("_"):
            words = ""
            try:
                find()
                words = importlib.import_module("gateway.former_names").of_client(name, __name__)
            except ImportError:  # whatever else is wrong is told where it is of use
                pass
            if words:
                raise ImportError(words)  # of an AttributeError nobody would read the text
        raise AttributeError(f"module {__name__!r} has no attribute {name!r:.100}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
