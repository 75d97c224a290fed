"""What every call passes through, from the outside in: context, errors, authentication; then come
its limits (`limits.py`).

The outermost two never let an exception's text out: an uncaught one becomes INTERNAL with a
correlation id that the log explains.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from gateway.backends.contract import BackendUnavailable
from gateway.server.core.errors import (
    CredentialsInvalid,
    MachineRoomUnavailable,
    MethodUnknown,
    ServiceError,
    StoreUnavailable,
)
from gateway.server.core.model import Principal
from gateway.server.rpc import places
from gateway.server.rpc.caller import Caller, current
from gateway.server.rpc.chain import Answer, Context, Interceptor
from gateway.server.rpc.peers import peer_of
from gateway.server.rpc.requests import Malformed
from gateway.server.rpc.status import STATUS_DETAILS, code_of, details_of, text_of
from gateway.server.store.contract import StoreUnreachable
from gateway.wire import (
    AUTHENTICATE,
    AUTHORIZATION,
    CLIENT_CERTIFICATE,
    CORRELATION_ID,
    SIGN_IN_OPTIONS,
)

logger = logging.getLogger("gateway.server.calls")

OPEN_PREFIXES = ("/grpc.health.v1.", "/grpc.reflection.")
AGENT_PREFIX = "/daskgateway.internal.v1.AgentService/"
EDGE_PREFIXES = (
    "/daskgateway.internal.v1.RouteService/",
    "/daskgateway.internal.v1.AccessService/",
)
AGENT_UID = "dgw-uid"
# They last for a minute or for ever: counted as streams, or they would keep all other calls out.
LONG_CALLS = ("/daskgateway.v1.ClusterService/WaitCluster", "/grpc.health.v1.Health/Watch")
MAX_CREDENTIALS = 16 * 1024
OVERLOAD_RETRY_S = 1.0
# a stream whose caller does not read is cut so long after what let the caller in was taken away
UNREAD_S = 1.0
_END: Any = object()
# a caller whose clock is a little ahead cuts the call itself at its deadline
DEADLINE_SLACK_S = 0.1


class Doorkeeper(Protocol):
    """Who is let in; each raises CredentialsInvalid, or IdentityUnavailable."""

    async def principal(self, scheme: str, value: str, peer: str) -> Principal:
        """Return who these credentials belong to."""

    def hold(self, principal: Principal, end: Callable[[ServiceError], None]) -> Callable[[], None]:
        """Call `end` with the reason when what let a caller in expires or is taken away, until what
        is returned is called."""

    async def agent(self, uid: str, token: str) -> None:
        """Return if the token is that of the cluster's agent."""

    async def edge(self, token: str) -> None:
        """Return if the token is an edge's."""


class ContextInterceptor(Interceptor):
    """Gives the call a correlation id, finds out where it comes from, and logs how it ended."""

    def __init__(self, is_edge: Callable[[str], bool] = lambda token: False) -> None:
        """`is_edge`: whether a token is an edge's, which is believed whom it calls for."""
        self._is_edge = is_edge

    async def call(self, method: Answer, name: str, request: Any, context: Context) -> Any:
        begun = self._begin(context)
        try:
            answer = await method(request, context)
        except BaseException as error:
            _tell(begun, context, name, error=error)
            raise
        # Who waits for a cluster asks every few seconds: many who do would fill the log.
        _tell(begun, context, name, logging.DEBUG if name in LONG_CALLS else logging.INFO)
        return answer

    @asynccontextmanager
    async def around(self, request: Any, context: Context, method: str) -> AsyncIterator[None]:
        begun = self._begin(context)
        try:
            yield
        except BaseException as error:
            _tell(begun, context, method, error=error)
            raise
        _tell(begun, context, method)

    def _begin(self, context: Context) -> tuple[Caller, float, float | None]:
        # Peer, metadata and deadline are asked for now: to ask once the call has ended crashes the
        # process.
        metadata = _told(context.invocation_metadata() or ())
        caller = Caller(
            # no secret, and the system's own source of chance lets go of Python's lock
            f"{random.getrandbits(64):016x}",
            peer=peer_of(context.peer(), metadata, self._is_edge),
            metadata=metadata,
        )
        current.set(caller)
        return caller, time.perf_counter(), context.time_remaining()


def _tell(
    begun: tuple[Caller, float, float | None],
    context: Context,
    method: str,
    level: int = logging.INFO,
    error: BaseException | None = None,
) -> None:
    caller, began, given_s = begun
    if logger.isEnabledFor(level) and not method.startswith(OPEN_PREFIXES):
        took_s = time.perf_counter() - began
        name = _code(
            context, error, late=given_s is not None and took_s > given_s - DEADLINE_SLACK_S
        )
        took_ms = took_s * 1000
        logger.log(
            level,
            "%s %s %s %.1f ms id=%s peer=%s",
            method,
            name,
            caller.user or "-",
            took_ms,
            caller.correlation_id,
            caller.peer.shown,
        )


def _code(context: Context, error: BaseException | None, *, late: bool) -> str:
    """Return the name of the code that a call ended with: one that was cut has none of its own."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    if code:
        return str(code)
    if isinstance(error, asyncio.CancelledError | GeneratorExit) or (
        error is None and context.cancelled()
    ):
        return "DEADLINE_EXCEEDED" if late else "CANCELLED"
    return "OK" if error is None else "UNKNOWN"


class ErrorInterceptor(Interceptor):
    """Turns what goes wrong into one status with typed details. What is too much to be looked into
    goes wrong first of all."""

    def incoming(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Return what a caller streams, each message checked."""
        return _checked(requests)

    async def call(self, method: Answer, name: str, request: Any, context: Context) -> Any:
        try:
            _check_read(request)
            return await method(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await self._failed(_at(error, request), context, name)

    @asynccontextmanager
    async def around(self, request: Any, context: Context, method: str) -> AsyncIterator[None]:
        try:
            _check_read(request)
            yield
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await self._failed(_at(error, request), context, method)

    async def _failed(self, error: Exception, context: Context, method: str) -> None:
        """End the call with the status of what went wrong."""
        match error:
            case ServiceError():
                await self._abort(context, error)
            case StoreUnreachable():
                # the store says so once, not with every call
                logger.debug("the database does not answer: %s", error)
                await self._abort(context, StoreUnavailable(retry_after_s=OVERLOAD_RETRY_S))
            # of a service of others that has calls which it does not answer, such as health
            case NotImplementedError():
                await self._abort(context, MethodUnknown(metadata={"method": method}))
            case BackendUnavailable():
                logger.warning("%s: the machine room does not answer: %s", method, error)
                await self._abort(context, MachineRoomUnavailable(retry_after_s=OVERLOAD_RETRY_S))
            case _:
                correlation_id = current.get().correlation_id
                logger.exception("%s failed, id=%s", method, correlation_id, exc_info=error)
                fault = ServiceError(metadata={"correlation_id": correlation_id})
                fault.args = (f"the server failed; its log says why under {correlation_id}",)
                await self._abort(context, fault)

    async def _abort(self, context: Context, error: ServiceError) -> None:
        trailers: tuple[tuple[str, str | bytes], ...] = (
            (STATUS_DETAILS, details_of(error)),
            (CORRELATION_ID, current.get().correlation_id),
        )
        if isinstance(error, CredentialsInvalid) and error.challenge:
            trailers = (*trailers, (AUTHENTICATE, error.challenge))
        await context.abort(code_of(error), text_of(error), trailers)


def _at(error: Exception, request: Any) -> Exception:
    """Return an error whose fields are those of the request; of what is streamed, the message's own
    as they are."""
    if isinstance(error, ServiceError) and isinstance(request, Message):
        return places.located(error, request.DESCRIPTOR)
    return error


def _check_read(request: Any) -> None:
    """Raise what is wrong with a request that could not be read, or holds more than it may; what is
    made of it is made later."""
    if isinstance(request, Malformed):
        raise request.error()


async def _checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield what a caller streams, each message checked."""
    async for request in requests:
        _check_read(request)
        yield request


class AuthenticationInterceptor(Interceptor):
    """Lets nobody in but who proves who it is. Only health, reflection and the ways to sign in are
    open."""

    def __init__(self, doorkeeper: Doorkeeper) -> None:
        self._doorkeeper = doorkeeper

    async def call(self, method: Answer, name: str, request: Any, context: Context) -> Any:
        if name != SIGN_IN_OPTIONS and not name.startswith(OPEN_PREFIXES):
            await self._admit(context, name)
        return await method(request, context)

    @asynccontextmanager
    async def around(self, request: Any, context: Context, method: str) -> AsyncIterator[None]:
        if not method.startswith(OPEN_PREFIXES):
            await self._admit(context, method)
        yield

    async def outgoing(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Let a stream last no longer than what its caller was let in by."""
        async with aclosing(messages):  # type: ignore[type-var]
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None
            why: ServiceError | None = None
            # whether the task waits for a message of ours, and not for gRPC to write one: only here
            # it can be told why
            inside = False
            last: asyncio.TimerHandle | None = None

            def end(reason: ServiceError) -> None:
                nonlocal why, last
                if why is None:
                    why = reason
                    if inside:
                        task.cancel()
                    else:
                        last = loop.call_later(UNREAD_S, task.cancel)

            principal = current.get().principal
            let_go = self._doorkeeper.hold(principal, end) if principal is not None else _nothing
            try:
                while why is None:
                    inside = True
                    message = await anext(messages, _END)
                    inside = False
                    if message is _END:
                        return
                    yield message
                raise why
            except asyncio.CancelledError:
                if why is None or not inside:
                    raise
                task.uncancel()
                raise why from None
            finally:
                let_go()
                if last is not None:
                    last.cancel()

    async def _admit(self, context: Context, method: str) -> None:
        caller = current.get()
        metadata = caller.metadata
        scheme, rest = _credentials(metadata)
        if method.startswith(AGENT_PREFIX):
            uid = str(metadata.get(AGENT_UID, ""))
            await self._doorkeeper.agent(uid, rest if scheme == "bearer" else "")
            caller.agent_uid, caller.user = uid, f"agent:{uid}"
        elif method.startswith(EDGE_PREFIXES):
            await self._doorkeeper.edge(rest if scheme == "bearer" else "")
            caller.edge, caller.user = True, "edge"
        else:
            if certificate := _certificate(context):
                if scheme:
                    raise _two_ways()
                scheme, rest = CLIENT_CERTIFICATE, certificate
            caller.principal = await self._doorkeeper.principal(scheme, rest, caller.peer.address)
            caller.user = caller.principal.user


def _told(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return metadata by key; credentials that are sent twice as all of them, which are none: what
    stands before the server may have looked at others than it would."""
    told = dict(pairs := tuple(pairs))
    shown = [value for key, value in pairs if key == AUTHORIZATION]
    return {**told, AUTHORIZATION: shown} if len(shown) > 1 else told


def _credentials(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Return scheme, in lower case, and value of what a caller sent."""
    value = metadata.get(AUTHORIZATION, "")
    if isinstance(value, list):
        raise _refused(f"there are {len(value)} values of {AUTHORIZATION}; send one")
    if not isinstance(value, str) or len(value) > MAX_CREDENTIALS:
        raise CredentialsInvalid
    scheme, _, rest = value.partition(" ")
    return scheme.lower(), rest.strip()


def _certificate(context: Context) -> str:
    """Return what a caller has shown in TLS, as authenticators read it; empty at listeners that ask
    for no certificate, whatever headers say."""
    told = context.auth_context()
    leaf = told.get("x509_pem_cert")
    if not leaf:
        return ""
    return _chain(leaf[0], (told.get("x509_pem_cert_chain") or [b""])[0])


@functools.lru_cache(maxsize=1024)
def _chain(leaf: bytes, whole: bytes) -> str:
    """Return certificates in PEM as base64 joined by dots, the caller's own first."""
    own, more = _base64(leaf), _base64(whole)
    return ".".join([*own[:1], *(one for one in more if one not in own[:1])])


def _base64(pem: bytes) -> list[str]:
    blocks = pem.decode("ascii", "replace").split("-----BEGIN CERTIFICATE-----")[1:]
    return ["".join(one.partition("-----END")[0].split()) for one in blocks]


def _two_ways() -> CredentialsInvalid:
    """Return what a caller is told who shows a certificate and credentials."""
    return _refused(
        f"the client certificate says who calls here; send no {AUTHORIZATION} with it, or send that"
        " to the gateway's usual address"
    )


def _refused(why: str) -> CredentialsInvalid:
    refused = CredentialsInvalid()
    refused.args = (f"The sign-in is refused: {why}.",)
    return refused


def _nothing() -> None:
    """Let go of nothing."""
