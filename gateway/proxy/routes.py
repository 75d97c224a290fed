"""Which clusters there are and how to reach them: as the server streams it, and as it was last known, on disk.

With the server down, known clusters are still reached; nothing here decides who may.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import pathlib
import random
import time
from dataclasses import dataclass
from typing import Any

import grpc
from daskgateway.internal.v1 import route_pb2 as pb
from daskgateway.internal.v1 import route_pb2_grpc

from gateway.wire import AUTHORIZATION

logger = logging.getLogger(__name__)

BACKOFF_S = (0.1, 2.0)
SILENCE_S = 45.0  # the server sends something every 15 s; a stream silent for so long is dead
SAVE_DELAY_S = 0.2
END: Any = grpc.aio.EOF  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one cluster."""

    uid: str
    owner: str
    cluster_id: str
    scheduler: tuple[str, int]
    dashboard: tuple[str, int] | None


def parse_address(text: str) -> tuple[str, int] | None:
    """Return host and port of `host:port` or `[host]:port`, None if it is neither."""
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() and 0 < int(port) < 65536 else None


def from_message(message: pb.Route) -> Route | None:
    """Return a route as the server told it, None if it leads nowhere."""
    scheduler = parse_address(message.scheduler_address)
    if scheduler is None:
        return None
    return Route(message.uid, message.owner, message.cluster_id, scheduler, parse_address(message.dashboard_address))


class RouteTable:
    """Routes by uid, and the keys that tickets are verified by."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._routes: dict[str, Route] = {}
        self.ticket_keys: tuple[bytes, ...] = ()
        self.heard_at = 0.0  # on the monotonic clock; 0 if the server was never heard
        self._saving: asyncio.TimerHandle | None = None
        self.connected = False

    def __len__(self) -> int:
        return len(self._routes)

    def find(self, uid: str) -> Route | None:
        """Return the way to a cluster."""
        return self._routes.get(uid)

    @property
    def age_s(self) -> float:
        """How long ago the server was heard; -1 for never."""
        return time.monotonic() - self.heard_at if self.heard_at else -1.0

    def load(self) -> None:
        """Take what was last known from disk; what cannot be read is passed over."""
        try:
            kept = json.loads(self._path.read_text())
            self.ticket_keys = tuple(base64.b64decode(key) for key in kept["ticket_keys"])
            for uid, owner, cluster_id, scheduler, dashboard in kept["routes"]:
                self._routes[uid] = Route(uid, owner, cluster_id, tuple(scheduler), tuple(dashboard) if dashboard else None)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read (%s); waiting for the server", self._path, error)

    def apply(self, update: pb.RouteUpdate) -> None:
        """Take what the server tells."""
        self.heard_at = time.monotonic()
        if update.snapshot:
            self._routes.clear()
            self.ticket_keys = tuple(update.ticket_keys)
        for message in update.routes:
            route = from_message(message)
            if route is not None:
                self._routes[route.uid] = route
        for uid in update.removed:
            self._routes.pop(uid, None)
        if (update.snapshot or update.routes or update.removed) and self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(SAVE_DELAY_S, self.save)

    def save(self) -> None:
        """Write what is known to disk, whole or not at all."""
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        routes = [[r.uid, r.owner, r.cluster_id, r.scheduler, r.dashboard] for r in self._routes.values()]
        keys = [base64.b64encode(key).decode() for key in self.ticket_keys]
        scratch = self._path.with_suffix(".new")
        try:
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump({"ticket_keys": keys, "routes": routes}, file)
            scratch.replace(self._path)
        except OSError as error:
            logger.error("the routes could not be written: %s", error)

    async def follow(self, channel: grpc.aio.Channel, token_file: str) -> None:
        """Follow the server for ever."""
        stub: Any = route_pb2_grpc.RouteServiceStub(channel)  # type: ignore[no-untyped-call]
        wait_s = BACKOFF_S[0]
        while True:
            try:
                token = _read(token_file)
                call: Any = stub.WatchRoutes(pb.WatchRoutesRequest(), metadata=((AUTHORIZATION, f"Bearer {token}"),))
                with contextlib.closing(_Cancelling(call)):
                    while True:
                        async with asyncio.timeout(SILENCE_S):
                            update = await call.read()
                        if update is END:
                            break
                        self.apply(update)
                        if not self.connected:
                            logger.info("the server answers; %d clusters are known", len(self))
                        self.connected, wait_s = True, BACKOFF_S[0]
            except (grpc.aio.AioRpcError, OSError, TimeoutError) as error:
                if self.connected or self.heard_at == 0.0:
                    words = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
                    logger.warning("the server does not answer (%s); %d clusters are known", words, len(self))
                    self.heard_at = self.heard_at or -1.0
            self.connected = False
            await asyncio.sleep(random.uniform(0.5, 1.0) * wait_s)
            wait_s = min(BACKOFF_S[1], wait_s * 2)


def _read(path: str) -> str:
    return pathlib.Path(path).read_text().strip()


class _Cancelling:
    """Ends a call when closed."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def close(self) -> None:
        self._call.cancel()
