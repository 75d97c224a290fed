"""Everything configured, checked as a whole before anything runs. Sees the classes of every layer,
and starts nothing."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from traitlets.config import Config, Configurable

from gateway import configfile
from gateway.authenticators.contract import Authenticator
from gateway.authenticators.registry import authenticator_class
from gateway.backends import registry as backend_registry
from gateway.backends.base import BaseBackend
from gateway.configfile import ConfigurationError
from gateway.descriptors import Demand
from gateway.proxy.config import Proxy
from gateway.server.boot import mutual_tls, offers, server_problems, sign_in
from gateway.server.boot.cluster_config import ClusterConfig
from gateway.server.boot.config import DaskGateway
from gateway.server.boot.unused import in_use
from gateway.server.core.user_names import rule_of
from gateway.server.edge.account import configured_account
from gateway.server.security.sources import Part, Sources
from gateway.wire import host_port, split_host_port

Plugin = TypeVar("Plugin", bound=Configurable)

DESCRIPTORS_KEPT = 256  # for what is loaded, the database, logs, the edge, what is being started
LEAST_CLUSTERS = 64
# settings that name the classes which may be set
SELECTING = ("c.DaskGateway.backends", "c.DaskGateway.authenticator")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything configured, as checked objects."""

    config: Config
    server: DaskGateway
    clusters: ClusterConfig
    proxy: Proxy
    backends: dict[str, Any]  # a BaseBackend each, that is a contract.Backend too
    authenticator: Sources

    def all(self) -> list[Configurable]:
        """Return every configured object."""
        plugins = (*self.authenticator.members, *self.backends.values())
        return [self.server, self.clusters, self.proxy, *plugins]


@dataclass(frozen=True, slots=True)
class Examined:
    """Settings, what is wrong with them, and what has no effect or may be meant otherwise; one line
    each.

    Where something is wrong, `settings` hold what is right in itself, and defaults for the rest.
    """

    settings: Settings
    problems: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def known_classes(config: Config) -> list[type[Configurable]]:
    """Return the classes that a configuration may set: the fixed ones, and those of the backends
    and authenticators it names. ConfigurationError if it names one that is not there."""
    chosen = _chosen(config)
    if chosen.problems:
        raise ConfigurationError("\n".join(chosen.problems))
    return chosen.classes()


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The classes that a configuration names, as far as they are there."""

    backends: dict[str, type[BaseBackend]]
    authenticators: dict[str, type[Authenticator]]
    problems: tuple[str, ...]

    def classes(self) -> list[type[Configurable]]:
        return [
            DaskGateway,
            ClusterConfig,
            Proxy,
            *self.authenticators.values(),
            *self.backends.values(),
        ]


def _chosen(config: Config) -> _Chosen:
    right, wrong = configfile.sifted(_section(config, "DaskGateway"), [DaskGateway])
    server = DaskGateway(config=right)
    problems = [line for line in wrong if line.startswith(SELECTING)]
    backends: dict[str, type[BaseBackend]] = {}
    for name in server.backends:
        try:
            backends[name] = backend_registry.load(name)
        except LookupError as error:
            problems.append(str(error))
        except Exception as error:  # a plug-in's own, as it is imported
            problems.append(_failed("backends", name, "cannot be loaded", error))
    authenticators: dict[str, type[Authenticator]] = {}
    for name in sign_in.labels(server):
        try:
            authenticators[name] = authenticator_class(name)
        except LookupError as error:
            problems.append(str(error))
        except Exception as error:
            problems.append(_failed("authenticator", name, "cannot be loaded", error))
    return _Chosen(backends, authenticators, tuple(dict.fromkeys(problems)))


def _sources(chosen: _Chosen, config: Config) -> tuple[Sources, list[str]]:
    """Return the authenticators as one, and what is wrong with how they are named: then each that
    is there, by its own names."""
    there, wrong = _made("authenticator", chosen.authenticators, config)
    try:
        return sign_in.sources(DaskGateway(config=config), config), []
    except ConfigurationError as error:
        wrong += str(error).splitlines()
    except Exception:
        if not wrong and not chosen.problems:  # else one cannot be loaded or made, which is told
            raise
    there = there or {"password": authenticator_class("password")(config=config)}
    return Sources([Part(name, one, rule_of("")) for name, one in there.items()]), wrong


def _made(
    setting: str, classes: Mapping[str, type[Plugin]], config: Config
) -> tuple[dict[str, Plugin], list[str]]:
    """Return the plug-ins that can be made, and why the others cannot."""
    made, wrong = {}, []
    for name, cls in classes.items():
        try:
            made[name] = cls(config=config)
        except Exception as error:  # a plug-in's own
            wrong.append(_failed(setting, name, "cannot be made", error))
    return made, wrong


def _failed(setting: str, name: str, what: str, error: Exception) -> str:
    words = " ".join(f"{type(error).__name__}: {error}".split())
    return f"c.DaskGateway.{setting}: {name!r} is installed and {what}: {words}"


def _told_by(plugin: BaseBackend | Authenticator) -> list[str]:
    """Return what a plug-in finds wrong; where it fails over that, that it does."""
    try:
        return [" ".join(line.split()) for line in plugin.problems()]
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return [f"c.{type(plugin).__name__}: its settings cannot be examined: {words}"]


def _section(config: Config, name: str) -> Config:
    alone = Config()
    if name in config:
        alone[name] = config[name]
    return alone


def settings(config: Config) -> Settings:
    """Return checked settings; ConfigurationError with everything that is wrong."""
    found = examine(config)
    if found.problems:
        raise ConfigurationError("\n".join(found.problems))
    return found.settings


def examine(config: Config) -> Examined:
    """Return settings with everything that is wrong in them, as far as they and the files that they
    name tell; nobody is asked. `serve` refuses what has a problem."""
    chosen = _chosen(config)
    used, hints = in_use(config, chosen.classes())
    right, wrong = configfile.sifted(used, chosen.classes())
    authenticator, misnamed = _sources(chosen, right)
    backends, unmade = _made("backends", chosen.backends, right)
    found = Settings(
        right,
        DaskGateway(config=right),
        ClusterConfig(config=right),
        Proxy(config=right),
        backends,
        authenticator,
    )
    told = list(dict.fromkeys([*chosen.problems, *wrong, *misnamed, *unmade]))
    settled = {_setting(line) for line in told}
    more = [*server_problems.problems(found.server)]
    more += found.proxy.problems(beside_server=True)
    more += _account_problems(found)
    more += mutual_tls.problems(found)
    offered = offers.problems(found.clusters, found.backends)
    # who has named one as dask-gateway does has not chosen the one that is there by default
    named = chosen.authenticators and "authenticator_class" not in config["DaskGateway"]
    more += [*offered.problems, *(_told_by(found.authenticator) if named else [])]
    more += [line for backend in found.backends.values() for line in _told_by(backend)]
    settled |= _following(settled, found)
    told += [line for line in dict.fromkeys(more) if _setting(line) not in settled]
    away = [name for name, backend in found.backends.items() if not backend.local]
    hints += [*server_problems.hints(found.server, away), *found.proxy.hints(), *offered.hints]
    hints += mutual_tls.hints(found)
    return Examined(found, tuple(told), tuple(hints))


def _following(settled: set[str], found: Settings) -> set[str]:
    """Return the settings that follow from ones which are wrong: of those nothing is said."""
    if "c.DaskGateway.state_dir" not in settled | {
        _setting(line) for line in server_problems.problems(found.server)
    }:
        return set()
    names = [type(backend).__name__ for backend in found.backends.values()]
    return {f"c.{name}.root" for name in names if "root" not in found.config.get(name, {})}


def _setting(line: str) -> str:
    return line.partition(": ")[0]


def _account_problems(found: Settings) -> list[str]:
    if not found.proxy.user or not found.server.start_proxy:
        return []
    try:
        configured_account(found.proxy.user)
    except ConfigurationError as error:
        return [str(error)]
    return []


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
