"""All interceptors as one to gRPC: what is around a method is composed once, not with every call.

gRPC asks every interceptor for a handler with each call, which costs more than all of ours do
together; so it is given one, which keeps the handlers. The order is that of the list, from the
outside in. Knows nothing of what they do.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import Any

from grpc_interceptor.server import AsyncServerInterceptor

Context = Any  # grpc.aio.ServicerContext, whose type is generic in the messages
Method = Callable[[Any, Context], Any]  # of a request, or the iterator of those that are streamed
Answer = Callable[[Any, Context], Awaitable[Any]]


class Interceptor(AsyncServerInterceptor):
    """Holds something around a whole call, whether its answer is one message (`call`) or a stream
    (`around`). By itself it is an interceptor like any other; in a `Chain` it costs less."""

    async def intercept(
        self, method: Method, request_or_iterator: Any, context: Context, method_name: str
    ) -> Any:
        """Answer a call as the only interceptor (the interface of grpc-interceptor)."""
        return await Chain([self]).intercept(method, request_or_iterator, context, method_name)

    async def call(self, method: Answer, name: str, request: Any, context: Context) -> Any:
        """Answer a call whose answer is one message. Plain code: a context manager costs several
        times as much."""
        raise NotImplementedError

    def around(
        self, request: Any, context: Context, name: str
    ) -> AbstractAsyncContextManager[None]:
        """Return what is held around a stream."""
        raise NotImplementedError

    def incoming(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Return what a caller streams, as the method is to see it."""
        return requests

    def outgoing(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Return what a method streams, as the caller is to see it."""
        return messages


class Chain(AsyncServerInterceptor):
    """Interceptors in their order, as the one that gRPC knows."""

    def __init__(
        self, interceptors: Sequence[Interceptor], unknown: Callable[[str], Any] = lambda name: None
    ) -> None:
        """`unknown` returns the handler of a method that there is not, by its name."""
        self._interceptors, self._unknown = tuple(interceptors), unknown
        self._handlers: dict[str, Any] = {}  # by method: bounded by the methods there are

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler of a method, the same for every call."""
        name = handler_call_details.method
        handler = self._handlers.get(name)
        if handler is None:
            handler = await continuation(handler_call_details)
            if handler is None:  # it is not remembered: there is no end of them
                return self._unknown(name)
            handler = self._handlers[name] = composed(self._interceptors, handler, name)
        return handler

    async def intercept(
        self, method: Method, request_or_iterator: Any, context: Context, method_name: str
    ) -> Any:
        """Answer one call (the interface of grpc-interceptor)."""
        streams = inspect.isasyncgenfunction(method)
        if hasattr(request_or_iterator, "__aiter__"):
            method = _reading(self._interceptors, method)
        if streams:
            return _stream(self._interceptors, method, method_name)(request_or_iterator, context)
        return await _call(self._interceptors, method, method_name)(request_or_iterator, context)


def composed(interceptors: Sequence[Interceptor], handler: Any, name: str) -> Any:
    """Return a method's handler with all interceptors around the method."""
    kind = next(
        kind
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        if getattr(handler, kind) is not None
    )
    method: Method = getattr(handler, kind)
    streams = inspect.isasyncgenfunction(method)
    if handler.request_streaming:
        method = _reading(interceptors, method)
    return handler._replace(**{kind: (_stream if streams else _call)(interceptors, method, name)})


def _reading(interceptors: Sequence[Interceptor], method: Method) -> Method:
    def read(requests: AsyncIterator[Any], context: Context) -> Any:
        for interceptor in interceptors:
            requests = interceptor.incoming(requests)
        return method(requests, context)

    return read


def _call(interceptors: Sequence[Interceptor], method: Method, name: str) -> Answer:
    async def last(request: Any, context: Context) -> Any:
        answer = method(request, context)
        return await answer if inspect.isawaitable(answer) else answer

    inner: Answer = method if inspect.iscoroutinefunction(method) else last
    for interceptor in reversed(interceptors):
        inner = functools.partial(interceptor.call, inner, name)

    async def call(request: Any, context: Context) -> Any:  # which gRPC knows for what it is
        return await inner(request, context)

    return call


def _stream(
    interceptors: Sequence[Interceptor], method: Method, name: str
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        async with AsyncExitStack() as held:
            for interceptor in interceptors:
                await held.enter_async_context(interceptor.around(request, context, name))
            messages = method(request, context)
            for interceptor in reversed(interceptors):
                messages = interceptor.outgoing(messages)
            await held.enter_async_context(aclosing(messages))
            async for message in messages:
                yield message

    return stream
