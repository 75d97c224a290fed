"""All interceptors as one to gRPC: what is composed for a method is composed once, not with every
call.

gRPC asks every interceptor for a handler with each call, and each makes closures anew: about 20 µs
apiece, a tenth of what the whole call costs. The order is that of the list, from the outside in.
Knows nothing of what they do.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any

from grpc_interceptor.server import AsyncServerInterceptor

Method = Any  # (request or its iterator, context) → an awaitable, or an async generator


class Chain(AsyncServerInterceptor):
    """Interceptors in their order."""

    def __init__(self, interceptors: Sequence[AsyncServerInterceptor]) -> None:
        self._interceptors = tuple(interceptors)
        self._handlers: dict[str, Any] = {}  # of gRPC, by method: bounded by the methods there are
        self._composed: dict[str, Method] = {}

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler of a method, the same for every call."""
        name = handler_call_details.method
        handler = self._handlers.get(name)
        if handler is None:
            handler = await super().intercept_service(continuation, handler_call_details)  # type: ignore[no-untyped-call]
            # a method that does not exist is not remembered: there is no end of them
            if handler is not None:
                self._handlers[name] = handler
        return handler

    def intercept(
        self, method: Method, request_or_iterator: Any, context: Any, method_name: str
    ) -> Any:
        composed = self._composed.get(method_name)
        if composed is None:
            composed = self._composed[method_name] = self._compose(method, method_name)
        return composed(request_or_iterator, context)

    def _compose(self, method: Method, name: str) -> Method:
        streams = inspect.isasyncgenfunction(method)
        if not streams and not inspect.iscoroutinefunction(method):
            method = _awaitable(method)
        for interceptor in reversed(self._interceptors):
            method = (
                _stream(interceptor, method, name)
                if streams
                else functools.partial(_call, interceptor, method, name)
            )
        return method


def _awaitable(method: Method) -> Method:
    async def call(request: Any, context: Any) -> Any:
        return method(request, context)

    return call


def _call(
    interceptor: AsyncServerInterceptor, inner: Method, name: str, request: Any, context: Any
) -> Any:
    return interceptor.intercept(inner, request, context, name)


def _stream(interceptor: AsyncServerInterceptor, inner: Method, name: str) -> Method:
    async def outer(request: Any, context: Any) -> AsyncIterator[Any]:
        messages = await interceptor.intercept(inner, request, context, name)
        try:
            async for message in messages:
                yield message
        finally:
            await messages.aclose()

    return outer
