"""What is written of the API by itself, served to whoever asks: it tells nothing secret. Made from
the protos (`scripts/generate_reference.py`), and shipped beside the stubs."""

from __future__ import annotations

import pathlib
from collections.abc import Awaitable, Callable

from aiohttp import web
from daskgateway.v1 import cluster_service_pb2

BESIDE = pathlib.Path(cluster_service_pb2.__file__)
DOCUMENTS = {"openapi.json": "application/json", "reference.md": "text/markdown"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def handlers() -> dict[str, Handler]:
    """Return what answers each document, by its path."""
    return {
        f"/v1/{name}": _handler(BESIDE.with_name(name).read_bytes(), kind)
        for name, kind in DOCUMENTS.items()
    }


def _handler(content: bytes, kind: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        headers = {"Cache-Control": "no-cache"}
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=headers)

    return answer
