"""The comm scheme `dgw://host:port/uid`: how Dask's own classes reach a scheduler behind the edge.

TLS from end to end with the scheduler itself; the SNI in its first message tells the edge where to.
Works in a process that imports nothing of ours: Dask finds it by entry point, and it gets its
credentials by itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from daskgateway.v1 import cluster_service_pb2 as service_pb
from distributed.comm.core import CommClosedError, Connector, FatalCommClosedError
from distributed.comm.registry import Backend
from distributed.comm.tcp import (
    MAX_BUFFER_SIZE,
    TLS,
    BaseTCPConnector,
    convert_stream_closed_error,
    get_stream_address,
)
from distributed.utils import wait_for
from tornado.iostream import IOStream, StreamClosedError

from gateway import wire
from gateway.client.calls import api, credentials, errors, reading, settings
from gateway.client.calls.channel import Connection, in_thread
from gateway.client.calls.forward_proxy import ProxyRefused, proxy_for
from gateway.client.dask import links, versions
from gateway.client.dask.proxied import ProxiedClient
from gateway.client.dask.tunnel import TunnelRefused, open_tunnel
from gateway.client.model import Cluster
from gateway.printable import printable

logger = logging.getLogger(__name__)


DIRECT_S = 3.0  # for a direct connection, where a tunnel may be tried instead
# how long tunnels are taken at once, where a direct connection was found not to pass
TUNNEL_FOR_S = 600.0
# for so long after a tunnel passed, the edge is not what a direct connection fails by
EDGE_LIVES_S = 60.0
MAX_CONNECTIONS = 256
CALL_TIMEOUT_S = 5.0  # of what is asked of the gateway on the way; Dask itself tries again
DASHBOARD_AGAIN_S = 30.0  # where the gateway did not tell where a dashboard is
WAYS = ("auto", "always", "never")
FINAL = (
    errors.InsecureAddress,
    errors.AuthenticationFailed,
    errors.PermissionDenied,
    errors.ClusterNotFound,
    errors.ClusterFinished,
)
# not a word of the peer's: it, or an edge, went away
ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)

_connections: dict[str, Connection] = {}  # by cluster's uid
_ended: dict[str, str] = {}  # why, by cluster's uid: an end is for ever
# where a cluster's dashboard is, and until when that is not asked again; by its uid
_dashboards: dict[str, tuple[str, float]] = {}
_tunnel_until: dict[tuple[str, int], float] = {}  # by the edge's host and port
# after a direct connection had not; by the same
_tunnel_passed_at: dict[tuple[str, int], float] = {}


class NoDirectWay(Exception):
    """A direct connection was not to be had; `error` is what Dask is told, if there is no other
    way."""

    def __init__(self, error: OSError, *, conclusive: bool = False) -> None:
        super().__init__(str(error))
        self.error, self.conclusive = error, conclusive  # conclusive: the edge itself has answered


class GatewayConnector(Connector):
    """Connects to a scheduler."""

    async def connect(self, address: str, deserialize: bool = True, **connection_args: Any) -> TLS:
        """Return a comm to `host:port/uid`."""
        target = wire.parse_scheduler_address(address)
        context = await _context(target, connection_args.get("ssl_context"))
        if versions.untold(target.uid):  # by a plain Client: a cluster object has told it before
            await _compare(target)
        try:
            stream = await self._stream(target, context, wished_way())
        except FatalCommClosedError:
            raise
        except OSError as error:
            if words := await _end_of(target):
                raise FatalCommClosedError(words) from error  # Dask tries no further
            raise
        return TLS(
            stream, "tls://" + get_stream_address(stream), f"{wire.SCHEME}://{address}", deserialize
        )

    async def _stream(
        self, target: wire.SchedulerAddress, context: ssl.SSLContext, wish: str
    ) -> Any:
        """Return TLS with the scheduler, directly or through a tunnel."""
        place = (target.host, target.port)
        first = wish == "always" or (
            wish == "auto" and _tunnel_until.get(place, 0.0) > time.monotonic()
        )
        if first:
            try:
                return await self._tunnelled(target, context)
            except OSError:
                if wish == "always" or _tunnel_until.pop(place, None) is None:
                    raise
        began = time.monotonic()
        try:
            return await self._direct(target, context, None if wish == "never" else DIRECT_S)
        except NoDirectWay as failed:
            if wish == "never" or first or failed.conclusive:
                raise failed.error from failed.__cause__
            try:
                stream = await self._tunnelled(target, context)
            except (TunnelRefused, FatalCommClosedError):
                raise  # the gateway has answered, which tells more
            except ProxyRefused as error:
                raise FatalCommClosedError(f"{target}: {error}") from error
            except OSError as error:
                logger.debug("no tunnel either: %s", error)
                raise failed.error from failed.__cause__
            _tunnel_passed(place, began)
            return stream

    async def _direct(
        self, target: wire.SchedulerAddress, context: ssl.SSLContext, timeout_s: float | None
    ) -> Any:
        way = self._secured(
            _client(target).connect(target.host, target.port, max_buffer_size=int(MAX_BUFFER_SIZE)),
            target,
            context,
        )
        try:
            return await (way if timeout_s is None else wait_for(way, timeout_s))
        except asyncio.TimeoutError as error:
            raise NoDirectWay(OSError(f"{target}: no answer within {timeout_s:g} s")) from error

    async def _tunnelled(self, target: wire.SchedulerAddress, context: ssl.SSLContext) -> Any:
        async def opened() -> IOStream:
            try:
                return IOStream(
                    await open_tunnel(connection_for(target), target.uid),
                    max_buffer_size=int(MAX_BUFFER_SIZE),
                )
            except errors.InsecureAddress as refused:
                raise FatalCommClosedError(str(refused)) from None
            except TunnelRefused as refused:
                if refused.status == 401:
                    raise FatalCommClosedError(str(refused)) from None
                raise

        try:
            return await self._secured(opened(), target, context)
        except NoDirectWay as failed:
            raise failed.error from failed.__cause__

    async def _secured(
        self, opening: Awaitable[Any], target: wire.SchedulerAddress, context: ssl.SSLContext
    ) -> Any:
        """Return TLS with the scheduler over a stream; NoDirectWay if what is at its end is not
        it."""
        try:
            stream = await opening
            if stream.closed():  # in the moment since, or its process was killed
                raise StreamClosedError(stream.error)
            stream = await _with_tls(stream, target, context)
            if stream.closed() and stream.error:
                raise StreamClosedError(stream.error)
        except StreamClosedError as error:
            if isinstance(error.real_error, ssl.SSLError) and _unknown(error.real_error):
                raise NoDirectWay(_no_way(target), conclusive=True) from error
            try:
                convert_stream_closed_error(self, error)
            except OSError as converted:
                raise NoDirectWay(converted) from error
            raise
        except ssl.SSLCertVerificationError as error:
            raise NoDirectWay(
                FatalCommClosedError(
                    f"{target}: this is not the scheduler of cluster {target.uid}: {error}"
                )
            ) from error
        except RuntimeError as error:  # of the loop's own threads, as the interpreter ends
            raise NoDirectWay(CommClosedError(f"{target}: {error}")) from error
        except ENDED as error:
            raise NoDirectWay(
                CommClosedError(f"{target}: the connection ended before TLS was agreed on: {error}")
            ) from error
        except ssl.SSLError as error:
            if _unknown(error):
                raise NoDirectWay(_no_way(target), conclusive=True) from error
            raise NoDirectWay(FatalCommClosedError(f"{target}: {error}")) from error
        except OSError as error:
            if isinstance(error, TunnelRefused | FatalCommClosedError):
                raise
            raise NoDirectWay(error) from error
        return stream


def _client(target: wire.SchedulerAddress) -> Any:
    """Return what connects to the edge: through the site's proxy, where the gateway itself is
    reached through it. FatalCommClosedError if that proxy is none."""
    try:
        known = connection_for(target).settings.address
    except ValueError:  # nothing is configured that could be used; TLS is what a scheduler speaks
        known = "https:"
    scheme = "http" if known.startswith("http:") else "https"
    try:
        proxy = proxy_for(f"{scheme}://{wire.host_port(target.host, target.port)}")
    except ValueError as error:
        raise FatalCommClosedError(str(error)) from None
    return BaseTCPConnector.client if proxy is None else ProxiedClient(proxy)


def _tunnel_passed(place: tuple[str, int], began: float) -> None:
    """Note that a tunnel passed where a direct connection did not, which was tried from `began` on.

    Had no tunnel passed just before, then it may be the edge that was away.
    """
    now = time.monotonic()
    if 0.0 <= began - _tunnel_passed_at.get(place, -math.inf) < EDGE_LIVES_S:
        _tunnel_until[place] = now + TUNNEL_FOR_S
    _tunnel_passed_at[place] = now


async def _context(target: wire.SchedulerAddress, given: Any) -> ssl.SSLContext:
    """Return what to prove oneself by: what Dask gives, unless there is something newer."""
    if isinstance(given, ssl.SSLContext) and not credentials.outlived(target.uid):
        given.check_hostname = True
        return given
    try:
        return await in_thread(
            lambda: credentials.kept(_impatient(target), target.uid).ssl_context()
        )
    except FINAL as error:
        raise FatalCommClosedError(str(error)) from error
    # Dask knows OSErrors only: its loops that connect again would end
    except errors.GatewayError as error:
        raise CommClosedError(f"{target}: no certificate: {error}") from error


async def _compare(target: wire.SchedulerAddress) -> None:
    """Warn if this process differs from a scheduler, as far as the gateway tells."""

    def compare() -> None:
        request = service_pb.GetClusterRequest(name=f"users/-/clusters/{target.uid}")
        with suppress(errors.GatewayError, ValueError):
            versions.tell(Cluster.from_proto(_impatient(target).call(api.GET_CLUSTER, request)))

    with suppress(errors.ProcessEnds):
        await in_thread(compare)


async def _with_tls(
    stream: IOStream, target: wire.SchedulerAddress, context: ssl.SSLContext
) -> Any:
    """Return a connected stream with TLS over it; a peer that has spoken before it was spoken to
    does not know TLS."""
    try:
        agreed = stream.start_tls(
            False, ssl_options=context, server_hostname=wire.server_name(target.uid)
        )
    except ValueError as error:  # tornado's: something was read already
        stream.close()
        raise ConnectionError(f"{target}: what answers there does not speak TLS") from error
    return await agreed


def wished_way() -> str:
    """Return how schedulers are to be reached, as Dask's configuration says."""
    return settings.setting("tunnel", _way)


def _way(value: Any, what: str) -> str:
    wish = str(value or "auto").lower()
    if wish not in WAYS:
        raise ValueError(f"{what} must be auto, always or never, not {reading.shown(wish)}")
    return wish


def _no_way(target: wire.SchedulerAddress) -> OSError:
    return OSError(f"the gateway knows no way to cluster {target.uid} now")


def _unknown(error: ssl.SSLError) -> bool:
    """Whether the edge has refused the name (alert unrecognized_name, RFC 6066): the cluster may be
    back in a moment."""
    return "UNRECOGNIZED_NAME" in str(error).upper()


def end_of(target: wire.SchedulerAddress) -> str:
    """Return why a cluster will not be reached, as the gateway tells: it has ended, or its
    scheduler is where nobody may connect to.

    Empty while it may yet be reached, or if the gateway does not tell. Blocks for 5 s at most.
    """
    if target.uid in _ended:
        return _ended[target.uid]
    try:
        request = service_pb.GetClusterRequest(name=f"users/-/clusters/{target.uid}")
        cluster = Cluster.from_proto(_impatient(target).call(api.GET_CLUSTER, request))
    except (errors.GatewayError, ValueError):
        return ""
    if not cluster.state.ending:
        return (
            printable(f"cluster {target.uid} cannot be reached: {why}")
            if (why := cluster.unreachable)
            else ""
        )
    if len(_ended) >= MAX_CONNECTIONS:
        _ended.pop(next(iter(_ended)), None)
    _ended[target.uid] = printable(
        f"cluster {target.uid} is {cluster.state}: {cluster.explanation}"
    )
    return _ended[target.uid]


def dashboard_of(target: wire.SchedulerAddress) -> str:
    """Return where a cluster's dashboard is seen, as the gateway tells; empty if it has none, or if
    the gateway does not tell. Blocks for 5 s at most, and asks once."""
    now = time.monotonic()
    found, until = _dashboards.get(target.uid, ("", 0.0))
    if now < until:
        return found
    try:
        request = service_pb.GetClusterRequest(name=f"users/-/clusters/{target.uid}")
        cluster = Cluster.from_proto(_impatient(target).call(api.GET_CLUSTER, request))
        found, until = cluster.status.endpoints.dashboard, math.inf
    except (errors.GatewayError, ValueError):
        found, until = "", now + DASHBOARD_AGAIN_S
    if len(_dashboards) >= MAX_CONNECTIONS:
        _dashboards.pop(next(iter(_dashboards)), None)
    _dashboards[target.uid] = (found, until)
    return found


def _impatient(target: wire.SchedulerAddress) -> Connection:
    """Return a connection to the gateway whose calls are tried once: Dask does not wait for long,
    and threads are few."""
    found = connection_for(target).settings
    return Connection(replace(found, retry_s=0.0, timeout_s=min(found.timeout_s, CALL_TIMEOUT_S)))


async def _end_of(target: wire.SchedulerAddress) -> str:
    try:
        return await in_thread(lambda: end_of(target))
    except errors.ProcessEnds:
        return ""


def remember(uid: str, connection: Connection) -> None:
    """Keep the connection to the gateway that a cluster was asked of, for tunnels to its
    scheduler."""
    if len(_connections) >= MAX_CONNECTIONS:
        _connections.pop(next(iter(_connections)), None)
    _connections[uid] = connection


def connection_for(target: wire.SchedulerAddress) -> Connection:
    """Return a connection to the gateway that a scheduler's address belongs to.

    The one its cluster was asked of in this process, or the configured one, if there is one; else
    the same host, port and prefix, with TLS as configured there or guessed from the port.
    """
    if target.uid in _connections:
        return _connections[target.uid]
    try:
        return Connection(settings.load())
    except ValueError:
        scheme = "https" if target.port == 443 else "http"
        where = wire.host_port(target.host, target.port)
        found = f"{scheme}://{where}{target.prefix}"
        return Connection(settings.load(found, source=f"the scheduler's address {target}"))


class GatewayBackend(Backend):
    """The scheme, as Dask wants it."""

    def __init__(self) -> None:
        links.install()

    def get_connector(self) -> GatewayConnector:
        return GatewayConnector()

    def get_listener(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(
            "nothing can listen on dgw://; it is how clients reach a scheduler behind the gateway"
        )

    def get_address_host(self, loc: str) -> str:
        return wire.parse_scheduler_address(loc).host

    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        target = wire.parse_scheduler_address(loc)
        return target.host, target.port

    def resolve_address(self, loc: str) -> str:
        return loc

    def get_local_address_for(self, loc: str) -> str:
        return loc
