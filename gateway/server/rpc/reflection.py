"""What the API consists of, told by itself: gRPC's reflection, `v1` and `v1alpha`, with comments.

The two differ in their name alone, so one servicer answers both. What is told is put together once:
the public API as it is described beside the stubs, health, reflection itself, what the API imports,
and what errors carry. Nothing else of this process is told.
"""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from daskgateway.v1 import cluster_service_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2 as pb

V1, V1ALPHA = "grpc.reflection.v1", "grpc.reflection.v1alpha"
NAMES = (f"{V1}.ServerReflection", f"{V1ALPHA}.ServerReflection")
DESCRIPTORS = pathlib.Path(cluster_service_pb2.__file__).with_name("descriptors.binpb")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is told, ready to be sent: whoever asks has not signed in."""

    files: Mapping[str, tuple[bytes, ...]]  # each with all that it needs, itself first
    places: Mapping[str, str]  # the file of each full name


def catalogue() -> Catalogue:
    """Return all that is told."""
    files = {file.name: file for file in public()}
    for other in (
        *(module.DESCRIPTOR for module in (health_pb2, pb, error_details_pb2, status_pb2)),
        *cluster_service_pb2.DESCRIPTOR.dependencies,
    ):
        _add(other, files)
    renamed = _renamed(files[pb.DESCRIPTOR.name])
    files[renamed.name] = renamed
    raw = {name: file.SerializeToString() for name, file in files.items()}
    return Catalogue(
        {name: tuple(raw[one] for one in _with_imports(name, files)) for name in files},
        {name: file.name for file in files.values() for name in _names(file)},
    )


def _with_imports(name: str, files: Mapping[str, FileDescriptorProto]) -> list[str]:
    found, waiting = [name], list(files[name].dependency)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.append(one)
            waiting += files[one].dependency
    return found


def public() -> list[FileDescriptorProto]:
    """Return the files of the public API, with their comments."""
    return list(FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file)


def _add(file: FileDescriptor, files: dict[str, FileDescriptorProto]) -> None:
    """Add a file and what it imports, unless they are there."""
    if file.name not in files:
        files[file.name] = FileDescriptorProto.FromString(file.serialized_pb)
    for other in file.dependencies:
        if other.name not in files:
            _add(other, files)


def _renamed(alpha: FileDescriptorProto) -> FileDescriptorProto:
    """Return reflection's `v1`, out of what is there of `v1alpha`."""
    file = FileDescriptorProto()
    file.CopyFrom(alpha)
    file.ClearField("options")
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = V1
    for field in (field for kind in file.message_type for field in kind.field):
        if field.type_name:  # to set it to nothing would set it
            field.type_name = field.type_name.replace(f".{V1ALPHA}.", f".{V1}.")
    for method in (method for service in file.service for method in service.method):
        method.input_type = method.input_type.replace(f".{V1ALPHA}.", f".{V1}.")
        method.output_type = method.output_type.replace(f".{V1ALPHA}.", f".{V1}.")
    return file


def _names(file: FileDescriptorProto) -> Iterable[str]:
    """Yield every full name that a file defines."""
    begin = f"{file.package}." if file.package else ""
    for message in file.message_type:
        yield from _names_of_message(begin, message)
    for enum in file.enum_type:
        yield from _names_of_enum(begin, enum)
    for service in file.service:
        yield begin + service.name
        yield from (f"{begin}{service.name}.{method.name}" for method in service.method)
    yield from (begin + field.name for field in file.extension)


def _names_of_message(begin: str, message: DescriptorProto) -> Iterable[str]:
    name = begin + message.name
    yield name
    for field in (*message.field, *message.extension):
        yield f"{name}.{field.name}"
    for one in message.oneof_decl:
        yield f"{name}.{one.name}"
    for enum in message.enum_type:
        yield from _names_of_enum(f"{name}.", enum)
    for nested in message.nested_type:
        yield from _names_of_message(f"{name}.", nested)


def _names_of_enum(begin: str, enum: EnumDescriptorProto) -> Iterable[str]:
    yield begin + enum.name
    yield from (begin + value.name for value in enum.value)  # beside their enum, as in C++


class ReflectionServicer:
    """Answers `ServerReflectionInfo` of both."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = sorted((*services, *NAMES))
        self._told = catalogue()

    async def answers(
        self, requests: AsyncIterator[pb.ServerReflectionRequest], context: Any
    ) -> AsyncIterator[pb.ServerReflectionResponse]:
        """Answer each question on a stream."""
        async for request in requests:
            yield self.answer(request)

    def answer(self, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
        """Return the answer to one question."""
        answer = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
        files, places = self._told.files, self._told.places
        asked = request.WhichOneof("message_request")
        wanted = getattr(request, asked) if asked else ""
        if asked is None:
            _refuse(answer, grpc.StatusCode.INVALID_ARGUMENT, "the request asks for nothing")
        elif asked == "list_services":
            answer.list_services_response.service.extend(
                pb.ServiceResponse(name=name) for name in self._services
            )
        elif asked == "file_by_filename" and wanted in files:
            answer.file_descriptor_response.file_descriptor_proto.extend(files[wanted])
        elif asked == "file_containing_symbol" and wanted in places:
            answer.file_descriptor_response.file_descriptor_proto.extend(files[places[wanted]])
        elif asked == "all_extension_numbers_of_type" and wanted in places:
            # nothing that is told extends anything
            answer.all_extension_numbers_response.base_type_name = wanted
        else:
            _refuse(answer, grpc.StatusCode.NOT_FOUND, "there is no such file, name or extension")
        return answer


def _refuse(answer: pb.ServerReflectionResponse, code: grpc.StatusCode, words: str) -> None:
    number: int = code.value[0]
    answer.error_response.error_code = number
    answer.error_response.error_message = words


def handlers(servicer: ReflectionServicer) -> dict[str, Any]:
    """Return the handlers of the service, of whichever name."""
    return {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            servicer.answers,
            request_deserializer=pb.ServerReflectionRequest.FromString,
            response_serializer=pb.ServerReflectionResponse.SerializeToString,
        )
    }
