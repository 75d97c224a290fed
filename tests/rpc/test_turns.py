"""Nothing that a caller sends holds the server's event loop for long, neither the worst that is right nor the worst that is wrong.

Measured is the time of the loop's own thread: what the machine gives to others does not count.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.struct_pb2 import Struct

from gateway.server.core.model import GroupStatus, Scheduler, State
from gateway.server.rpc.requests import MAX_MESSAGE_BYTES
from tests.rpc.harness import Harness, as_
from tests.rpc.test_bounds import files_with_services
from tests.rpc.turns import Served, field

LONGEST_S = 0.05
METHODS = [method for file in files_with_services() for service in file.services_by_name.values() for method in service.methods]
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.containing_service.name}.{method.name}")
FULL_BYTES = MAX_MESSAGE_BYTES - 512
TEXT = FieldDescriptor.CPPTYPE_STRING
MESSAGE = FieldDescriptor.CPPTYPE_MESSAGE
STRUCT_FIELDS = Struct.DESCRIPTOR.fields_by_name["fields"]
DEEP = 6  # messages in messages that are looked into for fields to fill; Struct goes on for ever


def ways(kind: Descriptor, depth: int = 0) -> Iterator[tuple[list[FieldDescriptor], FieldDescriptor]]:
    """Yield every field of a message that can be repeated or long, with the fields that lead to it."""
    for one in kind.fields:
        if one.is_repeated or one.cpp_type == TEXT:
            yield [], one
        if one.message_type is not None and depth < DEEP:
            for way, last in ways(one.message_type, depth + 1):
                yield [one, *way], last


def filled(way: list[FieldDescriptor], last: FieldDescriptor, size: int) -> bytes:
    """Return a message whose one field is filled with as much as fits: many small entries, each another, or one long text."""
    if not last.is_repeated:
        body = field(last.number, b"x" * size)
    elif last.cpp_type not in (TEXT, MESSAGE):
        body = field(last.number, b"\x01" * size)  # packed numbers
    else:
        parts, used = [], 0
        for number in itertools.count():
            text = b"%x" % number
            entry = field(
                last.number, text if last.cpp_type == TEXT else field(1, text) if last.message_type.GetOptions().map_entry else b""
            )
            if used + len(entry) > size:
                break
            parts.append(entry)
            used += len(entry)
        body = b"".join(parts)
    for one in reversed(way):
        # The key of an entry, where there is one: a short text.
        body = field(one.number, (field(1, b"a") if one.message_type.GetOptions().map_entry else b"") + body)
    return body


def nested(kind: Descriptor) -> Iterator[bytes]:
    """Yield messages with values in values, as deep and as wide as protobuf reads them."""
    if kind.full_name not in ("daskgateway.v1.CreateClusterRequest", "daskgateway.v1.UpdateClusterRequest"):
        return
    number = 3 if kind.name == "CreateClusterRequest" else 1
    deep = b""
    for _ in range(25):
        deep = field(1, field(1, b"a") + field(2, field(5, deep)))
    yield field(number, field(10, field(2, deep)))
    wide = field(1, field(1, b"a") + field(2, field(6, field(1, b"") * (FULL_BYTES // 2))))
    yield field(number, field(10, field(2, wide)))
    groups = b"".join(field(3, field(1, b"g%d" % n) + field(2, field(1, filled([], STRUCT_FIELDS, 4000)))) for n in range(200))
    yield field(number, field(10, groups))


def worst_wrong(kind: Descriptor) -> Iterator[bytes]:
    """Yield messages of a megabyte, each filled in another field."""
    seen: set[tuple[str, ...]] = set()
    for way, last in ways(kind):
        names = tuple(one.full_name for one in [*way[-1:], last])
        if names not in seen:  # a Struct in a Struct is one again
            seen.add(names)
            yield filled(way, last, FULL_BYTES - 200)
    yield b"\x78\x01" * (FULL_BYTES // 2)  # a field that nobody knows
    yield from nested(kind)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Served, Harness, pb.Cluster]]:
    """A server on a loop of its own, with a cluster that had many workers."""
    thread = Served()
    harness = Harness(max_calls=5000, max_streams_per_user=5000)
    thread.run(harness.start())

    async def cluster() -> pb.Cluster:
        made = await harness.clusters.CreateCluster(service_pb.CreateClusterRequest(cluster_id="etl"), metadata=as_("alice"))

        def grown(tx: Any) -> None:
            found = tx.cluster(made.uid)
            groups = {f"g{n}": GroupStatus(next_sequence=100_000) for n in range(16)} | {"default": GroupStatus(next_sequence=100_000)}
            tx.put_cluster(replace(found, groups=groups, state=State.ACTIVE, scheduler=Scheduler(address="tls://127.0.0.1:1")))

        await harness.store.transact(grown)
        return made

    made = thread.run(cluster())
    yield thread, harness, made
    thread.run(harness.stop())
    thread.close()


def right(method: MethodDescriptor, cluster: pb.Cluster) -> Any:
    """Return a request of a method that is right; bytes of another behind its own change it."""
    request: Any = message_factory.GetMessageClass(method.input_type)()
    known = method.input_type.fields_by_name
    if method.name == "UpdateCluster":
        request.cluster.name = cluster.name
        request.update_mask.paths.extend(["labels", "spec.lifecycle", "spec.worker_groups"])
    elif method.name == "Connect":
        request.snapshot, request.scheduler_address = True, "tls://127.0.0.1:1"
    elif method.name == "ServerReflectionInfo":
        request.list_services = "x"
    elif "name" in known:
        request.name = cluster.name
    elif "parent" in known and method.name == "ListEvents":
        request.parent = cluster.name
    if "public_key" in known:
        request.public_key = "-----BEGIN PUBLIC KEY-----"
    if "timeout" in known:
        request.timeout.nanos = 1
    return request


def metadata_of(method: MethodDescriptor, uid: str) -> Any:
    """Return what lets a caller in."""
    service = method.containing_service.name
    if service == "AgentService":
        return (("authorization", "Bearer agent"), ("dgw-uid", uid))
    return as_("edge" if service in ("RouteService", "AccessService") else "alice")


def send(channel: grpc.Channel, method: MethodDescriptor, raw: bytes, uid: str) -> str:
    """Send bytes as a request and wait for an answer, or its first message; return the code."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    metadata = metadata_of(method, uid)
    try:
        if method.client_streaming:
            answers = channel.stream_stream(path)(iter([raw]), metadata=metadata, timeout=20)
            for _ in zip(answers, range(2)):
                pass
            answers.cancel()
        elif method.server_streaming:
            stream = channel.unary_stream(path)(raw, metadata=metadata, timeout=20)
            next(iter(stream), None)
            stream.cancel()
        else:
            channel.unary_unary(path)(raw, metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        return str(error.code().name)  # type: ignore[attr-defined]
    return "OK"


@each_method
def test_the_worst_that_is_wrong_holds_nobody_up(served: tuple[Served, Harness, pb.Cluster], method: MethodDescriptor) -> None:
    thread, harness, cluster = served
    slow = {}
    with grpc.insecure_channel(f"127.0.0.1:{harness.port}") as channel:
        begins = right(method, cluster).SerializeToString()
        for number, raw in enumerate(worst_wrong(method.input_type)):
            with thread.longest_turn() as longest:
                code = send(channel, method, begins + raw, cluster.uid)
                if longest() > LONGEST_S:
                    slow[number, code, raw[:40]] = round(longest(), 3)
    assert slow == {}
