"""Connections of Dask and of tunnels through the site's HTTP proxy, where only that leads out."""

from __future__ import annotations

import ssl
from typing import Any

from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpclient import TCPClient

from gateway.client.calls.forward_proxy import MAX_ANSWER_BYTES, ForwardProxy, unreached
from gateway.wire import host_port


class ProxiedClient(TCPClient):
    """Tornado's client, whose connections go through a proxy."""

    def __init__(self, proxy: ForwardProxy) -> None:
        super().__init__()
        self._proxy = proxy

    async def connect(  # type: ignore[override]
        self,
        host: str,
        port: int,
        *_: Any,
        ssl_options: ssl.SSLContext | None = None,
        max_buffer_size: int | None = None,
        **__: Any,
    ) -> IOStream:
        """Return a stream to a host, with TLS inside if options are given; OSError says why there
        is none."""
        proxy = self._proxy
        try:
            stream = await super().connect(proxy.host, proxy.port, max_buffer_size=max_buffer_size)
        except OSError as error:
            raise unreached(proxy, error) from error
        try:
            await stream.write(proxy.request(host, port))
            head = await stream.read_until(b"\r\n\r\n", max_bytes=MAX_ANSWER_BYTES)
            proxy.check(head, host_port(host, port))
            if ssl_options is None:
                return stream
            return await stream.start_tls(False, ssl_options=ssl_options, server_hostname=host)
        except StreamClosedError as error:
            raise OSError(
                f"{proxy} has closed the connection to {host_port(host, port)}"
                f"{f': {error.real_error}' if error.real_error else ''}"
            ) from error
        except BaseException:
            stream.close()
            raise
