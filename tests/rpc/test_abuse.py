"""Whatever is sent: one clear, typed error, never INTERNAL; nothing is changed and nothing leaks.
Over every RPC there is."""

from __future__ import annotations

import asyncio
import pathlib
import random
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.server.rpc.bounds import MAX_BYTES
from gateway.server.rpc.limits import MAX_OPEN_STREAMS_PER_ADDRESS, MAX_STREAMS_PER_AGENT
from gateway.server.store.sqlite.store import SqliteStore
from gateway.server.usecases.paging import encode_token
from gateway.wire import SIGN_IN_OPTIONS
from tests.rpc.harness import Harness, PretendAgent, as_
from tests.rpc.random_messages import fill
from tests.rpc.test_clusters import active, create, details, fields, reason, trailers_of

METHODS = [
    method
    for file in (service_pb, credential_pb)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
EXPECTED = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
}
TRIES = 150
GET = next(method for method in METHODS if method.name == "GetCluster")
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method.name))


def call(
    harness: Harness,
    method: MethodDescriptor,
    raw: bytes,
    metadata: Any,
    timeout: float | None = None,
) -> Any:
    """Begin a call with bytes as its request."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    make = harness.channel.unary_stream if method.server_streaming else harness.channel.unary_unary
    return make(path, None, None)(raw, metadata=metadata, timeout=timeout)


async def outcome(begun: Any, method: MethodDescriptor) -> tuple[str, grpc.aio.AioRpcError | None]:
    """Return the code of a call, and its error; a stream is ended after its first message."""
    try:
        if method.server_streaming:
            await begun.read()
            begun.cancel()
        else:
            await begun
    except grpc.aio.AioRpcError as error:
        return error.code().name, error
    return "OK", None


@each_method
async def test_no_message_breaks_the_server(harness: Harness, method: MethodDescriptor) -> None:
    await active(harness)
    kind = message_factory.GetMessageClass(method.input_type)
    for seed in range(TRIES):
        message: Any = fill(kind(), random.Random(seed))
        if "timeout" in method.input_type.fields_by_name:
            message.timeout.Clear()
        if "follow" in method.input_type.fields_by_name:
            message.follow = False
        code, error = await outcome(
            call(harness, method, message.SerializeToString(), as_("alice"), timeout=20), method
        )
        assert code in EXPECTED, f"seed {seed}: {error}"
        if error is not None:
            assert details(error)["ErrorInfo"].reason, f"seed {seed}"


@each_method
@pytest.mark.parametrize(
    "raw", [b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", b"\x0f"], ids=["junk", "length", "type"]
)
async def test_what_is_no_message_is_an_invalid_argument(
    harness: Harness, method: MethodDescriptor, raw: bytes
) -> None:
    code, error = await outcome(call(harness, method, raw, as_("alice"), timeout=20), method)
    assert code == "INVALID_ARGUMENT"
    assert error is not None
    assert reason(error) == "FIELD_INVALID"
    assert fields(error) == {"request"}


@each_method
async def test_a_body_that_is_too_large_is_refused(
    harness: Harness, method: MethodDescriptor
) -> None:
    code, error = await outcome(
        call(harness, method, b"\x0a" * (1024 * 1024 + 1), as_("alice"), timeout=20), method
    )
    assert code == "RESOURCE_EXHAUSTED"
    assert error is not None
    assert reason(error) == "REQUEST_TOO_LARGE"
    assert fields(error) == {"request"}
    assert f"at most {MAX_BYTES} bytes" in (error.details() or "")


CREDENTIALS: dict[str, tuple[tuple[str, str], ...]] = {
    "none": (),
    "empty": (("authorization", ""),),
    "wrong": as_("mallory"),
    "scheme": (("authorization", "Digest x"),),
    "bare": (("authorization", "Bearer"),),
    "long": as_("x" * 17_000),
    "agent": as_("agent"),
    "edge": as_("edge"),
}


@pytest.mark.parametrize(
    "method",
    [method for method in METHODS if not SIGN_IN_OPTIONS.endswith(f"/{method.name}")],
    ids=lambda method: str(method.name),
)
@pytest.mark.parametrize("credentials", CREDENTIALS)
async def test_nobody_is_let_in_who_proves_nothing(
    harness: Harness, method: MethodDescriptor, credentials: str
) -> None:
    before = harness.store.view.revision
    code, error = await outcome(
        call(harness, method, b"", CREDENTIALS[credentials], timeout=20), method
    )
    assert code == "UNAUTHENTICATED"
    assert error is not None
    assert reason(error) == "CREDENTIALS_INVALID"
    assert harness.store.view.revision == before


NAMED = [
    method
    for method in METHODS
    if {"name", "parent", "cluster"} & set(method.input_type.fields_by_name)
]


def request_about(method: MethodDescriptor, name: str) -> bytes:
    """Return a valid request of a method about one cluster."""
    message: Any = message_factory.GetMessageClass(method.input_type)()
    if "cluster" in method.input_type.fields_by_name and method.name == "UpdateCluster":
        message.cluster.name = name
        message.cluster.labels["a"] = "b"
        message.update_mask.paths.append("labels")
    elif "name" in method.input_type.fields_by_name:
        message.name = name
    else:
        message.parent = name
    if "public_key" in method.input_type.fields_by_name:
        message.public_key = "-----BEGIN PUBLIC KEY-----"
    return bytes(message.SerializeToString())


@pytest.mark.parametrize(
    "method",
    [m for m in NAMED if m.name not in ("CreateCluster", "ListClusters", "WatchClusters")],
    ids=lambda m: m.name,
)
async def test_anothers_cluster_and_none_are_the_same_to_the_byte(
    harness: Harness, method: MethodDescriptor
) -> None:
    cluster, _ = await active(harness)
    answers: list[tuple[Any, ...]] = []
    for name in (
        cluster.name,
        f"users/alice/clusters/{cluster.uid}",
        "users/alice/clusters/nothing",
    ):
        code, error = await outcome(
            call(harness, method, request_about(method, name), as_("bob"), timeout=20), method
        )
        assert error is not None
        answers.append((code, error.details(), trailers_of(error)["grpc-status-details-bin"]))
    assert answers[0][0] == "PERMISSION_DENIED"
    assert answers[0] == answers[1] == answers[2]
    uid = f"users/bob/clusters/{cluster.uid}"  # as if it were one's own
    none = f"users/bob/clusters/c{'a' * 20}"
    first, second = [
        await outcome(
            call(harness, method, request_about(method, name), as_("bob"), timeout=20), method
        )
        for name in (uid, none)
    ]
    assert first[0] == second[0] == "NOT_FOUND"
    assert harness.store.view.cluster(cluster.uid).labels == {}


async def test_a_page_token_of_anothers_query_shows_nothing_of_it(harness: Harness) -> None:
    for number in range(3):
        await harness.clusters.CreateCluster(create(f"a{number}"), metadata=as_("alice"))
    page = await harness.clusters.ListClusters(
        service_pb.ListClustersRequest(page_size=1), metadata=as_("alice")
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.clusters.ListClusters(
            service_pb.ListClustersRequest(page_token=page.next_page_token), metadata=as_("bob")
        )
    assert fields(refused.value) == {"page_token"}


@pytest.mark.parametrize("forged", [10**30, -1, "\ud800", "x" * 1000, 1.5, None, {}])
async def test_a_forged_page_token_is_an_invalid_argument(
    tmp_path: pathlib.Path, forged: object
) -> None:
    harness = Harness(store=SqliteStore(tmp_path / "gateway.db"))
    await harness.start()
    try:
        cluster = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
        for token in (
            encode_token([cluster.uid, forged]),
            encode_token([forged, "x"]),
            encode_token([1, forged]),
        ):
            for call in (
                harness.clusters.ListEvents(
                    service_pb.ListEventsRequest(parent=cluster.name, page_token=token),
                    metadata=as_("alice"),
                ),
                harness.clusters.ListClusters(
                    service_pb.ListClustersRequest(page_token=token), metadata=as_("alice")
                ),
                harness.credentials.ListTokens(
                    credential_pb.ListTokensRequest(page_token=token), metadata=as_("alice")
                ),
            ):
                found: Any = await asyncio.gather(call, return_exceptions=True)
                (error,) = found
                # what looks like a token of this query may be one
                if isinstance(error, grpc.aio.AioRpcError):
                    assert fields(error) == {"page_token"}, error.details()
    finally:
        await harness.stop()


async def test_one_user_who_waits_for_much_keeps_nobody_out() -> None:
    """A wait lasts for a minute: as many as there may be calls would close the gateway to
    everybody."""
    harness = Harness(max_calls=20, max_streams_per_user=10)
    await harness.start()
    try:
        cluster = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
        wait = service_pb.WaitClusterRequest(name=cluster.name, states=[pb.CLUSTER_STATE_FAILED])
        wait.timeout.seconds = 30
        waiting = [
            asyncio.ensure_future(harness.clusters.WaitCluster(wait, metadata=as_("alice")))
            for _ in range(25)
        ]
        done: set[Any] = set()
        async with asyncio.timeout(20):
            while len(done) < 15:
                done, _ = await asyncio.wait(
                    waiting,
                    return_when=asyncio.FIRST_COMPLETED if not done else asyncio.ALL_COMPLETED,
                    timeout=1,
                )
        refused = [one.exception() for one in done]
        assert {reason(error) for error in refused} == {"OVERLOADED"}
        await harness.clusters.CreateCluster(create("b"), metadata=as_("bob"))
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        await harness.stop()


async def test_an_agents_token_opens_no_more_streams_than_an_agent_needs(harness: Harness) -> None:
    """It is in the hands of its cluster's user."""
    cluster, agent = await active(harness)
    more = [PretendAgent(harness, cluster.uid) for _ in range(MAX_STREAMS_PER_AGENT - 1)]
    for one in more:
        await one.hello()
        await one.directive()
    beyond = PretendAgent(harness, cluster.uid)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await beyond.directive()
    assert reason(refused.value) == "OVERLOADED"
    for one in [agent, *more]:
        one.call.cancel()


async def test_who_does_not_sign_in_cannot_use_up_the_streams(harness: Harness) -> None:
    stub = health_pb2_grpc.HealthStub(harness.channel)
    watches = [
        stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(MAX_OPEN_STREAMS_PER_ADDRESS)
    ]
    for watch in watches:
        await watch.read()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Watch(health_pb2.HealthCheckRequest()).read()
    assert reason(refused.value) == "OVERLOADED"
    mine = harness.clusters.WatchClusters(service_pb.WatchClustersRequest(), metadata=as_("alice"))
    await mine.read()
    for watch in [mine, *watches]:
        watch.cancel()
