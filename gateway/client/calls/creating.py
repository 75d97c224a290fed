"""How a cluster is asked for: the keywords of `GatewayCluster`, `submit` and `new_cluster` become
one request, and its refusal is told in their words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from daskgateway.v1 import cluster_service_pb2 as pb

from gateway.client.calls import api, errors, keywords, messages, reading, settings
from gateway.client.calls.channel import Connection, in_thread
from gateway.client.calls.options import Options, checked
from gateway.client.model import Cluster
from gateway.printable import brief

T = TypeVar("T")

LIVES = (
    "idle_timeout",
    "max_lifetime",
    "no_client_timeout",
    "no_task_timeout",
    "keepalive_timeout",
)


# where a gateway is, as keywords of who makes a cluster without one
PLACES = ("address", "proxy_address", "public_address")


def others(name: Any, options: Any, given: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Return name, options and where the gateway is, out of what is given as to dask-gateway's
    GatewayCluster too; what is taken is taken out of `given`.

    There the first argument is an address, or of `new_cluster` options, and these are called
    `cluster_options`. TypeError if something is said twice.
    """
    place = {key: given.pop(key) for key in PLACES if given.get(key) is not None}
    for key in PLACES:
        given.pop(key, None)
    called = given.pop("cluster_options", None)
    if isinstance(name, Mapping):
        name, called = None, _once(called, name, "cluster_options")
    if isinstance(name, str) and "://" in name:
        place["address"] = _once(place.get("address"), name, "address")
        name = None
    return name, _once(options, called, "options"), place


def _once(first: T | None, second: T | None, what: str) -> T | None:
    if first is not None and second is not None:
        raise TypeError(f"{what} is given twice: {reading.shown(first)}, {reading.shown(second)}")
    return second if first is None else first


@dataclass(frozen=True)
class Asked:
    """A request for a cluster, and whence its options came."""

    request: pb.CreateClusterRequest
    keywords: frozenset[str]  # that the called function takes
    given: Mapping[str, Any]  # options that were given like keywords
    chosen: Mapping[str, Any]  # options that were given as such
    configured: Mapping[str, Any]  # options that only Dask's configuration names
    groups: Mapping[str, Mapping[str, Any]]  # what was given of worker groups


def takes(function: Callable[..., Any]) -> frozenset[str]:
    """Return the keywords that a function names itself."""
    parameters = inspect.signature(function).parameters.values()
    return frozenset(
        one.name for one in parameters if one.kind is not one.VAR_KEYWORD and one.name != "self"
    )


def ask(
    name: str | None, named: Mapping[str, Any], given: Mapping[str, Any], taken: frozenset[str]
) -> Asked:
    """Return the request for a cluster. None means not given; ValueError says what is wrong.

    :param name: id of the cluster; None lets the gateway choose one.
    :param named: keywords about the cluster, by name: those of `GatewayCluster`.
    :param given: what else was given like a keyword, which are options.
    :param taken: every keyword that the called function takes.
    """
    options = named.get("options")
    chosen = (
        options.chosen()
        if isinstance(options, Options)
        else reading.mapping(options, "options")
        if options is not None
        else {}
    )
    if not isinstance(options, Options):
        _say_once(chosen, given)
    # an Options object has them already, or its user has taken them out
    local = {} if isinstance(options, Options) else settings.cluster_options()
    configured = {key: one for key, one in local.items() if key not in {**chosen, **given}}
    groups = _groups(named.get("worker_groups"))
    request = messages.create(
        reading.text(name, "name") if name is not None else "",
        options={
            key: reading.option(one, brief(key))
            for key, one in {**configured, **chosen, **given}.items()
        },
        backend=reading.text(named.get("backend") or "", "backend"),
        workers=_given(named, "n_workers", reading.sizing),
        worker_groups=groups,
        labels=_given(named, "labels", reading.texts),
        **{f"{life}_s": _given(named, life, reading.seconds) for life in LIVES},
    )
    return Asked(request, taken, dict(given), chosen, configured, groups)


def _say_once(chosen: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise ValueError if an option has one value among `options` and another as a keyword. An
    Options object has a value for each, so a keyword is meant to change it."""
    for name in sorted(chosen.keys() & given.keys()):
        first, second = (reading.option(one[name], name) for one in (chosen, given))
        if first != second:
            shown = (
                "with two values"
                if isinstance(first, Mapping) or isinstance(second, Mapping)  # it may hold secrets
                else f"{reading.shown(first)} in options and {reading.shown(second)} as a keyword"
            )
            raise ValueError(f"{name} is given twice, {shown}; give it once")


def _given(named: Mapping[str, Any], name: str, read: Callable[[Any, str], T]) -> T | None:
    value = named.get(name)
    return None if value is None else read(value, name)


def _groups(groups: Any) -> dict[str, dict[str, Any]]:
    if groups is None:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name, wish in reading.mapping(groups, "worker_groups").items():
        place = f"worker_groups[{reading.shown(name)}]"
        if isinstance(wish, int) or not isinstance(wish, Mapping):  # a mere number of workers
            found[name] = {"n_workers": reading.sizing(wish, place)}
            continue
        found[name] = {
            key: reading.sizing(one, f"{place}['n_workers']")
            if key == "n_workers"
            else reading.option(one, f"{place}[{reading.shown(key)}]")
            for key, one in reading.mapping(wish, place).items()
        }
    return found


def create(connection: Connection, asked: Asked) -> Cluster:
    """Ask for a cluster and return it as accepted; InvalidRequest in the caller's words.

    A value is read by its option's kind, as `Options` reads it: "2" for a number. Which kinds there
    are is asked only where the gateway has refused one.
    """
    try:
        try:
            return Cluster.from_proto(connection.call(api.CREATE_CLUSTER, asked.request))
        except errors.InvalidRequest as error:
            offered = _offered(connection)
            if offered is None:
                raise
            if not _read_by_kind(asked, offered):
                raise explained(asked, error, offered) from None
        try:
            return Cluster.from_proto(connection.call(api.CREATE_CLUSTER, asked.request))
        except errors.InvalidRequest as error:
            raise explained(asked, error, offered) from None
    except errors.ClusterExists as error:
        raise taken(connection, asked.request.cluster_id, error) from None


def taken(connection: Connection, name: str, error: errors.ClusterExists) -> errors.ClusterExists:
    """Return that a name is taken, with what can be done: by what its cluster does now."""
    try:
        request = pb.GetClusterRequest(name=messages.full_name(name))
        found = Cluster.from_proto(connection.call(api.GET_CLUSTER, request))
    except errors.GatewayError:  # it may be gone by now
        return error
    if found.state.ending:
        words = (
            f"your cluster {name} is still {found.state}: its name is free once nothing of it runs."
            f' Wait for that (Gateway().wait({name!r}, "STOPPED")), or choose another name'
        )
    else:
        words = (
            f"you already have a cluster {name}, which is {found.state}: connect to it"
            f" (Gateway().connect({name!r}), GatewayCluster.from_name({name!r}), or in a cell that"
            f" is run again GatewayCluster({name!r}, create_mode='create_or_connect')), stop it"
            " first, or choose another name"
        )
    return errors.ClusterExists(
        words, code=error.code, reason=error.reason, metadata=error.metadata
    )


async def create_async(connection: Connection, asked: Asked) -> Cluster:
    """Do as `create` does, from an event loop."""
    return await in_thread(lambda: create(connection, asked))


def _offered(connection: Connection) -> Options | None:
    """Return which options the gateway has, if it still tells."""
    try:
        return Options(connection.call(api.GET_CLUSTER_OPTIONS, pb.GetClusterOptionsRequest()))
    except errors.GatewayError:
        return None


def _read_by_kind(asked: Asked, offered: Options) -> bool:
    """Read texts and mappings in a request by the kinds of their options; whether one is otherwise
    than before. What cannot be read stays, and is refused with what would be right."""
    spec, changed = asked.request.cluster.spec, False
    given: list[tuple[Any, Mapping[str, Any]]] = [
        (spec.options, {**asked.configured, **asked.chosen, **asked.given})
    ]
    given += [(spec.worker_groups[name].options, wish) for name, wish in asked.groups.items()]
    for values, wished in given:
        for name, value in wished.items():
            field = offered.fields.get(name)
            if field is None or not isinstance(value, str | Mapping):
                continue
            with suppress(ValueError):
                read = checked(field, value)
                if read != value:
                    values[name], changed = read, True
    return changed


def explained(
    asked: Asked, error: errors.InvalidRequest, offered: Options
) -> errors.InvalidRequest:
    """Return a refusal in the caller's words."""
    return keywords.explained(
        error,
        keywords=asked.keywords,
        given=asked.given,
        chosen=asked.chosen,
        configured=asked.configured,
        offered=offered,
        name=asked.request.cluster_id,
        backend=asked.request.cluster.spec.backend,
    )
