"""Whatever a field holds: the call is refused with the field's name, or what it made can be shown
to everybody, in JSON too."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.server.core.admission import Offer
from gateway.server.core.model import Lifecycle, Limits, Principal
from gateway.server.rpc import messages
from tests.rpc.harness import Harness, Offers, as_
from tests.rpc.test_clusters import create, fields, reason
from tests.unit.test_bounds import OPEN, SETTINGS

WHOLE = (0, 1, -1, 2**31 - 1, -(2**31), 2**53, 2**63 - 1, -(2**63))
REAL = (
    0.0,
    -0.0,
    1e308,
    -1e308,
    5e-324,
    2.0**53,
    2.0**64,
    math.inf,
    -math.inf,
    math.nan,
    0.01,
    1.0,
)
TEXTS = (
    *("", "x", "x" * 5000, "a\0b", "\u202e\x1b[2J", "\U0010ffff" * 300),
    *("10000 PiB", "1024 PiB", "1 MiB", "1e400", "NaN", "Infinity", "-1 GiB", "0"),
)
# of a cluster: told by the server; in requests passed over
FREE = ("name", "uid", "etag", "owner", "status", "generation", "revision")
OTHERWISE = {
    reason: set[str]()
    for reason in (
        "NOT_PERMITTED",
        "CLUSTER_NOT_FOUND",
        "CLUSTER_EXISTS",
        "TOKEN_NOT_FOUND",
        "ETAG_MISMATCH",
        "NO_SESSION",
    )
}
OPTIONS = tuple(option.name for option in OPEN)


@dataclass
class OpenOffers(Offers):
    """An offer that bounds nothing by itself."""

    limits: Limits = field(default_factory=lambda: Limits(workers=0))

    async def offer(self, principal: Principal) -> Offer:
        return replace(
            await super().offer(principal), fields=OPEN, settings=SETTINGS, most=Lifecycle()
        )


def leaves(
    kind: Descriptor, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldDescriptor | None]]:
    """Yield the path of every scalar of a message; an entry of a map is named as one may be. None:
    an option's value."""
    for one in kind.fields:
        here = (*path, one.name)
        if one.message_type is None:
            yield here, one
        elif one.message_type.full_name == "google.protobuf.Struct":
            yield from (((*here, name), None) for name in OPTIONS)
        elif one.message_type.GetOptions().map_entry:
            value = one.message_type.fields_by_name["value"]
            key = "default" if one.name == "worker_groups" else "key"
            if value.message_type is None:
                yield (*here, key), value
            else:
                yield from leaves(value.message_type, (*here, key))
        elif one.name not in FREE and not one.is_repeated:
            yield from leaves(one.message_type, here)


def scalars(one: FieldDescriptor | None) -> st.SearchStrategy[Any]:
    """Return what a field may hold."""
    if one is None:
        table = st.dictionaries(st.sampled_from(TEXTS), st.sampled_from(TEXTS), max_size=3)
        return st.one_of(
            st.sampled_from(REAL),
            st.sampled_from(WHOLE),
            st.sampled_from(TEXTS),
            st.booleans(),
            st.none(),
            table,
        )
    match one.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return st.sampled_from(TEXTS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return st.sampled_from(REAL)
        case FieldDescriptor.CPPTYPE_INT64:
            return st.sampled_from(WHOLE)
    return st.sampled_from([number for number in WHOLE if abs(number) < 2**31])


def put(message: Any, path: tuple[str, ...], value: Any) -> None:
    """Set what a path names."""
    *way, last = path
    for step in way:
        message = (
            message[step]
            if not isinstance(message, Message) or not hasattr(message, step)
            else getattr(message, step)
        )
    if hasattr(message, "fields"):  # a Struct
        message[last] = value
    elif isinstance(message, Message):
        held = getattr(message, last)
        held.append(value) if hasattr(held, "append") else setattr(message, last, value)
    else:
        message[last] = value


def changes(kind: type[Message]) -> st.SearchStrategy[list[tuple[tuple[str, ...], Any]]]:
    """Return a few changes of fields of a message."""
    told = [
        leaf
        for leaf in leaves(kind.DESCRIPTOR)  # type: ignore[arg-type]
        if leaf[0][0] == "cluster" and leaf[0][1] in FREE
    ]
    paths = [leaf for leaf in leaves(kind.DESCRIPTOR) if leaf not in told]  # type: ignore[arg-type]
    one = st.sampled_from(paths).flatmap(
        lambda leaf: scalars(leaf[1]).map(lambda value: (leaf[0], value))
    )
    return st.lists(one, min_size=1, max_size=3, unique_by=lambda change: change[0])


def named(told: set[str], changed: list[tuple[tuple[str, ...], Any]]) -> bool:
    """Whether what is refused is among what was changed, as far as the two fields' names go
    together."""
    # a duration is one field, whichever part of it was changed
    fields = [path[:-1] if path[-1] in ("seconds", "nanos") else path for path, _ in changed]
    paths = [".".join(path) for path in fields]
    return any(
        path.startswith(name) or name.startswith(path.rpartition(".")[0] or path)
        for path in paths
        for name in told
    )


async def refusal(call: Any) -> tuple[Any, set[str] | None]:
    """Return a call's answer, or the fields that it was refused for; no other error is right."""
    try:
        return await call, None
    except grpc.aio.AioRpcError as error:
        return None, fields(error) if reason(error) == "FIELD_INVALID" else OTHERWISE[reason(error)]


async def everybody_sees(harness: Harness, made: pb.Cluster) -> None:
    """Check that a cluster is shown wherever it should be."""
    assert made.status.reason != "UNSHOWABLE"
    MessageToJson(made)
    for token, parent in (("alice", ""), ("root", "users/*")):
        listed = await harness.clusters.ListClusters(
            service_pb.ListClustersRequest(parent=parent, show_finished=True), metadata=as_(token)
        )
        MessageToJson(listed)
        assert made.uid in [cluster.uid for cluster in listed.clusters]
        watch = harness.clusters.WatchClusters(
            # by its name, since it may have ended already
            service_pb.WatchClustersRequest(parent=parent, clusters=[made.uid]),
            metadata=as_(token),
        )
        seen = set()
        while not (told := await watch.read()).HasField("bookmark"):
            MessageToJson(told)
            seen.add(told.event.cluster.uid)
        watch.cancel()
        assert made.uid in seen
    await harness.clusters.StopCluster(
        service_pb.StopClusterRequest(name=made.name), metadata=as_("alice")
    )
    wait = service_pb.WaitClusterRequest(name=made.name, states=[pb.CLUSTER_STATE_STOPPED])
    stopped = await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    assert stopped.status.state == pb.CLUSTER_STATE_STOPPED
    assert stopped.status.reason in ("STOP_REQUESTED", "MAX_LIFETIME", "NOT_KEPT_ALIVE")
    MessageToJson(stopped)
    await harness.store.transact(lambda tx: tx.purge_cluster(made.uid))


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """An event loop that lasts over many examples."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def served(runner: asyncio.Runner) -> Iterator[Harness]:
    """A server whose administrator has thought of no bounds."""
    harness = Harness(offers=OpenOffers())
    runner.run(harness.start())
    yield harness
    runner.run(harness.stop())


many = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@many
@given(changed=changes(service_pb.CreateClusterRequest))
def test_a_creation_is_refused_by_name_or_shown(
    runner: asyncio.Runner, served: Harness, changed: list[tuple[tuple[str, ...], Any]]
) -> None:
    async def attempt() -> None:
        request = create("")
        for path, value in changed:
            put(request, path, value)
        request.validate_only = False
        made, told = await refusal(served.clusters.CreateCluster(request, metadata=as_("alice")))
        if told is None:
            await everybody_sees(served, made)
        else:
            assert not told or named(told, changed), (told, changed)

    runner.run(attempt())


@many
@given(changed=changes(service_pb.UpdateClusterRequest))
def test_an_update_is_refused_by_name_or_shown(
    runner: asyncio.Runner, served: Harness, changed: list[tuple[tuple[str, ...], Any]]
) -> None:
    async def attempt() -> None:
        made = await served.clusters.CreateCluster(create(""), metadata=as_("alice"))
        request = service_pb.UpdateClusterRequest()
        request.update_mask.paths.extend(["labels", "spec.lifecycle", "spec.worker_groups"])
        for path, value in changed:
            if path[0] == "cluster":
                put(request, path, value)
        request.cluster.name = made.name
        updated, told = await refusal(served.clusters.UpdateCluster(request, metadata=as_("alice")))
        assert told is None or named(told, changed), (told, changed)
        await everybody_sees(served, updated or made)

    runner.run(attempt())


ASKING: dict[str, tuple[str, type[Message]]] = {
    "GetCluster": ("clusters", service_pb.GetClusterRequest),
    "ListClusters": ("clusters", service_pb.ListClustersRequest),
    "StopCluster": ("clusters", service_pb.StopClusterRequest),
    "KeepAlive": ("clusters", service_pb.KeepAliveRequest),
    "WaitCluster": ("clusters", service_pb.WaitClusterRequest),
    "ListEvents": ("clusters", service_pb.ListEventsRequest),
    "WatchClusters": ("clusters", service_pb.WatchClustersRequest),
    "StreamLogs": ("clusters", service_pb.StreamLogsRequest),
    "CreateToken": ("credentials", credential_pb.CreateTokenRequest),
    "ListTokens": ("credentials", credential_pb.ListTokensRequest),
    "RevokeToken": ("credentials", credential_pb.RevokeTokenRequest),
    "GenerateClientCertificate": ("credentials", credential_pb.GenerateClientCertificateRequest),
    "CreateDashboardTicket": ("credentials", credential_pb.CreateDashboardTicketRequest),
    "CreateSession": ("credentials", credential_pb.CreateSessionRequest),
    "EndSession": ("credentials", credential_pb.EndSessionRequest),
}


@pytest.mark.parametrize("method", ASKING)
def test_what_is_asked_is_refused_by_name_or_answered_in_json_too(
    runner: asyncio.Runner, served: Harness, method: str
) -> None:
    service, kind = ASKING[method]

    @settings(max_examples=60, deadline=None)
    @given(changed=changes(kind))
    def each(changed: list[tuple[tuple[str, ...], Any]]) -> None:
        async def attempt() -> None:
            request: Any = kind()
            for name in ("name", "parent"):
                if name in kind.DESCRIPTOR.fields_by_name and method not in (
                    "ListClusters",
                    "WatchClusters",
                ):
                    setattr(request, name, "users/alice/clusters/asked")
            for path, value in changed:
                put(request, path, value)
            if method == "WaitCluster":
                request.states.append(pb.CLUSTER_STATE_CREATING)
                request.timeout.seconds, request.timeout.nanos = (
                    min(request.timeout.seconds, 0),
                    min(request.timeout.nanos, 1),
                )
                request.timeout.nanos = request.timeout.nanos or 1
            call = getattr(getattr(served, service), method)(request, metadata=as_("alice"))
            streaming = method in ("WatchClusters", "StreamLogs")
            answer, told = await refusal(call.read() if streaming else call)
            if streaming:
                call.cancel()
            assert not told or named(told, changed), (told, changed)
            if isinstance(answer, Message):
                MessageToJson(answer)

        runner.run(attempt())

    async def begin() -> None:
        await served.clusters.CreateCluster(create("asked"), metadata=as_("alice"))

    runner.run(begin())
    each()


async def test_an_end_beyond_the_year_9999_is_refused_where_it_is_asked_for() -> None:
    """JSON of protobuf tells no later instants."""
    harness = Harness(offers=OpenOffers())
    # it has five years to go
    harness.ahead_ms = messages.LAST_AT - harness.now_ms() - 5 * 365 * 86_400_000
    await harness.start()
    try:
        request = create("late")
        request.cluster.spec.lifecycle.max_lifetime.seconds = 9 * 365 * 86_400
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.clusters.CreateCluster(request, metadata=as_("alice"))
        assert fields(refused.value) == {"cluster.spec.lifecycle"}
        harness.ahead_ms += int(4.5 * 365 * 86_400_000)  # half a year is left
        token = credential_pb.CreateTokenRequest()
        token.ttl.seconds = 365 * 86_400
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await harness.credentials.CreateToken(token, metadata=as_("alice"))
        assert fields(refused.value) == {"ttl"}
        assert not (
            await harness.credentials.ListTokens(
                credential_pb.ListTokensRequest(), metadata=as_("alice")
            )
        ).tokens
        await harness.clusters.CreateCluster(create("late"), metadata=as_("alice"))
    finally:
        await harness.stop()
