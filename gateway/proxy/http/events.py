"""Watches and logs as server-sent events (HTML Living Standard, §9.2), for browsers, curl and what
only HTTP reaches.

`GET /v1/watch` resumes after Last-Event-ID, which is a revision. `GET /v1/logs?name=…` tells logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import grpc
from aiohttp import web
from daskgateway.v1 import cluster_service_pb2 as pb

from gateway.proxy.http import failures, queries
from gateway.proxy.http.bridge import credentials
from gateway.proxy.http.front import Front
from gateway.proxy.http.queries import WrongParameter
from gateway.proxy.http.transcoding import Transcoder
from gateway.proxy.upstream.channels import Channels
from gateway.turns import Crowded
from gateway.wire import decimal

_KINDS = {
    pb.WATCH_EVENT_TYPE_ADDED: "added",
    pb.WATCH_EVENT_TYPE_MODIFIED: "modified",
    pb.WATCH_EVENT_TYPE_REMOVED: "removed",
}
OF_WATCHES = ("parent", "start_revision", "clusters", "bookmark_interval")
OF_LOGS = ("name", "instances", "tail_lines", "follow")
SERVICE = "/daskgateway.v1.ClusterService"
KEEPALIVE_S = 15.0  # of silence, after which a comment tells that the stream still is
COMMENT = b": still here\n\n"
END: Any = grpc.aio.EOF  # type: ignore[attr-defined]


def event(kind: str, body: bytes, identity: str = "", retry_ms: int = 0) -> bytes:
    """Return one event as it travels; `body` must hold no line breaks."""
    head = (f"id: {identity}\n" if identity else "") + (f"retry: {retry_ms}\n" if retry_ms else "")
    return f"{head}event: {kind}\ndata: ".encode() + body + b"\n\n"


def kind_of(told: pb.WatchClustersResponse) -> str:
    """Return an event's name."""
    which = told.WhichOneof("kind")
    return _KINDS.get(told.event.type, "modified") if which == "event" else str(which)


def change(told: pb.WatchClustersResponse, body: bytes) -> bytes:
    """Return one message of a watch, whose JSON is given, as an event, whose id is the revision to
    resume after."""
    retry_ms = told.goodbye.retry_delay.ToMilliseconds() if told.HasField("goodbye") else 0
    return event(kind_of(told), body, str(told.revision) if told.revision else "", retry_ms)


class Events:
    """Answers GET /v1/watch and /v1/logs."""

    def __init__(self, channels: Channels, front: Front, transcoder: Transcoder) -> None:
        self._channels, self._front, self._transcoder = channels, front, transcoder

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """Stream changes."""
        query = request.query
        try:
            queries.check(query, OF_WATCHES, repeated=("clusters",))
            interval = queries.duration(query, "bookmark_interval")
        except WrongParameter as wrong:
            return failures.invalid(str(wrong), wrong.name)
        resumed = request.headers.get("Last-Event-ID", "")
        start = decimal(resumed or query.get("start_revision", "0"))
        if start is None:
            field = "last-event-id" if resumed else "start_revision"
            return failures.invalid("must be a revision", field)
        asked = pb.WatchClustersRequest(
            parent=query.get("parent", ""),
            start_revision=start,
            clusters=query.getall("clusters", []),
            bookmark_interval=interval,
        )
        made = (pb.WatchClustersRequest.SerializeToString, pb.WatchClustersResponse.FromString)
        return await self._stream(request, f"{SERVICE}/WatchClusters", asked, made, change)

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Stream logs."""
        query = request.query
        try:
            queries.check(query, OF_LOGS, repeated=("instances",))
            follow = queries.truth(query, "follow")
        except WrongParameter as wrong:
            return failures.invalid(str(wrong), wrong.name)
        tail = decimal(query.get("tail_lines", "0"), 9)
        if tail is None:
            return failures.invalid("must be a number", "tail_lines")
        asked = pb.StreamLogsRequest(
            name=query.get("name", ""),
            instances=query.getall("instances", []),
            tail_lines=tail,
            follow=follow,
        )
        made = (pb.StreamLogsRequest.SerializeToString, pb.StreamLogsResponse.FromString)
        return await self._stream(
            request, f"{SERVICE}/StreamLogs", asked, made, lambda _, body: event("log", body)
        )

    async def _stream(
        self,
        request: web.Request,
        path: str,
        asked: Any,
        made: Any,
        shaped: Callable[[Any, bytes], bytes],
    ) -> web.StreamResponse:
        """Answer with events; what goes wrong before the first is an HTTP status, later an event
        `error`."""
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        caller = self._front.seen(request).address
        try:
            call, begun = await self._channels.stream(
                path, asked, caller, credentials(request), made=made
            )
        except grpc.aio.AioRpcError as error:
            return failures.of_rpc(error)
        except Crowded:
            return failures.crowded()
        try:
            async with aclosing(_with_pauses(call)) as messages:
                async for told in messages:
                    if not response.prepared:
                        begun()
                        await response.prepare(request)
                    if told is None:
                        await response.write(COMMENT)
                        continue
                    whose = self._channels.whose(credentials(request), caller)
                    await response.write(
                        shaped(told, await self._transcoder.written(whose, told, patient=True))
                    )
        except grpc.aio.AioRpcError as error:
            failed = failures.of_rpc(error)
            if not response.prepared:
                return failed
            await response.write(
                event("error", failed.body if isinstance(failed.body, bytes) else b"{}")
            )
        finally:
            call.cancel()
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response


async def _with_pauses(call: Any) -> AsyncGenerator[Any, None]:
    """Yield a call's answers, and None whenever there was none for a while."""
    reading: asyncio.Future[Any] | None = None
    try:
        while True:
            reading = reading or asyncio.ensure_future(call.read())
            done, _ = await asyncio.wait([reading], timeout=KEEPALIVE_S)
            if not done:
                yield None
                continue
            told, reading = reading.result(), None
            if told is END:
                return
            yield told
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
