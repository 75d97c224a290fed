"""Nothing that a caller sends holds the server's event loop for long, neither the worst that is
right nor the worst that is wrong.

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

from gateway.server.core.model import Cluster, Event, GroupStatus, Spec, State, Token, WorkerGroup
from gateway.server.rpc.bounds import most_bytes
from tests.rpc.harness import Harness, PretendAgent, as_
from tests.rpc.test_bounds import files_with_services
from tests.rpc.turns import Served, field

LONGEST_S = 0.05
METHODS = [
    method
    for file in files_with_services()
    for service in file.services_by_name.values()
    for method in service.methods
]
each_method = pytest.mark.parametrize(
    "method", METHODS, ids=lambda method: f"{method.containing_service.name}.{method.name}"
)
ROOM_BYTES = 1024  # for what is right in it
TEXT = FieldDescriptor.CPPTYPE_STRING
MESSAGE = FieldDescriptor.CPPTYPE_MESSAGE
STRUCT_FIELDS = Struct.DESCRIPTOR.fields_by_name["fields"]
DEEP = 6  # messages in messages that are looked into for fields to fill; Struct goes on for ever


def ways(
    kind: Descriptor, depth: int = 0
) -> Iterator[tuple[list[FieldDescriptor], FieldDescriptor]]:
    """Yield every field of a message that can be repeated or long, with the fields that lead to
    it."""
    for one in kind.fields:
        if one.is_repeated or one.cpp_type == TEXT:
            yield [], one
        if one.message_type is not None and depth < DEEP:
            for way, last in ways(one.message_type, depth + 1):
                yield [one, *way], last


def filled(way: list[FieldDescriptor], last: FieldDescriptor, size: int) -> bytes:
    """Return a message whose one field is filled with as much as fits: many small entries, each
    another, or one long text."""
    if not last.is_repeated:
        body = field(last.number, b"x" * size)
    elif last.cpp_type not in (TEXT, MESSAGE):
        body = field(last.number, b"\x01" * size)  # packed numbers
    else:
        parts, used = [], 0
        for number in itertools.count():
            text = b"%x" % number
            entry = field(
                last.number,
                text
                if last.cpp_type == TEXT
                else field(1, text)
                if last.message_type.GetOptions().map_entry  # type: ignore[union-attr]
                else b"",
            )
            if used + len(entry) > size:
                break
            parts.append(entry)
            used += len(entry)
        body = b"".join(parts)
    for one in reversed(way):
        # The key of an entry, where there is one: a short text.
        body = field(
            one.number,
            (field(1, b"a") if one.message_type.GetOptions().map_entry else b"") + body,  # type: ignore[union-attr]
        )
    return body


def nested(kind: Descriptor) -> Iterator[bytes]:
    """Yield messages with values in values, as deep and as wide as protobuf reads them."""
    if kind.full_name not in (
        "daskgateway.v1.CreateClusterRequest",
        "daskgateway.v1.UpdateClusterRequest",
    ):
        return
    number = 3 if kind.name == "CreateClusterRequest" else 1
    full = most_bytes(kind) - ROOM_BYTES
    deep = b""
    for _ in range(25):
        deep = field(1, field(1, b"a") + field(2, field(5, deep)))
    yield field(number, field(10, field(2, deep)))
    wide = field(1, field(1, b"a") + field(2, field(6, field(1, b"") * (full // 2))))
    yield field(number, field(10, field(2, wide)))
    groups = b"".join(
        field(3, field(1, b"g%d" % n) + field(2, field(1, filled([], STRUCT_FIELDS, 1000))))
        for n in range(200)
    )
    yield field(number, field(10, groups))


def worst_wrong(kind: Descriptor) -> Iterator[bytes]:
    """Yield messages as large as they may be, each filled in another field."""
    full = most_bytes(kind) - ROOM_BYTES
    seen: set[tuple[str, ...]] = set()
    for way, last in ways(kind):
        names = tuple(one.full_name for one in [*way[-1:], last])
        if names not in seen:  # a Struct in a Struct is one again
            seen.add(names)
            yield filled(way, last, full)
    yield b"\x78\x01" * (full // 2)  # a field that nobody knows
    yield from nested(kind)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Served, Harness]]:
    """A server on a loop of its own."""
    thread = Served()
    harness = Harness(max_calls=5000, max_streams_per_user=5000)
    thread.run(harness.start())
    yield thread, harness
    thread.run(harness.stop())
    thread.close()


@pytest.fixture
def served(server: tuple[Served, Harness]) -> Iterator[tuple[Served, Harness, pb.Cluster]]:
    """The server, and a cluster that has had many workers."""
    thread, harness = server

    async def cluster() -> pb.Cluster:
        made = await harness.clusters.CreateCluster(
            service_pb.CreateClusterRequest(), metadata=as_("alice")
        )
        agent = PretendAgent(harness, made.uid)
        await agent.hello()
        wait = service_pb.WaitClusterRequest(name=made.name, states=[pb.CLUSTER_STATE_ACTIVE])
        made = await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
        agent.call.cancel()

        def grown(tx: Any) -> None:
            groups = {f"g{n}": GroupStatus(next_sequence=100_000) for n in range(15)} | {
                "default": GroupStatus(next_sequence=100_000)
            }
            tx.put_cluster(replace(tx.cluster(made.uid), groups=groups))

        await harness.store.transact(grown)
        return made

    made = thread.run(cluster())
    yield thread, harness, made
    thread.run(harness.store.transact(lambda tx: tx.purge_cluster(made.uid)))


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


def metadata_of(method: MethodDescriptor, uid: str, caller: str) -> Any:
    """Return what lets a caller in."""
    service = method.containing_service.name
    if service == "AgentService":
        return (("authorization", "Bearer agent"), ("dgw-uid", uid))
    return as_("edge" if service in ("RouteService", "AccessService") else caller)


def send(
    channel: grpc.Channel, method: MethodDescriptor, raw: bytes, uid: str, caller: str = "alice"
) -> str:
    """Send bytes as a request and wait for an answer, or its first message; return the code."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    metadata = metadata_of(method, uid, caller)
    try:
        if method.client_streaming:
            answers = channel.stream_stream(path)(iter([raw]), metadata=metadata, timeout=20)  # type: ignore[call-arg]
            for _ in zip(answers, range(2)):
                pass
            answers.cancel()
        elif method.server_streaming:
            stream = channel.unary_stream(path)(raw, metadata=metadata, timeout=20)  # type: ignore[call-arg]
            next(iter(stream), None)
            stream.cancel()
        else:
            channel.unary_unary(path)(raw, metadata=metadata, timeout=20)  # type: ignore[call-arg]
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


@each_method
def test_the_worst_that_is_wrong_holds_nobody_up(
    served: tuple[Served, Harness, pb.Cluster], method: MethodDescriptor
) -> None:
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


def longest_right(method: MethodDescriptor, cluster: pb.Cluster) -> Iterator[Any]:
    """Yield requests that hold as much as is right, or ask for as much as there is."""
    request = right(method, cluster)
    variables = {f"V{n}": "x" * 900 for n in range(60)}
    match method.name:
        case "CreateCluster":
            request.cluster.spec.options.update(
                {"environment": variables, "worker_memory": "1 GiB"}
            )
            _fill_groups(request.cluster)
        case "UpdateCluster":
            _fill_groups(request.cluster)
        case "ListClusters":
            for parent in ("", "users/*"):
                request = service_pb.ListClustersRequest(
                    parent=parent, page_size=1000, show_finished=True
                )
                yield request
        case "WatchClusters":
            yield service_pb.WatchClustersRequest()
            yield service_pb.WatchClustersRequest(
                clusters=[f"users/alice/clusters/c{n}" for n in range(100)]
            )
        case "StreamLogs":
            names = [f"g{n % 16}-{n}" for n in range(9_999)]
            yield service_pb.StreamLogsRequest(name=cluster.name, instances=[*names, "scheduler"])
            yield service_pb.StreamLogsRequest(
                name=cluster.name, instances=names[:256], follow=True
            )
        case "Connect":
            names = [f"g{n % 16}-{n}" for n in range(10_000)]
            request.workers.extend(names)
            request.left.extend(names)
            request.retired.extend(names)
            request.versions.update({str(n): "x" * 4000 for n in range(60)})
        case "ListEvents" | "ListTokens":
            request.page_size = 500
        case "GenerateClientCertificate":
            request.public_key += "x" * 16_000
        case "CheckAccess":
            for n in range(500):
                request.accesses.add(
                    uid=cluster.uid,
                    user=f"user{n}",
                    token_id="x" * 64,
                    stamp="x" * 256,
                    session_id=str(n),
                )
        case "EndSession" if method.containing_service.name == "AccessService":
            request.access.session_id = "x" * 64
    yield request


# What is asked for is not there, in this server that pretends; all else is answered.
ANSWERED = {
    "RevokeToken": ("NOT_FOUND",),
    "RedeemTicket": ("UNAUTHENTICATED",),
    "EndSession": ("INVALID_ARGUMENT", "FAILED_PRECONDITION"),  # a browser's, a caller's
    "RenewSession": ("FAILED_PRECONDITION",),
    "List": ("UNIMPLEMENTED",),
}


def _fill_groups(cluster: pb.Cluster) -> None:
    for n in range(15):
        cluster.spec.worker_groups[f"g{n}"].options.update(
            {"worker_cores": 1, "worker_memory": f"{n + 1} GiB"}
        )
        cluster.spec.worker_groups[f"g{n}"].count = 5000
    for n in range(32):
        cluster.labels[f"{n:063}"] = "x" * 255


@pytest.fixture(scope="module")
def crowd(server: tuple[Served, Harness]) -> None:
    """Many clusters and tokens, none of which was ever shown."""
    thread, harness = server

    def come(tx: Any) -> None:
        spec = Spec("pretend", groups={"default": WorkerGroup()})
        for n in range(1500):
            labels = {f"{m:063}": "x" * 255 for m in range(32 if n % 3 == 0 else 0)}
            uid = "c" + f"{n:020}".translate(str.maketrans("0123456789", "abcdefghij"))
            status = {"default": GroupStatus()}
            tx.put_cluster(
                Cluster(
                    uid,
                    "alice",
                    f"c{n}",
                    spec,
                    labels,
                    State.STOPPED,
                    created_at=1,
                    stopped_at=1,
                    groups=status,
                )
            )
        for n in range(600):
            tx.put_token(
                Token(f"t{n}", "alice", b"hash", "x" * 100, created_at=1, expires_at=2**40)
            )

    thread.run(harness.store.transact(come))


@each_method
@pytest.mark.usefixtures("crowd")
def test_the_worst_that_is_right_holds_nobody_up(
    served: tuple[Served, Harness, pb.Cluster], method: MethodDescriptor
) -> None:
    thread, harness, cluster = served
    events = [Event(cluster.uid, 1, "R", "\u20ac" * 4096) for _ in range(600)]
    thread.run(harness.store.transact(lambda tx: tx.add_events(events)))
    slow, codes = {}, set()
    with grpc.insecure_channel(
        f"127.0.0.1:{harness.port}", (("grpc.max_receive_message_length", 2**24),)
    ) as channel:
        for number, request in enumerate(longest_right(method, cluster)):
            for caller in ("alice", "root"):
                with thread.longest_turn() as longest:
                    code = send(channel, method, request.SerializeToString(), cluster.uid, caller)
                    codes.add(code)
                    if longest() > LONGEST_S:
                        slow[number, caller, code] = round(longest(), 3)
    assert slow == {}
    assert codes & {"OK", *ANSWERED.get(method.name, ())}, codes
