"""What a connection is for: decided in one place, by its first bytes, and handed at once to whoever
serves that.

`purpose_of` is the decision, a function over what is known; `Sorter` acts on it. A relayed
connection goes from here to the carrier and never comes back: the carrier lets its place go.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from socket import SocketType
from typing import Any

from gateway.networks import Destination, Everywhere
from gateway.proxy.counting.counts import Counts
from gateway.proxy.door.admission import Admission
from gateway.proxy.door.client_hello import (
    Hello,
    Http1,
    Http2,
    Verdict,
    unrecognized_name_alert,
)
from gateway.proxy.door.doorway import Doorway
from gateway.proxy.http.certificate import ServedCertificate
from gateway.proxy.relay.carrier import Carrier
from gateway.proxy.routes.routes import Route, RouteTable
from gateway.proxy.sockets.farewell import refuse
from gateway.wire import uid_of_server_name

NO_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nthis"
    b" port speaks TLS: use https\n"
)


# in place of a cluster's uid, of connections to the server's listener for client certificates
CERTIFIED = "client certificates"


@dataclass(frozen=True, slots=True)
class Mutual:
    """The server's listener for client certificates: the name by which it is called, empty if there
    is none, and where it is."""

    name: str = ""
    target: Destination = Destination("", 0)


class Purpose(enum.Enum):
    """What a connection is for."""

    SCHEDULER = enum.auto()  # TLS with a cluster's name: relayed untouched
    MUTUAL = enum.auto()  # TLS with the name of the server's listener for certificates: the same
    TLS = enum.auto()  # TLS with another name or none: ended here; what is spoken is agreed on then
    HTTP1 = enum.auto()  # in clear text
    HTTP2 = enum.auto()  # in clear text
    CLEAR = enum.auto()  # HTTP/1 in clear text, where only TLS is served: told so
    # refused without a word: TLS where there is no certificate, and HTTP/2 in clear text where only
    # TLS is served. Neither would understand an answer.
    UNSPEAKABLE = enum.auto()


def purpose_of(
    verdict: Hello | Http1 | Http2, *, routed: bool, secure: bool, mutual: str = ""
) -> Purpose:
    """Return what a connection is for. `routed`: its server name is that of a cluster that is
    routed to; `secure`: this port has a certificate; `mutual`: the name of the listener for client
    certificates, empty if there is none."""
    match verdict:
        case Hello(name):
            if name and name == mutual:
                return Purpose.MUTUAL
            if routed or uid_of_server_name(name) is not None:
                return Purpose.SCHEDULER
            return Purpose.TLS if secure else Purpose.UNSPEAKABLE
        case Http1():
            return Purpose.CLEAR if secure else Purpose.HTTP1
        case Http2():
            return Purpose.UNSPEAKABLE if secure else Purpose.HTTP2


class Sorter:
    """Hands connections to whoever serves them."""

    def __init__(
        self,
        routes: RouteTable,
        admission: Admission,
        counts: Counts,
        carrier: Carrier,
        doorway: Doorway,
        certificate: ServedCertificate,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        mutual: Mutual = Mutual(),
    ) -> None:
        """`spawn` runs what is served here as a task of its own."""
        self._mutual, self._anywhere = mutual, Everywhere()
        self._routes = routes
        self._admission = admission
        self._counts = counts
        self._carrier = carrier
        self._doorway = doorway
        self._certificate = certificate
        self._spawn = spawn

    def serve(self, newcomer: SocketType, verdict: Verdict, address: str) -> None:
        """Serve a connection that has said what it wants. Its address was let in, and leaves when
        the connection is over."""
        assert isinstance(verdict, Hello | Http1 | Http2)
        counts = self._counts
        route = self._routes.named(verdict.server_name) if isinstance(verdict, Hello) else None
        context = self._certificate.context
        match purpose_of(
            verdict,
            routed=route is not None,
            secure=context is not None,
            mutual=self._mutual.name,
        ):
            case Purpose.MUTUAL:
                counts.to_mutual += 1
                self._relay_to_server(newcomer, address)
            case Purpose.SCHEDULER:
                counts.to_scheduler += 1
                self._relay(newcomer, route, address)
            case Purpose.TLS:
                counts.to_https += 1
                self._spawn(self._doorway.admit(newcomer, context, address, http2=False))
            case Purpose.HTTP1:
                counts.to_http += 1
                self._spawn(self._doorway.admit(newcomer, None, address, http2=False))
            case Purpose.HTTP2:
                counts.to_http2 += 1
                self._spawn(self._doorway.admit(newcomer, None, address, http2=True))
            case Purpose.CLEAR:
                self._turn_away(newcomer, address, NO_TLS)
            case Purpose.UNSPEAKABLE:
                self._turn_away(newcomer, address, b"")

    def _relay(self, newcomer: SocketType, route: Route | None, address: str) -> None:
        """Have it relayed; what runs, ran or never was is nobody's business, so all are refused
        alike."""
        if route is None:
            self._counts.refused_unknown += 1
        elif self._admission.join(route.uid):
            self._carrier.carry(newcomer, route.target, (address, route.uid))
            return
        else:
            self._counts.refused_cluster += 1
        refuse(newcomer, unrecognized_name_alert())
        self._admission.leave(address)

    def _relay_to_server(self, newcomer: SocketType, address: str) -> None:
        """Have it relayed to the listener for client certificates, where TLS ends."""
        if self._admission.join(CERTIFIED):
            place = (address, CERTIFIED)
            self._carrier.carry(newcomer, self._mutual.target, place, self._anywhere)
            return
        self._counts.refused_cluster += 1
        refuse(newcomer, unrecognized_name_alert())
        self._admission.leave(address)

    def _turn_away(self, newcomer: SocketType, address: str, words: bytes) -> None:
        self._counts.refused_clear += 1
        refuse(newcomer, words)
        self._admission.leave(address)
