"""The RPCs that the client names are those of the protocol."""

from __future__ import annotations

import pathlib
import re

from daskgateway.v1 import cluster_service_pb2, credential_service_pb2
from google.protobuf.descriptor import MethodDescriptor

import gateway.client
from gateway.client.calls import api

SERVICES = [
    cluster_service_pb2.DESCRIPTOR.services_by_name["ClusterService"],
    credential_service_pb2.DESCRIPTOR.services_by_name["CredentialService"],
]
METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for service in SERVICES
    for method in service.methods
}
NAMED = {rpc.path: rpc for rpc in vars(api).values() if isinstance(rpc, api.Rpc)}


def test_every_rpc_of_the_public_services_is_named_once_with_its_messages() -> None:
    assert set(NAMED) == set(METHODS)
    for path, method in METHODS.items():
        rpc = NAMED[path]
        assert (method.input_type, method.output_type) == (
            rpc.request.DESCRIPTOR,
            rpc.answer.DESCRIPTOR,
        ), path
        assert isinstance(rpc, api.Streaming) == method.server_streaming, path


def test_what_a_stream_is_asked_by_http_are_fields_of_its_request() -> None:
    for rpc in NAMED.values():
        if isinstance(rpc, api.Streaming):
            assert set(rpc.parameters) <= set(rpc.request.DESCRIPTOR.fields_by_name), rpc.path


def test_nothing_else_of_the_client_names_an_rpc_or_a_service() -> None:
    names = "|".join(method.name for method in METHODS.values())
    said = re.compile(rf"""["'](/?daskgateway\.v1\.|({names})["'])""")
    home = pathlib.Path(gateway.client.__file__).parent
    found = [
        f"{path.name}: {match[0]}"
        for path in home.rglob("*.py")
        if path.name != "api.py"
        for match in said.finditer(path.read_text())
    ]
    assert found == []
