"""Everything configured, checked as a whole before anything runs. Sees the classes of every layer,
and starts nothing."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from traitlets.config import Config, Configurable

from gateway import configfile
from gateway.backends import registry as backend_registry
from gateway.configfile import ConfigurationError
from gateway.descriptors import Demand
from gateway.proxy.config import Proxy
from gateway.server.boot import sign_in
from gateway.server.boot.config import ClusterConfig, DaskGateway
from gateway.server.core.amounts import MEMORY
from gateway.server.core.quantities import parse_bytes
from gateway.server.edge.account import configured_account
from gateway.server.security.sources import Sources
from gateway.wire import host_port, split_host_port

DESCRIPTORS_KEPT = 256  # for what is loaded, the database, logs, the edge, what is being started
LEAST_CLUSTERS = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything configured, as checked objects."""

    config: Config
    server: DaskGateway
    clusters: ClusterConfig
    proxy: Proxy
    backends: dict[str, Any]
    authenticator: Sources

    def all(self) -> list[Configurable]:
        """Return every configured object."""
        plugins = (*self.authenticator.members, *self.backends.values())
        return [self.server, self.clusters, self.proxy, *plugins]


def known_classes(config: Config) -> list[type[Configurable]]:
    """Return the classes that a configuration may set: the fixed ones, and those of the backends
    and authenticators it names."""
    server = DaskGateway(config=_section(config, "DaskGateway"))
    try:
        backends = [backend_registry.load(name) for name in server.backends]
        authenticators = sign_in.classes(server)
    except (LookupError, ValueError) as error:
        raise ConfigurationError(str(error)) from None
    return [DaskGateway, ClusterConfig, Proxy, *authenticators, *backends]


def _section(config: Config, name: str) -> Config:
    """Return one section, checked, so that the classes it names can be found."""
    alone = Config()
    if name in config:
        alone[name] = config[name]
        configfile.check(alone, [DaskGateway])
    return alone


def settings(config: Config) -> Settings:
    """Return checked settings; ConfigurationError with everything that is wrong."""
    configfile.check(config, known_classes(config))
    server, clusters, proxy = (
        DaskGateway(config=config),
        ClusterConfig(config=config),
        Proxy(config=config),
    )
    backends = {name: backend_registry.load(name)(config=config) for name in server.backends}
    authenticator = sign_in.sources(server, config)
    found = Settings(config, server, clusters, proxy, backends, authenticator)
    _check(found)
    return found


def descriptors_wanted(server: DaskGateway) -> Demand:
    """Return what a server needs descriptors for: of each cluster the agent's connection, and one
    for its users or its process."""
    return Demand(
        "clusters",
        "c.DaskGateway.max_clusters",
        server.max_clusters,
        each=2,
        kept=DESCRIPTORS_KEPT,
        least=LEAST_CLUSTERS,
    )


def _check(found: Settings) -> None:
    server = found.server
    if not server.backends:
        raise ConfigurationError("c.DaskGateway.backends: must name at least one backend")
    if bool(server.tls_cert) != bool(server.tls_key):
        raise ConfigurationError("c.DaskGateway.tls_cert and tls_key: set both or none")
    _check_memory(found.clusters)
    split_address(server.address, "c.DaskGateway.address")
    _check_agent_address(server)
    if server.database and urlsplit(server.database).scheme != "sqlite":
        raise ConfigurationError(
            f"c.DaskGateway.database: must be sqlite:////path/to/file, not {server.database!r}"
        )
    if found.proxy.user and server.start_proxy:
        configured_account(found.proxy.user)
    _check_plugins([*found.backends.values(), found.authenticator])


def _check_memory(clusters: ClusterConfig) -> None:
    """Refuse processes without a limit of memory in clusters with one."""
    unlimited = [name for name in MEMORY if not parse_bytes(getattr(clusters, name))]
    if clusters.max_memory is not None and unlimited:
        raise ConfigurationError(
            f"c.ClusterConfig.{unlimited[0]}: must be more than 0, which is no limit:"
            " c.ClusterConfig.max_memory limits the memory of one cluster"
        )


def _check_plugins(plugins: Iterable[Any]) -> None:
    wrong = [
        line for plugin in plugins if hasattr(plugin, "problems") for line in plugin.problems()
    ]
    if wrong:
        raise ConfigurationError("\n".join(wrong))


def database_path(server: DaskGateway) -> pathlib.Path:
    """Return the database's file."""
    state_dir = pathlib.Path(server.state_dir).expanduser().resolve()
    return (
        pathlib.Path(server.database.partition(":///")[2])
        if server.database
        else state_dir / "gateway.db"
    )


def split_address(text: str, setting: str) -> tuple[str, int]:
    """Return host and port; ConfigurationError names the setting."""
    place = split_host_port(text)
    if place is None:
        raise ConfigurationError(f"{setting}: must be host:port, not {text!r}")
    return place


def bound_address(configured: str, port: int) -> str:
    """Return what is listened on, as `host:port`: the host as configured, where none or 0.0.0.0 is
    every address, with the port it got."""
    hostname, _ = split_address(configured, "c.DaskGateway.address")
    return host_port(hostname or "0.0.0.0", port)


def host_of(url: str) -> str:
    """Return the host of an address such as https://host:port, an empty text if it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _check_agent_address(server: DaskGateway) -> None:
    address = server.agent_address
    if not address or address.startswith("unix:/"):
        return
    if not address.startswith("https://") or not host_of(address):
        hint = (
            ": agents would send their tokens to whoever has the port"
            if address.startswith("http://")
            else ""
        )
        raise ConfigurationError(
            f"c.DaskGateway.agent_address: must be https://host:port or unix:/path, not"
            f" {address!r}{hint}"
        )
