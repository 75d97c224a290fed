"""What is written of the API by itself: a reference to read, and an OpenAPI document of the HTTP
side. Made from the descriptors, whose comments stand in the .proto files; `generate_stubs.py` calls
it, so `make stubs` keeps both current.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    MethodOptions,
)

PACKAGE = ".daskgateway.v1."
F = FieldDescriptorProto
SCALARS: dict[int, tuple[str, dict[str, Any]]] = {
    F.TYPE_STRING: ("string", {"type": "string"}),
    F.TYPE_BYTES: ("bytes", {"type": "string", "format": "byte"}),
    F.TYPE_BOOL: ("bool", {"type": "boolean"}),
    F.TYPE_INT32: ("int32", {"type": "integer", "format": "int32"}),
    F.TYPE_INT64: ("int64", {"type": "string", "format": "int64"}),
    F.TYPE_DOUBLE: ("double", {"type": "number", "format": "double"}),
}
WELL_KNOWN: dict[str, dict[str, Any]] = {
    "Timestamp": {"type": "string", "format": "date-time"},
    "Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "FieldMask": {"type": "string"},
    "Struct": {"type": "object"},
}
CODES = (
    "canceled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
)
OPEN = ("GetSignInOptions",)  # needs no credentials


class Comments:
    """What is said of each part of a file, by its place."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._told = {
            tuple(place.path): " ".join(place.leading_comments.split())
            for place in file.source_code_info.location
        }

    def at(self, *path: int) -> str:
        """Return what is said there."""
        return self._told.get(path, "")


def reference(files: FileDescriptorSet) -> str:
    """Return the reference as Markdown."""
    lines = [
        "# The API's messages",
        "",
        "Made from the `.proto` files by `make stubs`. Names are protobuf's; JSON writes them in",
        "camelCase, and int64 as text. How the API is used: `docs/api.md`.",
    ]
    for file in files.file:
        told = Comments(file)
        for number, service in enumerate(file.service):
            lines += ["", f"## {service.name}", "", told.at(6, number)]
            for position, method in enumerate(service.method):
                lines += _method(method, told.at(6, number, 2, position))
    for file in files.file:
        told = Comments(file)
        for number, message in enumerate(file.message_type):
            lines += _message(message, told, number)
        for number, enum in enumerate(file.enum_type):
            lines += _enum(enum, told, number)
    return "\n".join(lines) + "\n"


def _method(method: MethodDescriptorProto, words: str) -> list[str]:
    stream = "stream of " if method.server_streaming else ""
    reads = " · changes nothing" if _reads(method) else ""
    took, gave = (name.rpartition(".")[2] for name in (method.input_type, method.output_type))
    return ["", f"### {method.name}", "", f"`{took}` → {stream}`{gave}`{reads}", "", words]


def _message(message: DescriptorProto, told: Comments, number: int) -> list[str]:
    lines = ["", f"## {message.name}", "", told.at(4, number)]
    if message.field:
        lines += ["", "| field | type | |", "|---|---|---|"]
    for position, field in enumerate(message.field):
        words = told.at(4, number, 2, position).replace("|", "\\|")
        if field.HasField("oneof_index") and not field.proto3_optional:
            words += f" (One of `{message.oneof_decl[field.oneof_index].name}`.)"
        lines.append(f"| `{field.name}` = {field.number} | {_type(field, message)} | {words} |")
    return lines


def _enum(enum: EnumDescriptorProto, told: Comments, number: int) -> list[str]:
    lines = ["", f"## {enum.name}", "", told.at(5, number), "", "| value | |", "|---|---|"]
    for position, value in enumerate(enum.value):
        words = told.at(5, number, 2, position).replace("|", "\\|")
        lines.append(f"| `{value.name}` = {value.number} | {words} |")
    return lines


def _entry(field: FieldDescriptorProto, message: DescriptorProto) -> DescriptorProto | None:
    """Return the entry of a map, None for another field."""
    name = field.type_name.rpartition(".")[2]
    found = [one for one in message.nested_type if one.name == name and one.options.map_entry]
    return found[0] if found else None


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    entry = _entry(field, message)
    if entry is not None:
        return f"map of {_type(entry.field[1], entry)} by {_type(entry.field[0], entry)}"
    name = SCALARS[field.type][0] if field.type in SCALARS else field.type_name.rpartition(".")[2]
    if field.label == F.LABEL_REPEATED:
        return f"list of {name}"
    return f"optional {name}" if field.proto3_optional else name


def _reads(method: MethodDescriptorProto) -> bool:
    return method.options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS


# OpenAPI


def openapi(files: FileDescriptorSet) -> str:
    """Return the OpenAPI document of the HTTP side, as JSON."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = dict(_errors())
    for file in files.file:
        told = Comments(file)
        for number, service in enumerate(file.service):
            for position, method in enumerate(service.method):
                path = f"/{file.package}.{service.name}/{method.name}"
                words = told.at(6, number, 2, position)
                paths[path] = _operations(service.name, method, words)
        for number, message in enumerate(file.message_type):
            schemas[message.name] = _schema(message, told, number)
        for number, enum in enumerate(file.enum_type):
            names = [value.name for value in enum.value]
            schemas[enum.name] = {
                "type": "string",
                "description": told.at(5, number),
                "enum": names,
            }
    paths |= _events()
    described = {
        "openapi": "3.1.0",
        "info": {
            "title": "daskgateway",
            "version": "v1",
            "description": "Dask clusters as a service: the HTTP side, in Connect's shape.",
        },
        "servers": [{"url": "..", "description": "Where this document is served from."}],
        "security": [{"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
    }
    return json.dumps(described, indent=1, ensure_ascii=False) + "\n"


def _operations(service: str, method: MethodDescriptorProto, words: str) -> dict[str, Any]:
    took, gave = (name.rpartition(".")[2] for name in (method.input_type, method.output_type))
    if method.server_streaming:
        kind: dict[str, Any] = {
            "application/connect+json": {"schema": {"type": "string", "format": "binary"}}
        }
        asked = answered = kind
        words += f" Messages travel in Connect's envelopes: one `{took}`, then each `{gave}`."
    else:
        asked, answered = _json(took), _json(gave)
    common: dict[str, Any] = {
        "tags": [service],
        "description": words,
        "responses": {
            "200": {"description": f"A {gave}.", "content": answered},
            "default": {"description": "What went wrong.", "content": _json("Error")},
        },
    }
    if method.name in OPEN:
        common["security"] = []
    body = {"required": True, "content": asked}
    found = {"post": {**common, "operationId": method.name, "requestBody": body}}
    if _reads(method) and not method.server_streaming:
        parameters = [
            _parameter("encoding", {"enum": ["json"]}, "json, or proto.", required=True),
            _parameter("message", {"type": "string"}, f"A {took} as JSON.", required=True),
            _parameter("base64", {"enum": ["0", "1"]}, "1 where the message is base64, URL-safe."),
            _parameter("compression", {"enum": ["identity", "gzip"]}, "Of the message."),
            _parameter("connect", {"enum": ["v1"]}, "Version of Connect's protocol."),
        ]
        found["get"] = {**common, "operationId": f"{method.name}ByGet", "parameters": parameters}
    return found


def _parameter(
    name: str, schema: dict[str, Any], words: str, *, required: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": words,
        "schema": schema,
    }


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _events() -> Iterator[tuple[str, Any]]:
    """Yield the paths of server-sent events."""
    text, several = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    of_watch = [
        _parameter("parent", text, "`users/{user}`; the caller by default."),
        _parameter("start_revision", text, "Send what changed after this revision."),
        _parameter("clusters", several, "Only these, by name or uid."),
        _parameter("bookmark_interval", text, "How often to send a bookmark, such as 30s."),
    ]
    of_logs = [
        _parameter("name", text, "`users/{user}/clusters/{cluster}`.", required=True),
        _parameter("instances", several, "`scheduler` or names of workers; all by default."),
        _parameter("tail_lines", {"type": "integer"}, "Begin with so many last lines of each."),
        _parameter("follow", {"type": "boolean"}, "Whether to go on with what is written."),
    ]
    for path, name, parameters in (
        ("/v1/watch", "WatchClusters", of_watch),
        ("/v1/logs", "StreamLogs", of_logs),
    ):
        yield (
            path,
            {
                "get": {
                    "tags": ["Server-sent events"],
                    "operationId": f"{name}AsEvents",
                    "description": f"{name} as server-sent events.",
                    "parameters": parameters,
                    "responses": {
                        "200": {
                            "description": f"A {name}Response in the data of each event.",
                            "content": {"text/event-stream": {"schema": text}},
                        },
                        "default": {"description": "What went wrong.", "content": _json("Error")},
                    },
                }
            },
        )


def _errors() -> Sequence[tuple[str, Any]]:
    detail = {
        "type": "object",
        "properties": {
            "type": {"type": "string", "description": "Such as google.rpc.ErrorInfo."},
            "value": {"type": "string", "description": "The message in protobuf, as base64."},
            "debug": {"type": "object", "description": "The message as JSON."},
        },
    }
    error = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "string", "enum": CODES},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"$ref": "#/components/schemas/ErrorDetail"}},
        },
    }
    return (("Error", error), ("ErrorDetail", detail))


def _schema(message: DescriptorProto, told: Comments, number: int) -> dict[str, Any]:
    properties = {
        field.json_name: {
            **_field_schema(field, message),
            "description": told.at(4, number, 2, position),
        }
        for position, field in enumerate(message.field)
    }
    return {"type": "object", "description": told.at(4, number), "properties": properties}


def _field_schema(field: FieldDescriptorProto, message: DescriptorProto) -> dict[str, Any]:
    entry = _entry(field, message)
    if entry is not None:
        value = _field_schema(entry.field[1], entry)
        return {"type": "object", "additionalProperties": value}
    name = field.type_name.rpartition(".")[2]
    if field.type in SCALARS:
        schema = dict(SCALARS[field.type][1])
    elif field.type_name.startswith(PACKAGE):
        schema = {"$ref": f"#/components/schemas/{name}"}
    else:
        schema = dict(WELL_KNOWN[name])
    return {"type": "array", "items": schema} if field.label == F.LABEL_REPEATED else schema
