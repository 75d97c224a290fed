"""What is written of the API by itself: it is whole, and says what the protos say."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from daskgateway.v1 import cluster_pb2, cluster_service_pb2, error_reason_pb2
from google.protobuf import json_format

from gateway.proxy.http import documents
from gateway.proxy.http.bridge import unary_methods
from gateway.proxy.http.connect_streams import streaming_methods
from gateway.server.core import errors
from gateway.server.rpc import reflection
from gateway.wire import CONNECT_CODES
from tests.proxy.served import serving

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPENAPI: Any = json.loads(documents.BESIDE.with_name("openapi.json").read_text())
REFERENCE = documents.BESIDE.with_name("reference.md").read_text()


def references(part: Any) -> Iterator[str]:
    """Yield every reference in a part of the document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for one in part.values():
            yield from references(one)
    elif isinstance(part, list):
        for one in part:
            yield from references(one)


def test_the_document_names_every_call_and_refers_to_what_it_has() -> None:
    methods = {**unary_methods(), **streaming_methods()}
    assert set(OPENAPI["paths"]) == {*methods, "/v1/watch", "/v1/logs"}
    for path, method in methods.items():
        gets = "get" in OPENAPI["paths"][path]
        assert gets == (method.reads and path in unary_methods()), path
        assert OPENAPI["paths"][path]["post"]["description"]
    schemas = OPENAPI["components"]["schemas"]
    for reference in set(references(OPENAPI)):
        assert reference.removeprefix("#/components/schemas/") in schemas
    assert (
        OPENAPI["paths"]["/daskgateway.v1.CredentialService/GetSignInOptions"]["post"]["security"]
        == []
    )
    assert set(schemas["Error"]["properties"]["code"]["enum"]) == {
        name for name, _ in CONNECT_CODES.values()
    }


def test_what_an_answer_holds_is_in_its_schema() -> None:
    cluster = cluster_pb2.Cluster(name="a", revision=7, labels={"a": "b"})
    cluster.spec.options.update({"a": 1})
    cluster.spec.worker_groups["default"].count = 2
    cluster.status.conditions.add(type="x")
    cluster.create_time.GetCurrentTime()
    shown = json_format.MessageToDict(
        cluster_service_pb2.ListClustersResponse(clusters=[cluster]),
        always_print_fields_with_no_presence=True,
    )
    holds(shown, {"$ref": "#/components/schemas/ListClustersResponse"})


def holds(value: Any, schema: Any) -> None:
    """Compare a value with its schema."""
    if "$ref" in schema:
        schema = OPENAPI["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    kind: Any = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }[schema["type"]]
    assert isinstance(value, kind), schema
    if "enum" in schema:
        assert value in schema["enum"]
    for name, one in value.items() if isinstance(value, dict) else ():
        if "properties" in schema:
            holds(one, schema["properties"][name])
        elif "additionalProperties" in schema:
            holds(one, schema["additionalProperties"])
    for one in value if isinstance(value, list) else ():
        holds(one, schema["items"])


def test_the_reference_has_every_part_with_words() -> None:
    for file in reflection.public():
        for service in file.service:
            for method in service.method:
                assert re.search(rf"^### {method.name}\n\n`.*\n\n\w", REFERENCE, re.MULTILINE)
        for message in file.message_type:
            assert f"\n## {message.name}\n" in REFERENCE
            for field in message.field:
                line = rf"^\| `{field.name}` = {field.number} \| [^|]+ \| .*\w.* \|$"
                assert re.search(line, REFERENCE, re.MULTILINE), field.name
        for enum in file.enum_type:
            for value in enum.value:
                assert f"| `{value.name}` = {value.number} |" in REFERENCE


def test_the_page_names_every_reason_with_its_code() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    listed = dict(re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \| ", page, re.MULTILINE))
    reasons = {
        name.removeprefix("ERROR_REASON_") for name in list(error_reason_pb2.ErrorReason.keys())
    }
    assert set(listed) == reasons - {"UNSPECIFIED"}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.ServiceError):
            assert listed[kind.reason] == kind.code, kind


@pytest.mark.parametrize("prefix", ["", "/services/daskgateway"])
async def test_both_are_served_to_whoever_asks_and_linked(
    tmp_path: pathlib.Path, prefix: str
) -> None:
    async with serving(tmp_path, prefix=prefix) as served, aiohttp.ClientSession() as caller:
        async with caller.get(f"{served.address}{prefix}/v1/openapi.json") as answer:
            assert answer.status == 200
            assert await answer.json() == OPENAPI
        async with caller.get(f"{served.address}{prefix}/v1/reference.md") as answer:
            assert (answer.status, answer.content_type) == (200, "text/markdown")
            assert await answer.text() == REFERENCE
        async with caller.get(f"{served.address}{prefix}/") as answer:
            page = await answer.text()
        for name in documents.DOCUMENTS:
            assert f'href="v1/{name}"' in page
        async with caller.post(f"{served.address}{prefix}/v1/openapi.json") as answer:
            assert answer.status == 405
    for link in ("api", "reference/api"):
        assert re.search(rf"^{link}$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
