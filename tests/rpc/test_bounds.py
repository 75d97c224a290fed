"""Every field of a request that can be repeated has a bound, and what is beyond is refused by name
before anything is made of it."""

from __future__ import annotations

import gc
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import daskgateway
import grpc
import pytest
from daskgateway.internal.v1 import agent_pb2
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gateway.server.rpc import bounds
from tests.rpc.harness import Harness, PretendAgent, as_
from tests.rpc.test_clusters import active, create, fields, reason
from tests.rpc.turns import field


def files_with_services() -> list[FileDescriptor]:
    """Return the files of every service that the server answers."""
    modules = [
        name
        for _, name, _ in pkgutil.walk_packages(daskgateway.__path__, "daskgateway.")
        if name.endswith("_pb2")
    ]
    found = [importlib.import_module(name).DESCRIPTOR for name in modules]
    return [
        file
        for file in (*found, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
        if file.services_by_name
    ]


def requests() -> list[Descriptor]:
    """Return the kind of every request there is."""
    return [
        m.input_type
        for file in files_with_services()
        for service in file.services_by_name.values()
        for m in service.methods
    ]


def reachable() -> dict[str, Descriptor]:
    """Return every kind of message that a request may hold, by its name."""
    found: dict[str, Descriptor] = {}
    waiting = requests()
    while waiting:
        kind = waiting.pop()
        if kind.full_name not in found:
            found[kind.full_name] = kind
            waiting += [one.message_type for one in kind.fields if one.message_type is not None]
    return found


def repeated() -> Iterator[FieldDescriptor]:
    """Yield every field that can be repeated."""
    for kind in reachable().values():
        yield from (one for one in kind.fields if one.is_repeated)


def test_every_field_that_can_be_repeated_has_a_bound_and_no_bound_is_of_a_field_that_is_gone() -> (
    None
):
    assert {one.full_name for one in repeated()} == set(bounds.COUNTS)


def test_other_bounds_are_of_what_there_is() -> None:
    texts = {
        one.full_name
        for kind in reachable().values()
        for one in kind.fields
        if one.cpp_type == FieldDescriptor.CPPTYPE_STRING
    }
    assert texts.issuperset(bounds.LENGTHS)
    assert {kind.full_name for kind in requests()}.issuperset(bounds.ENTRIES)


def test_a_field_without_a_bound_may_hold_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {name: count for name, count in bounds.COUNTS.items() if not name.endswith(".states")}
    monkeypatch.setattr(bounds, "COUNTS", without)
    bounds._plans.cache_clear()
    try:
        violation = bounds.excess(service_pb.ListClustersRequest(states=[1]))  # type: ignore[list-item]
        assert violation is not None
        assert violation.field == "states"
    finally:
        bounds._plans.cache_clear()


def fill(holder: Any, one: FieldDescriptor, count: int) -> None:
    """Put so many entries into a repeated field."""
    held = getattr(holder, one.name)
    for number in range(count):
        if one.message_type is not None and one.message_type.GetOptions().map_entry:
            value = one.message_type.fields_by_name["value"]
            if value.message_type is not None:
                held[str(number)].SetInParent()
            else:
                held[str(number)] = "x" if value.cpp_type == FieldDescriptor.CPPTYPE_STRING else 1
        elif one.message_type is not None:
            held.add()
        else:
            held.append("x" if one.cpp_type == FieldDescriptor.CPPTYPE_STRING else 1)


@pytest.mark.parametrize("one", list(repeated()), ids=lambda one: str(one.full_name))
def test_as_many_as_the_bound_are_within_and_one_more_is_not(
    one: FieldDescriptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_ENTRIES", 10**9)
    monkeypatch.setattr(bounds, "ENTRIES", {})
    holder = message_factory.GetMessageClass(one.containing_type)()  # type: ignore[arg-type]
    fill(holder, one, bounds.COUNTS[one.full_name])
    assert bounds.excess(holder) is None
    fill(holder, one, bounds.COUNTS[one.full_name] + 1)
    violation = bounds.excess(holder)
    assert violation is not None
    assert f"at most {bounds.COUNTS[one.full_name]} entries" in violation.description


@pytest.mark.parametrize("kind", requests(), ids=lambda kind: str(kind.full_name))
def test_long_texts_are_beyond(kind: Descriptor) -> None:
    for one in kind.fields:
        if one.cpp_type != FieldDescriptor.CPPTYPE_STRING or one.is_repeated:
            continue
        message: Any = message_factory.GetMessageClass(kind)()
        most = bounds.LENGTHS.get(one.full_name, bounds.MAX_LENGTH)
        setattr(
            message, one.name, "x" * most if one.type != FieldDescriptor.TYPE_BYTES else b"x" * most
        )
        assert bounds.excess(message) is None
        setattr(
            message,
            one.name,
            "x" * (most + 1) if one.type != FieldDescriptor.TYPE_BYTES else b"x" * (most + 1),
        )
        violation = bounds.excess(message)
        assert violation is not None
        assert violation.field == one.name


def deep(levels: int) -> Struct:
    """Return mappings in mappings."""
    struct = Struct(fields={"a": Value(bool_value=True)})
    for _ in range(levels):
        struct = Struct(fields={"a": Value(struct_value=struct)})
    return struct


def wide(count: int) -> Struct:
    """Return lists in lists: each few, together many."""
    inner = Value(list_value={"values": [Value(number_value=n) for n in range(100)]})  # type: ignore[arg-type]
    return Struct(fields={f"o{n}": inner for n in range(count)})


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        (deep(30), "cluster.spec.options.a", "nested"),
        (wide(200), "cluster.spec.options.o", "together"),
        (Struct(fields={"x" * 2000: Value(bool_value=True)}), "cluster.spec.options", "keys"),
        (
            Struct(fields={"memory": Value(string_value="x" * 70_000)}),
            "cluster.spec.options.memory",
            "characters",
        ),
    ],
    ids=["deep", "wide", "key", "text"],
)
async def test_what_is_beyond_is_refused_by_the_name_that_people_write(
    harness: Harness, options: Struct, field: str, words: str
) -> None:
    request = create()
    request.cluster.spec.options.CopyFrom(options)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    (told,) = fields(refused.value)
    assert told.startswith(field)
    assert words in (refused.value.details() or "")


async def test_entries_of_all_groups_together_are_counted(harness: Harness) -> None:
    request = create()
    for n in range(100):
        request.cluster.spec.worker_groups[f"g{n}"].options.update({f"o{m}": 1 for m in range(60)})
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    (told,) = fields(refused.value)
    assert told.startswith("cluster.spec.worker_groups.g")


async def test_an_agents_report_is_counted_too(harness: Harness) -> None:
    made = await harness.clusters.CreateCluster(create(), metadata=as_("alice"))
    agent = PretendAgent(harness, made.uid)
    await agent.directive()
    await agent.call.write(
        agent_pb2.AgentReport(snapshot=True, versions={str(n): "1" for n in range(300)})
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await agent.directive()
    assert fields(refused.value) == {"versions"}


async def test_it_is_refused_before_anybody_is_asked_who_calls(harness: Harness) -> None:
    request = credential_pb.CreateTokenRequest(scopes=[1] * 100)  # type: ignore[list-item]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await harness.credentials.CreateToken(request, metadata=as_("mallory"))
    assert fields(refused.value) == {"scopes"}


async def test_health_and_reflection_refuse_what_is_no_message_or_too_large_and_answer_the_rest(
    harness: Harness,
) -> None:
    """Whoever asks them has not signed in."""
    check = harness.channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
    told = harness.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", None, None
    )
    for raw, why in (
        (b"\xff" * 50, "FIELD_INVALID"),
        (b"\x0a" + b"\xff" * 3 + b"\x3f" + b"x" * (2**20 + 1), "REQUEST_TOO_LARGE"),
        (health_pb2.HealthCheckRequest(service="x" * 5000).SerializeToString(), "FIELD_INVALID"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await check(raw)
        assert reason(refused.value) == why
        stream = told()  # type: ignore[call-arg]
        await stream.write(raw)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()
        assert reason(refused.value) == why
    assert (
        health_pb2.HealthCheckResponse.FromString(await check(b"")).status
        == health_pb2.HealthCheckResponse.SERVING
    )
    stream = told()  # type: ignore[call-arg]
    await stream.write(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
    answer = reflection_pb2.ServerReflectionResponse.FromString(await stream.read())
    assert "daskgateway.v1.ClusterService" in [
        service.name for service in answer.list_services_response.service
    ]
    stream.cancel()


def test_looking_at_a_small_request_costs_next_to_nothing() -> None:
    import time

    request: Message = service_pb.GetClusterRequest(name="users/alice/clusters/etl")
    began = time.thread_time()
    for _ in range(10_000):
        bounds.excess(request)
    assert (time.thread_time() - began) / 10_000 < 20e-6


def _kept(kind: type[Message]) -> int:
    return sum(isinstance(one, kind) for one in gc.get_objects())


async def _last_of(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
        pass


async def test_what_is_refused_as_too_much_is_kept_by_nobody(harness: Harness) -> None:
    """gRPC keeps a call's end with the call, and each with the other: 500 such reports had taken
    1.9 GB."""
    cluster, agent = await active(harness)
    paths, names = field(2, field(1, b"") * 100_000), field(2, b"") * 100_000
    credentials = {"metadata": (("authorization", "Bearer agent"), ("dgw-uid", cluster.uid))}
    service, internal = "/daskgateway.v1.ClusterService", "/daskgateway.internal.v1.AgentService"
    gc.collect()
    gc.disable()
    try:
        before = [
            _kept(kind)
            for kind in (
                service_pb.UpdateClusterRequest,
                service_pb.StreamLogsRequest,
                agent_pb2.AgentReport,
            )
        ]
        for _ in range(5):
            with pytest.raises(grpc.aio.AioRpcError, match="at most 256 entries"):
                await harness.channel.unary_unary(f"{service}/UpdateCluster")(  # type: ignore[call-arg]
                    paths, metadata=as_("alice")
                )
            with pytest.raises(grpc.aio.AioRpcError, match="at most 10000 entries"):
                await harness.channel.unary_stream(f"{service}/StreamLogs")(  # type: ignore[call-arg]
                    names, metadata=as_("alice")
                ).read()
            call = harness.channel.stream_stream(f"{internal}/Connect")(**credentials)  # type: ignore[arg-type, call-arg]
            await call.write(field(6, b"") * 200_000)
            with pytest.raises(grpc.aio.AioRpcError, match="at most 20000 entries"):
                await _last_of(call)
        after = [
            _kept(kind)
            for kind in (
                service_pb.UpdateClusterRequest,
                service_pb.StreamLogsRequest,
                agent_pb2.AgentReport,
            )
        ]
    finally:
        gc.enable()
    assert after == before
    agent.call.cancel()
