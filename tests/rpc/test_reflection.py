"""What the API consists of, as the server tells it to whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2 as pb

from gateway.server.rpc import reflection
from tests.rpc.harness import Harness

NAMES = pytest.mark.parametrize("name", reflection.NAMES)
INVALID, NOT_FOUND = 3, 5  # google.rpc.Code


class Asking:
    """A stream of questions to one of the two."""

    def __init__(self, harness: Harness, name: str) -> None:
        ask: Any = harness.channel.stream_stream(
            f"/{name}/ServerReflectionInfo",
            pb.ServerReflectionRequest.SerializeToString,
            pb.ServerReflectionResponse.FromString,
        )
        self._stream = ask()

    async def ask(self, **question: Any) -> pb.ServerReflectionResponse:
        request = pb.ServerReflectionRequest(**question)
        await self._stream.write(request)
        answer: pb.ServerReflectionResponse = await self._stream.read()
        assert answer.original_request == request
        return answer

    def close(self) -> None:
        self._stream.cancel()


@pytest.fixture
async def asking(harness: Harness, name: str) -> AsyncIterator[Asking]:
    asking = Asking(harness, name)
    yield asking
    asking.close()


def files(answer: pb.ServerReflectionResponse) -> dict[str, FileDescriptorProto]:
    """Return the files of an answer by their names."""
    raw = answer.file_descriptor_response.file_descriptor_proto
    found = [FileDescriptorProto.FromString(one) for one in raw]
    return {file.name: file for file in found}


def pool_of(found: dict[str, FileDescriptorProto]) -> DescriptorPool:
    """Return a pool of files, each after what it imports."""
    pool, added = DescriptorPool(), set[str]()

    def add(file: FileDescriptorProto) -> None:
        for other in file.dependency:
            add(found[other])
        if file.name not in added:
            added.add(file.name)
            pool.Add(file)

    for file in found.values():
        add(file)
    return pool


@NAMES
async def test_every_service_that_is_listed_is_described_with_all_it_needs(
    asking: Asking, name: str
) -> None:
    listed = await asking.ask(list_services="*")
    services = {service.name for service in listed.list_services_response.service}
    assert {
        "daskgateway.v1.ClusterService",
        "daskgateway.v1.CredentialService",
        "grpc.health.v1.Health",
        *reflection.NAMES,
    } == services
    for service in services:
        found = files(await asking.ask(file_containing_symbol=service))
        described = pool_of(found).FindServiceByName(service)
        assert described.methods, service


@NAMES
async def test_comments_are_told(asking: Asking, name: str) -> None:
    found = files(await asking.ask(file_containing_symbol="daskgateway.v1.ClusterService"))
    places = found["daskgateway/v1/cluster_service.proto"].source_code_info.location
    told = " ".join(place.leading_comments for place in places)
    assert "Accepts a cluster and returns it" in told


@NAMES
@pytest.mark.parametrize(
    "symbol",
    [
        "daskgateway.v1.ClusterService.WaitCluster",
        "daskgateway.v1.Cluster.spec",
        "daskgateway.v1.Cluster.LabelsEntry",
        "daskgateway.v1.CLUSTER_STATE_ACTIVE",
        "daskgateway.v1.ErrorReason",
        "daskgateway.v1.Reason",
        "daskgateway.v1.WorkerGroup.size",
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest.FieldViolation",
        "google.protobuf.Struct",
        "google.protobuf.FieldMask",
    ],
)
async def test_names_of_every_kind_are_found(asking: Asking, name: str, symbol: str) -> None:
    found = files(await asking.ask(file_containing_symbol=symbol))
    # Python's pool knows no methods by their names
    place = symbol.removesuffix(".WaitCluster")
    assert pool_of(found).FindFileContainingSymbol(place).name == next(iter(found))
    again = files(await asking.ask(file_by_filename=next(iter(found))))
    assert again == found


@NAMES
async def test_what_is_internal_unknown_or_nothing_is_refused(asking: Asking, name: str) -> None:
    for question in (
        {"file_containing_symbol": "daskgateway.internal.v1.AgentService"},
        {"file_by_filename": "daskgateway/internal/v1/agent.proto"},
        {"file_containing_symbol": "daskgateway.v1.Nothing"},
        {"file_containing_symbol": ""},
        {"file_by_filename": "/etc/passwd"},
        {"file_containing_extension": pb.ExtensionRequest(containing_type="google.rpc.Status")},
        {"all_extension_numbers_of_type": "nothing"},
    ):
        answer = await asking.ask(**question)
        assert answer.error_response.error_code == NOT_FOUND, question
    assert (await asking.ask()).error_response.error_code == INVALID
    numbers = await asking.ask(all_extension_numbers_of_type="google.rpc.Status")
    assert numbers.all_extension_numbers_response.base_type_name == "google.rpc.Status"


def test_the_descriptors_are_those_of_the_stubs() -> None:
    """Reflection tells a file of its own, so that it has comments: it is the same API."""
    from daskgateway.v1 import cluster_pb2, cluster_service_pb2, credential_service_pb2

    told = {file.name: file for file in reflection.public()}
    for module in (cluster_pb2, cluster_service_pb2, credential_service_pb2):
        described = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        file = told[module.DESCRIPTOR.name]
        file.ClearField("source_code_info")
        for message in file.message_type:
            _forget_json_names(message)
        assert file == described


def _forget_json_names(message: object) -> None:
    for field in message.field:  # type: ignore[attr-defined]
        field.ClearField("json_name")
    for nested in message.nested_type:  # type: ignore[attr-defined]
        _forget_json_names(nested)
