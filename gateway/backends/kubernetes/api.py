"""Calls to the API of Kubernetes: who calls and how is what the `kubernetes` package reads of a
kubeconfig or of the pod that this runs in; what is said is plain JSON.

Every call has a deadline. What gets no answer is BackendUnavailable; an answer that is no success
is a `refusals.Refusal`. 429 is waited for as the API wishes, within the deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from gateway.backends.contract import BackendUnavailable
from gateway.backends.kubernetes.refusals import Kind, Refusal, refusal

JSON, APPLY = "application/json", "application/apply-patch+yaml"
MAX_BODY_BYTES = 64 * 2**20  # of one answer
MAX_LINE_BYTES = 8 * 2**20  # of one event of a watch: an object of Kubernetes has 1.5 MiB at most
BUSY_S = 1.0  # before it is asked again, where the API does not say

Query = Sequence[tuple[str, str]]


class Api:
    """A connection to one cluster of Kubernetes."""

    def __init__(
        self, client: Any, *, timeout_s: float, concurrency: int, own_namespace: str
    ) -> None:
        self._client, self._timeout_s = client, timeout_s
        self._turns = asyncio.Semaphore(concurrency)
        self.own_namespace = own_namespace  # of the account that calls
        self.calls = 0  # that were made

    async def close(self) -> None:
        """End the connections."""
        await self._client.close()
        await asyncio.sleep(0)  # so that what was let go of is closed

    async def call(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: object = None,
        *,
        kind: str = JSON,
        read: bool = True,
    ) -> Any:
        """Return what the API answers, as JSON. `read`: False passes over it: the deletion of many
        is answered with all of them, and to read that holds up the event loop for nothing."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        async with self._turns:
                            async with self._answer(method, path, query, body, kind=kind) as answer:
                                return decoded(await _body(answer, read) or b"null")
                    except Refusal as error:
                        if error.kind is not Kind.BUSY:
                            raise
                        busy = error
                    await asyncio.sleep(busy.retry_after_s or BUSY_S)
        except TimeoutError:
            raise BackendUnavailable(
                f"Kubernetes has not answered {method} {path} within {self._timeout_s:g} s"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise BackendUnavailable(f"Kubernetes does not answer: {_words(error)}") from None

    @asynccontextmanager
    async def stream(
        self, path: str, query: Query = (), *, silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the pieces of an answer that goes on, until it ends or has said nothing for so
        long."""
        try:
            async with self._answer("GET", path, query, silence_s=silence_s) as answer:
                yield _pieces(answer)
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnavailable(f"Kubernetes does not answer: {_words(error)}") from None

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Query,
        body: object = None,
        *,
        kind: str = JSON,
        silence_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        self.calls += 1
        try:
            words = await self._client.param_serialize(
                method=method,
                resource_path=path,
                query_params=list(query),
                header_params={"Accept": JSON, "Content-Type": kind},
                body=body,
                auth_settings=["BearerToken"],
            )
        except Exception as error:  # the package reads the token anew once a minute
            raise BackendUnavailable(
                f"what Kubernetes knows the gateway by cannot be read: {_words(error)}"
            ) from None
        timeout = aiohttp.ClientTimeout(
            total=self._timeout_s if silence_s is None else None,
            connect=self._timeout_s,
            sock_read=silence_s,
        )
        told = await self._client.call_api(*words, _request_timeout=timeout)
        answer: aiohttp.ClientResponse = told.response
        try:
            if answer.status >= 300:
                raise refusal(
                    answer.status, await _body(answer), answer.headers.get("Retry-After", "")
                )
            yield answer
        finally:
            # what is not read to its end is not used again
            if answer.content.at_eof():
                answer.release()
            else:
                _let_go(answer)


def _let_go(answer: aiohttp.ClientResponse) -> None:
    """End an answer that goes on. At once: TLS would wait until the other end says goodbye too, and
    a busy one would keep the connection open beyond the end of this event loop."""
    connection = answer.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    answer.close()


async def _body(answer: aiohttp.ClientResponse, keep: bool = True) -> bytes:
    found = bytearray()
    async for piece in answer.content.iter_any():
        if keep:
            found += piece
        if len(found) > MAX_BODY_BYTES:
            raise ValueError(f"an answer of more than {MAX_BODY_BYTES} bytes")
    return bytes(found)


def decoded(text: bytes) -> Any:
    """Return JSON as what it says; ValueError. Meanwhile Python's collector does nothing: it would
    look through all that has just been made, of which nothing can be garbage yet."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return json.loads(text)
    finally:
        if collects:
            gc.enable()


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for piece in answer.content.iter_any():
        yield piece


async def lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of pieces; BackendUnavailable for one that is far too long."""
    held = bytearray()
    async for piece in pieces:
        held += piece
        *whole, rest = bytes(held).split(b"\n") if b"\n" in piece else (held,)
        for line in whole:
            yield bytes(line)
        held = bytearray(rest)
        if len(held) > MAX_LINE_BYTES:
            raise BackendUnavailable(f"an event of more than {MAX_LINE_BYTES} bytes")


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


async def connected(kubeconfig: str, context: str, *, timeout_s: float, concurrency: int) -> Api:
    """Return a connection, as the kubeconfig (a path) or, without, the pod that this runs in says;
    BackendUnavailable with what is wrong with it."""
    try:
        # takes 2 s and 50 MiB, so only where it is needed
        client, config = await asyncio.to_thread(_package)
    except ImportError as error:
        raise BackendUnavailable(
            f"backend kubernetes needs the package kubernetes"
            f" (pip install 'dask-gateway-grpc[kubernetes]'): {error}"
        ) from None
    configuration = client.Configuration()
    configuration.connection_pool_maxsize = concurrency + 64  # watches and logs beside calls
    namespace = ""
    try:
        if kubeconfig:
            await config.load_kube_config(
                config_file=kubeconfig,
                context=context or None,
                client_configuration=configuration,
            )
            namespace = await asyncio.to_thread(_context_namespace, config, kubeconfig, context)
        else:
            config.load_incluster_config(client_configuration=configuration)
            namespace = await asyncio.to_thread(_pod_namespace)
    except Exception as error:
        where = kubeconfig or "this pod's service account"
        raise BackendUnavailable(
            f"{where} does not say how to reach Kubernetes: {_words(error)}"
        ) from None
    return Api(
        client.ApiClient(configuration),
        timeout_s=timeout_s,
        concurrency=concurrency,
        own_namespace=namespace or "default",
    )


def _package() -> tuple[Any, Any]:
    from kubernetes.aio import client, config

    return client, config


def _context_namespace(config: Any, kubeconfig: str, context: str) -> str:
    contexts, active = config.list_kube_config_contexts(config_file=kubeconfig)
    for one in contexts:
        if one["name"] == (context or active["name"]):
            return str(one.get("context", {}).get("namespace") or "")
    return ""


def _pod_namespace() -> str:
    with contextlib.suppress(OSError):
        with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace") as file:
            return file.read().strip()
    return ""


def pods(namespace: str, name: str = "") -> str:
    """Return the path of pods, or of one."""
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")


def secrets(namespace: str, name: str) -> str:
    """Return the path of a Secret."""
    return f"/api/v1/namespaces/{namespace}/secrets/{name}"


def budgets(namespace: str, name: str) -> str:
    """Return the path of a disruption budget."""
    return f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/{name}"


def services(namespace: str, name: str) -> str:
    """Return the path of a Service."""
    return f"/api/v1/namespaces/{namespace}/services/{name}"


def events(namespace: str) -> str:
    """Return the path of events."""
    return f"/api/v1/namespaces/{namespace}/events"


def deletion(grace_s: int) -> dict[str, object]:
    """Return the body of a deletion: what depends on it goes after it."""
    return {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "gracePeriodSeconds": grace_s,
        "propagationPolicy": "Background",
    }
