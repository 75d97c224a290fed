"""How a call reaches the gateway: over gRPC, or over HTTP/1.1 where gRPC cannot be used, with
retries and typed errors.

Never grpc.aio: a process may have several event loops, and only one may touch it. Calls block in
the thread they are made in; asynchronous callers make them in a small pool. gRPC does not survive a
fork, so a child of a process that has used it goes on over HTTP: slower, and it works.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

# gRPC's own log, in words of C++, says nothing to people. It is read when gRPC is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import grpc
from daskgateway.v1.credential_service_pb2 import GetSignInOptionsRequest, WhoAmIRequest
from google.protobuf.message import Message

from gateway.client.calls import (
    api,
    errors,
    forward_proxy,
    http_calls,
    identity,
    kerberos,
    logins,
    sessions,
    trust,
    unreached,
)
from gateway.client.calls.api import Rpc, Streaming, Unary
from gateway.client.calls.client_certificate import MtlsAuth
from gateway.client.calls.forward_proxy import ForwardProxy
from gateway.client.calls.grpc_answers import Stream, from_grpc
from gateway.client.calls.sessions import Kept, When
from gateway.client.calls.settings import Settings, of_identity
from gateway.wire import AUTHORIZATION, host_port

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)
T = TypeVar("T")
# makes one call, over one transport: of an RPC, with a request, what is shown, and a timeout
Send = Callable[[Any, Any, str, float], Any]

BACKOFF_S = (0.1, 3.0)
THREADS, WAITING_THREADS = 8, 64
CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.max_receive_message_length", http_calls.MAX_ANSWER_BYTES),
    ("grpc.enable_retries", 0),  # retries are made here, with one request_id
]
GRPC_AWAY_S = 10.0  # where gRPC passed before; longer than it takes to connect again
# between calls that gRPC does not bring through, if they are to tell of the same absence
GRPC_APART_S = 60.0
# how long calls go over HTTP, once gRPC was found not to pass, before it is tried again
HTTP_FOR_S = 300.0

_lock = threading.Lock()
_channels: dict[tuple[str, str | None, str, object], grpc.Channel] = {}
# key and certificate (PEM) that channels of a client certificate show, by who it is
_shown_in_tls: dict[object, tuple[bytes, bytes]] = {}
# until when calls to an address go over HTTP; one entry a gateway
_http_until: dict[str, float] = {}
_grpc_passed: set[str] = set()  # addresses that gRPC was seen to reach; one entry a gateway
# since when HTTP passes to such an address and gRPC does not, and when last
_grpc_away: dict[str, tuple[float, float]] = {}
_grpc_pid: int | None = None  # the process that gRPC was first used in
_pools: dict[tuple[int, bool], ThreadPoolExecutor] = {}  # by process, and whether for what waits


# channels of the parent, in a fork of it: kept, since what collects them would close them, and that
# may wait for ever for a lock that a thread of the parent held when it forked
_of_the_parent: list[grpc.Channel] = []


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _of_the_parent.extend(_channels.values())
    _channels.clear()
    _pools.clear()


os.register_at_fork(after_in_child=_after_fork)


def _channel(settings: Settings) -> grpc.Channel:
    """Return this process's channel to an address, made when first needed."""
    global _grpc_pid
    proxy = forward_proxy.proxy_for(settings.address)
    pair = settings.auth.pair()
    whose = settings.auth.same() if pair is not None else None
    key = (settings.address, settings.ca_file, proxy.url if proxy is not None else "", whose)
    with _lock:
        if pair is not None and _grpc_pid not in (None, os.getpid()):
            raise errors.Unreachable(
                "this process is a fork of one that has called the gateway, and gRPC does not"
                " survive that: with a client certificate begin processes otherwise, such as by"
                " multiprocessing's spawn",
                code="UNAVAILABLE",
            )
        _grpc_pid = os.getpid()
        channel = _channels.get(key)
        if channel is None or (pair is not None and _shown_in_tls.get(key) != pair):
            channel = _channels[key] = _new_channel(settings, proxy, pair)
            if pair is not None:
                _shown_in_tls[key] = pair
        return channel


def _drop(settings: Settings) -> None:
    """Forget the channels to an address: whoever still calls by one has it, the last closes it."""
    with _lock:
        for key in [one for one in _channels if one[:2] == (settings.address, settings.ca_file)]:
            del _channels[key]


def _new_channel(
    settings: Settings, proxy: ForwardProxy | None, pair: tuple[bytes, bytes] | None
) -> grpc.Channel:
    if settings.address.startswith("unix:"):
        return grpc.insecure_channel(settings.address, CHANNEL_OPTIONS)
    host, port = settings.host_port
    target = host_port(host, port)
    # gRPC reads the environment too, in small letters only: what is decided holds for all ways
    way: tuple[str, int | str] = ("grpc.enable_http_proxy", 0)
    if proxy is not None:
        way = ("grpc.http_proxy", proxy.url)
    options = [*CHANNEL_OPTIONS, way]
    if not settings.secure:
        return grpc.insecure_channel(target, options)
    key, certificate = pair or (None, None)
    credentials = grpc.ssl_channel_credentials(trust.roots(settings.ca_file), key, certificate)
    return grpc.secure_channel(target, credentials, options)


def uses_http(settings: Settings) -> bool:
    """Whether calls go over HTTP/1.1: by wish, below a prefix, where gRPC was found not to pass, or
    in a fork of a user of gRPC. Never with a client certificate."""
    if isinstance(settings.auth, MtlsAuth):
        return False
    if (
        settings.transport == "http"
        or settings.prefix
        or (_grpc_pid is not None and _grpc_pid != os.getpid())
    ):
        return True
    return (
        settings.transport == "auto" and _http_until.get(settings.address, 0.0) > time.monotonic()
    )


def _passes_over_http(settings: Settings) -> None:
    """Note that a call passed over HTTP which gRPC did not bring through."""
    now = time.monotonic()
    since, last = _grpc_away.get(settings.address, (now, now))
    if now - last > GRPC_APART_S:
        since = now
    _grpc_away[settings.address] = (since, now)
    if settings.address in _grpc_passed and now - since < GRPC_AWAY_S:
        return  # an edge that started again meanwhile; gRPC waits before it connects again
    forget(settings.address)
    _http_until[settings.address] = now + HTTP_FOR_S


def forget(address: str) -> None:
    """Forget what was found out about an address."""
    _grpc_passed.discard(address)
    _grpc_away.pop(address, None)
    _http_until.pop(address, None)


class Connection:
    """Calls to one gateway."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def session(self) -> Kept | None:
        """The session that calls use, None where credentials are sent with each."""
        auth = self.settings.auth
        if auth.session is When.NEVER:
            return None
        key = (self.settings.address, self.settings.ca_file, auth.same())
        begin = partial(auth.begin, self.settings.host)
        return sessions.kept(key, begin, auth.session, auth.stored())

    def call(self, rpc: Unary[Q, A], request: Q, *, timeout_s: float | None = None) -> A:
        """Make a unary call; tried again while the gateway does not answer. GatewayError tells what
        went wrong; AuthenticationFailed with whence the credentials are."""
        try:
            return self._call(rpc, request, timeout_s)
        except errors.AuthenticationFailed as error:
            raise self.settings.refused(error) from None
        except errors.GatewayError as error:
            if error.code != "UNIMPLEMENTED" or error.reason:  # a gateway gives a reason
                raise
            raise unreached.no_gateway(self.settings, error) from None

    def _call(self, rpc: Unary[Q, A], request: Q, timeout_s: float | None) -> A:
        timeout_s = self.settings.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + self.settings.retry_s
        wait_s, looked = BACKOFF_S[0], False
        while True:
            try:
                if uses_http(self.settings):
                    return self._http(rpc, request, timeout_s)
                return self._grpc(rpc, request, timeout_s)
            except errors.Unreachable:  # no waiting helps
                raise
            except errors.Unavailable as error:
                if (
                    not uses_http(self.settings)
                    and (found := self._http_instead(error, rpc, request, timeout_s)) is not None
                ):
                    return found
                if unreached.UNTRUSTED in str(error):
                    _drop(self.settings)  # or its channel tries again for ever
                    raise unreached.untrusted(self.settings) from None
                if not looked and self.settings.address not in _grpc_passed:
                    looked = True
                    unreached.look(self.settings, error)
                pause_s = random.uniform(0.5, 1.0) * wait_s
                if time.monotonic() + pause_s > deadline:
                    raise unreached.after_all(self.settings, error) from None
                time.sleep(pause_s)
                wait_s = min(BACKOFF_S[1], wait_s * 2)

    async def call_async(
        self, rpc: Unary[Q, A], request: Q, *, timeout_s: float | None = None
    ) -> A:
        """Make a unary call from an event loop, whichever."""
        return await in_thread(lambda: self.call(rpc, request, timeout_s=timeout_s))

    def stream(self, rpc: Streaming[Q, A], request: Q) -> Stream[A] | http_calls.EventStream[A]:
        """Begin a call that streams its answers."""
        if (
            self.settings.transport == "auto"
            and not uses_http(self.settings)
            and self.settings.address not in _grpc_passed
        ):
            # A stream itself does not tell in time whether gRPC passes.
            self.call(api.WHO_AM_I, WhoAmIRequest())
        if uses_http(self.settings):
            try:
                shown = dict(_shown(self._authorization(rpc, self._over_http)))
                return http_calls.EventStream(self.settings, rpc, request, shown)
            except errors.AuthenticationFailed as error:
                raise self.settings.refused(error) from None
        multi = _channel(self.settings).unary_stream(
            rpc.path, request_serializer=_serialize, response_deserializer=rpc.answer.FromString
        )
        metadata = _shown(self._authorization(rpc, self._over_grpc))
        return Stream(multi(request, metadata=metadata), self.settings.refused)

    def authorization(self) -> str:
        """Return what a request shows that is no call, such as that for a tunnel."""
        send = self._over_http if uses_http(self.settings) else self._over_grpc
        return self._authorization(api.WHO_AM_I, send)

    def end_session(self) -> bool:
        """End the session that calls use; return whether there was one."""
        send = self._over_http if uses_http(self.settings) else self._over_grpc
        session, timeout_s = self.session, self.settings.timeout_s
        return session is not None and session.end(
            lambda rpc, request, shown: send(rpc, request, shown, timeout_s)
        )

    def _authorization(self, rpc: Rpc[Any, Any], send: Send) -> str:
        """Return what a call is to show. InsecureAddress if it would travel in clear text unasked;
        what goes wrong with a sign-in before it."""
        if rpc is api.GET_SIGN_IN_OPTIONS:  # which needs none
            return ""
        if self.settings.caller.open:
            self._look_for_who_calls(send)
        session = self.session
        # a token is made by what its user signs in by: then it outlasts the session
        if session is None or rpc is api.CREATE_TOKEN:
            return self.settings.authorization()
        self.settings.check_clear_text()
        return session.authorization(
            lambda rpc, request, shown: send(rpc, request, shown, self.settings.timeout_s),
            self.settings.authorization,
        )

    def _look_for_who_calls(self, send: Send) -> None:
        """Find out by what one may sign in, where nobody is named, and whether it is here."""
        request = GetSignInOptionsRequest()
        try:
            told = send(api.GET_SIGN_IN_OPTIONS, request, "", self.settings.timeout_s)
            ways = {one.client_way for one in told.options}
        except errors.GatewayError as error:
            if error.code != "UNIMPLEMENTED":
                raise
            ways = set()
        kept = logins.stored(self.settings.address)
        who = identity.found(ways, kerberos.has_ticket, kept is not None)
        auth = kept if who.way == identity.LOGIN and kept is not None else of_identity(who)
        self.settings = replace(self.settings, auth=auth, caller=who)

    def _sent(self, send: Send, rpc: Unary[Q, A], request: Q, timeout_s: float) -> A:
        """Make a call; again, with another session, if its session was taken back meanwhile."""
        shown = self._authorization(rpc, send)
        session = self.session
        try:
            answer: A = send(rpc, request, shown, timeout_s)
        except errors.AuthenticationFailed:
            if session is None or not session.refused(shown):
                raise
            answer = send(rpc, request, self._authorization(rpc, send), timeout_s)
        if session is not None:
            session.answered()
        return answer

    def _grpc(self, rpc: Unary[Q, A], request: Q, timeout_s: float) -> A:
        result = self._sent(self._over_grpc, rpc, request, timeout_s)
        _grpc_passed.add(self.settings.address)
        _grpc_away.pop(self.settings.address, None)
        return result

    def _over_grpc(self, rpc: Unary[Q, A], request: Q, shown: str, timeout_s: float) -> A:
        call = _channel(self.settings).unary_unary(
            rpc.path, request_serializer=_serialize, response_deserializer=rpc.answer.FromString
        )
        try:
            result: A = call(request, timeout=timeout_s, metadata=_shown(shown))
            return result
        except grpc.RpcError as error:
            raise from_grpc(error) from None

    def _http(self, rpc: Unary[Q, A], request: Q, timeout_s: float) -> A:
        return self._sent(self._over_http, rpc, request, timeout_s)

    def _over_http(self, rpc: Unary[Q, A], request: Q, shown: str, timeout_s: float) -> A:
        return http_calls.unary(self.settings, rpc, request, dict(_shown(shown)), timeout_s)

    def _http_instead(
        self, why: errors.Unavailable, rpc: Unary[Q, A], request: Q, timeout_s: float
    ) -> A | None:
        """Make a call over HTTP that gRPC did not bring through, where both may be used; None if
        HTTP does not either."""
        if (
            self.settings.transport != "auto"
            or self.settings.address.startswith("unix:")
            or isinstance(self.settings.auth, MtlsAuth)
        ):
            return None
        try:
            found = self._http(rpc, request, timeout_s)
        except errors.NoGateway:
            # what speaks HTTP/2 may be a front that passes gRPC alone, to a gateway that starts
            if unreached.HTTP2_STATUS in str(why) or self.settings.address in _grpc_passed:
                return None
            raise
        except errors.Unreachable:
            raise
        except errors.GatewayError as error:
            if error.code in ("UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED"):
                return None
            _passes_over_http(self.settings)
            raise
        _passes_over_http(self.settings)
        return found


def _shown(authorization: str) -> tuple[tuple[str, str], ...]:
    return ((AUTHORIZATION, authorization),) if authorization else ()


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


async def in_thread(work: Callable[[], T], *, waits: bool = False) -> T:
    """Run blocking work off the event loop, in this process's small pool. ProcessEnds if there are
    no threads any more.

    What `waits` for a cluster, for hours perhaps, has a pool of its own: connections and all other
    calls would wait with it.
    """
    key = (os.getpid(), waits)
    with _lock:
        pool = _pools.get(key)
        if pool is None:
            pool = _pools[key] = ThreadPoolExecutor(
                WAITING_THREADS if waits else THREADS, thread_name_prefix="daskgateway"
            )
    try:
        future = pool.submit(work)
    except RuntimeError as error:
        raise errors.ProcessEnds(f"this process is ending: {error}", code="UNAVAILABLE") from None
    return await asyncio.wrap_future(future)
