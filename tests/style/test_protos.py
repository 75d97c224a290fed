"""The .proto files: what users generate stubs from is the API alone, and says what each language
needs."""

from __future__ import annotations

import pathlib

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions

from gateway.server.rpc import reflection

ROOT = pathlib.Path(__file__).resolve().parents[2]
PUBLIC = reflection.public()
READS = ("Get", "List", "Watch", "Wait", "Stream", "WhoAmI")


def test_users_generate_stubs_of_the_api_alone() -> None:
    protos = sorted((ROOT / "protos").rglob("*.proto"))
    assert {path.parent for path in protos} == {ROOT / "protos" / "daskgateway" / "v1"}
    assert {path.name for path in protos} == {pathlib.Path(file.name).name for file in PUBLIC}
    for path in protos:
        assert "internal" not in path.read_text(), path
    internal = sorted((ROOT / "protos_internal").rglob("*.proto"))
    assert {path.parent.name for path in internal} == {"v1"}
    assert all("package daskgateway.internal.v1;" in path.read_text() for path in internal)


@pytest.mark.parametrize("file", PUBLIC, ids=lambda file: file.name)
def test_every_language_is_told_where_its_stubs_belong(file: FileDescriptorProto) -> None:
    assert file.options.go_package.endswith("/daskgateway/v1;daskgatewayv1")
    assert file.options.java_package == "io.github.daskgateway.v1"
    assert file.options.java_multiple_files
    assert file.options.csharp_namespace == "DaskGateway.V1"


def test_reads_are_marked_and_nothing_else_is() -> None:
    methods = [method for file in PUBLIC for service in file.service for method in service.method]
    marked = {
        method.name
        for method in methods
        if method.options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    }
    assert marked == {method.name for method in methods if method.name.startswith(READS)}
    assert len(marked) == 10
