"""The comm scheme `dgw://host:port/uid`: how Dask's own classes reach a scheduler behind the edge.

TLS from end to end with the scheduler itself; the SNI in its first message tells the edge where to. Works in a process that imports
nothing of ours: Dask finds it by entry point, and it gets its credentials by itself.
"""

from __future__ import annotations

import ssl
from typing import Any

from distributed.comm.core import Connector, FatalCommClosedError
from distributed.comm.registry import Backend
from distributed.comm.tcp import MAX_BUFFER_SIZE, TLS, BaseTCPConnector, convert_stream_closed_error, get_stream_address
from tornado.iostream import StreamClosedError

from gateway import wire
from gateway.client import credentials, settings
from gateway.client.channel import Connection, in_thread


class GatewayConnector(Connector):
    """Connects to a scheduler."""

    async def connect(self, address: str, deserialize: bool = True, **connection_args: Any) -> TLS:
        """Return a comm to `host:port/uid`."""
        target = wire.parse_scheduler_address(address)
        context = connection_args.get("ssl_context")
        if isinstance(context, ssl.SSLContext):
            context.check_hostname = True
        else:
            found = await in_thread(lambda: credentials.kept(connection_for(target), target.uid))
            context = found.ssl_context()
        try:
            stream = await BaseTCPConnector.client.connect(target.host, target.port, max_buffer_size=int(MAX_BUFFER_SIZE))
            stream = await stream.start_tls(False, ssl_options=context, server_hostname=wire.server_name(target.uid))
            if stream.closed() and stream.error:
                raise StreamClosedError(stream.error)
        except StreamClosedError as error:
            if isinstance(error.real_error, ssl.SSLError) and _unknown(error.real_error):
                raise OSError(f"the gateway knows no way to cluster {target.uid} now") from error
            convert_stream_closed_error(self, error)
        except ssl.SSLCertVerificationError as error:
            raise FatalCommClosedError(f"{address}: this is not the scheduler of cluster {target.uid}: {error}") from error
        except ssl.SSLError as error:
            if _unknown(error):
                raise OSError(f"the gateway knows no way to cluster {target.uid} now") from error
            raise FatalCommClosedError(f"{address}: {error}") from error
        return TLS(stream, "tls://" + get_stream_address(stream), f"{wire.SCHEME}://{address}", deserialize)


def _unknown(error: ssl.SSLError) -> bool:
    """Whether the edge has refused the name (alert unrecognized_name, RFC 6066): the cluster may be back in a moment."""
    return "UNRECOGNIZED_NAME" in str(error).upper()


def connection_for(target: wire.SchedulerAddress) -> Connection:
    """Return a connection to the gateway that a scheduler's address belongs to.

    The configured one, if there is one; else the same host and port, with TLS as configured there or guessed from the port.
    """
    try:
        return Connection(settings.load())
    except ValueError:
        scheme = "https" if target.port == 443 else "http"
        host = f"[{target.host}]" if ":" in target.host else target.host
        return Connection(settings.load(f"{scheme}://{host}:{target.port}"))


class GatewayBackend(Backend):
    """The scheme, as Dask wants it."""

    def get_connector(self) -> GatewayConnector:
        return GatewayConnector()

    def get_listener(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError("nothing can listen on dgw://; it is how clients reach a scheduler behind the gateway")

    def get_address_host(self, loc: str) -> str:
        return wire.parse_scheduler_address(loc).host

    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        target = wire.parse_scheduler_address(loc)
        return target.host, target.port

    def resolve_address(self, loc: str) -> str:
        return loc

    def get_local_address_for(self, loc: str) -> str:
        return loc
