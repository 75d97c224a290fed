"""Which clusters there are and how to reach them: as the server streams it, and as it was last
known, on disk.

With the server down, known clusters are still reached; nothing here decides who may.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import random
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import grpc
from daskgateway.internal.v1 import route_pb2 as pb
from daskgateway.internal.v1 import route_pb2_grpc

from gateway.files import read_kept, write_kept
from gateway.networks import Destination, Destinations, canonical, parse_address
from gateway.proxy.counting.counts import Counts
from gateway.proxy.routes import route_file
from gateway.proxy.routes.claims import Claims
from gateway.proxy.routes.route_file import KeptRoute
from gateway.wire import AUTHORIZATION, SNI_SUFFIX

logger = logging.getLogger(__name__)

BACKOFF_S = (0.1, 2.0)
SILENCE_S = 45.0  # the server sends something every 15 s; a stream silent for so long is dead
SAVE_DELAY_S = 0.2
STOPPED_S = 20.0  # from a cluster's stop until what is still open to it is ended
_UID_LENGTH = 21
MAX_TOKEN_BYTES = 1024
_TOKEN = re.compile(r"[!-~]{1,256}")  # what a header can hold
NOWHERE = Destinations((), ())
END: Any = grpc.aio.EOF  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one cluster."""

    uid: str
    owner: str
    cluster_id: str
    scheduler: tuple[str, int]
    dashboard: tuple[str, int] | None
    target: Destination  # the scheduler, ready to connect to
    local: bool = False  # whether its backend runs on the server's machine


def from_message(message: pb.Route) -> Route | None:
    """Return a route as the server told it, None if it leads nowhere."""
    scheduler = parse_address(message.scheduler_address)
    if scheduler is None:
        return None
    return _route(
        message.uid,
        message.owner,
        message.cluster_id,
        scheduler,
        parse_address(message.dashboard_address),
        message.local,
    )


def _route(
    uid: str,
    owner: str,
    cluster_id: str,
    scheduler: tuple[str, int],
    dashboard: tuple[str, int] | None,
    local: bool,
) -> Route:
    scheduler = canonical(scheduler[0]), scheduler[1]
    dashboard = dashboard and (canonical(dashboard[0]), dashboard[1])
    return Route(
        uid, owner, cluster_id, scheduler, dashboard, Destination.of(*scheduler, local=local), local
    )


class RouteTable:
    """Routes by uid, and the keys that tickets are verified by. Every change makes a new snapshot;
    a snapshot never changes."""

    def __init__(
        self,
        path: pathlib.Path,
        targets: Destinations = NOWHERE,
        counts: Counts | None = None,
        end: Callable[[Collection[str]], int] = lambda uids: 0,
    ) -> None:
        """`targets` decides where routes may lead; `end` ends what is open to clusters that have
        stopped and returns how much that was."""
        self._path = path
        self.targets = targets
        self._counts = counts or Counts()
        self._end = end
        self._routes: Mapping[str, Route] = MappingProxyType({})
        self.ticket_keys: tuple[bytes, ...] = ()
        self.heard_at = 0.0  # on the monotonic clock; 0 if the server was never heard
        self._claims = Claims()
        self._barred: dict[str, Route] = {}  # without their dashboards for now, which others hold
        self._revision = 0  # of the last snapshot
        self._saving: asyncio.TimerHandle | None = None
        self.connected = False

    def __len__(self) -> int:
        return len(self._routes)

    def find(self, uid: str) -> Route | None:
        """Return the way to a cluster."""
        return self._routes.get(uid)

    def named(self, server_name: str) -> Route | None:
        """Return the way to the cluster that a server name in lower case stands for."""
        return (
            self._routes.get(server_name[:_UID_LENGTH])
            if server_name[_UID_LENGTH:] == SNI_SUFFIX
            else None
        )

    @property
    def snapshot(self) -> Mapping[str, Route]:
        """All routes by uid, as they are now."""
        return self._routes

    @property
    def age_s(self) -> float:
        """How long ago the server was heard; -1 for never."""
        return time.monotonic() - self.heard_at if self.heard_at else -1.0

    def load(self) -> None:
        """Take what was last known from disk; what cannot be read is passed over."""
        try:
            content = read_kept(self._path, route_file.MAX_BYTES)
            if content is None:
                return
            kept = route_file.load(content)
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read (%s); waiting for the server", self._path, error)
            return
        if kept.broken:
            logger.warning(
                "%s: %d entries cannot be used and are passed over", self._path, kept.broken
            )
        routes: dict[str, Route] = {}
        for one in kept.routes:
            self._put(
                routes,
                _route(one.uid, one.owner, one.cluster_id, one.scheduler, one.dashboard, one.local),
            )
        self.ticket_keys, self._routes = kept.ticket_keys, MappingProxyType(routes)

    def apply(self, update: pb.RouteUpdate) -> None:
        """Take what the server tells; with nothing in it, it says that the server lives."""
        self.heard_at = time.monotonic()
        if update.snapshot or update.routes or update.removed:
            self._counts.route_changes += 1
        else:
            self._counts.route_keepalives += 1
        before = self._routes
        routes = {} if update.snapshot else dict(before)
        if update.snapshot:
            self.ticket_keys = tuple(update.ticket_keys)
            self._claims.begin_anew()
            self._barred, self._revision = {}, update.revision
        # a large snapshot is several messages of one revision
        elif update.revision != self._revision or not update.routes:
            self._claims.told()
        for uid in update.removed:  # first: ports are used again
            self._drop(routes, uid)
        for message in update.routes:
            try:
                route = from_message(message)
                if route is not None:
                    self._put(routes, route)
            except Exception:  # one cluster's fault must not end the others
                logger.exception("cluster %s is not routed to", message.uid)
                self._drop(routes, message.uid)
        # the server tells a route again only when it changes
        for route in list(self._barred.values()):
            if route.dashboard is not None and self._claims.claim(
                route.uid, route.owner, route.dashboard
            ):
                routes[route.uid] = self._barred.pop(route.uid)
        self._routes = MappingProxyType(routes)
        touched = (
            before
            if update.snapshot
            else {*update.removed, *(message.uid for message in update.routes)}
        )
        if gone := {uid for uid in touched if uid in before and uid not in routes}:
            # a while later: they may end it themselves, or be told again
            loop = asyncio.get_running_loop()
            loop.call_later(STOPPED_S, self._end_stopped, frozenset(gone))
        if (update.snapshot or update.routes or update.removed) and self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(SAVE_DELAY_S, self.save)

    def _end_stopped(self, uids: Collection[str]) -> None:
        stopped = {uid for uid in uids if uid not in self._routes}
        ended = self._end(stopped) if stopped else 0
        if ended:
            logger.info(
                "%d connections to %d clusters that have stopped are ended", ended, len(stopped)
            )

    def _put(self, routes: dict[str, Route], route: Route) -> None:
        """Add a route, or what of it leads where it may; its cluster had told the addresses."""
        if objection := self.targets.objection(*route.scheduler, local=route.local):
            self._counts.routes_forbidden += 1
            logger.warning(
                "cluster %s says its scheduler is %s:%d, %s", route.uid, *route.scheduler, objection
            )
            self._drop(routes, route.uid)
            return
        if route.dashboard is not None and (
            objection := self.targets.objection(*route.dashboard, local=route.local)
        ):
            self._counts.routes_forbidden += 1
            logger.warning(
                "cluster %s says its dashboard is %s:%d, %s", route.uid, *route.dashboard, objection
            )
            route = replace(route, dashboard=None)
        routes[route.uid] = self._claimed(route)

    def _claimed(self, route: Route) -> Route:
        """Return a route, without its dashboard if that is another user's."""
        barred = self._barred.pop(route.uid, None)
        if route.dashboard is None:
            self._claims.release(route.uid)
            return route
        if self._claims.claim(route.uid, route.owner, route.dashboard):
            return route
        if barred is None or barred.dashboard != route.dashboard:
            self._counts.routes_forbidden += 1
            logger.warning(
                "cluster %s says its dashboard is %s:%d, which is that of another user's cluster",
                route.uid,
                *route.dashboard,
            )
        self._barred[route.uid] = route
        return replace(route, dashboard=None)

    def _drop(self, routes: dict[str, Route], uid: str) -> None:
        routes.pop(uid, None)
        self._barred.pop(uid, None)
        self._claims.release(uid)

    def save(self) -> None:
        """Write what is known to disk, whole or not at all."""
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        routes = (
            KeptRoute(r.uid, r.owner, r.cluster_id, r.scheduler, r.dashboard, r.local)
            for r in self._routes.values()
        )
        try:
            write_kept(self._path, route_file.dump(self.ticket_keys, routes))
        except OSError as error:
            logger.error("the routes could not be written: %s", error)

    async def follow(self, connect: Callable[[], grpc.aio.Channel], token_file: str) -> None:
        """Follow the server for ever, over a channel that `connect` returns while there is a
        server."""
        wait_s = BACKOFF_S[0]
        while True:
            try:
                stub: Any = route_pb2_grpc.RouteServiceStub(connect())  # type: ignore[no-untyped-call]
                token = edge_token(token_file)
                call: Any = stub.WatchRoutes(
                    pb.WatchRoutesRequest(), metadata=((AUTHORIZATION, f"Bearer {token}"),)
                )
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
                if isinstance(error, TimeoutError):
                    self._counts.route_silences += 1
                if self.connected or self.heard_at == 0.0:
                    logger.warning(
                        "the server does not answer (%s); %d clusters are known",
                        _why(error),
                        len(self),
                    )
                    self.heard_at = self.heard_at or -1.0
            self.connected = False
            await asyncio.sleep(random.uniform(0.5, 1.0) * wait_s)
            wait_s = min(BACKOFF_S[1], wait_s * 2)


def _why(error: grpc.aio.AioRpcError | OSError | TimeoutError) -> str:
    """Return in words why the stream ended; never empty."""
    if isinstance(error, TimeoutError):
        return f"it has said nothing for {SILENCE_S:g} s"
    words = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
    return words or (
        error.code().name if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
    )


def edge_token(path: str) -> str:
    """Return the edge's token; OSError if the file has none, or something else."""
    with open(path, "rb") as file:  # maybe a link, as where secrets are mounted
        token = file.read(MAX_TOKEN_BYTES).decode(errors="replace").strip()
    if not _TOKEN.fullmatch(token):
        raise OSError(f"{path} holds no token of an edge")
    return token


class _Cancelling:
    """Ends a call when closed."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def close(self) -> None:
        self._call.cancel()
