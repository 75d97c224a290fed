"""What an edge has counted and what is open in it now, read together when somebody asks."""

from __future__ import annotations

from gateway.proxy.counting.counts import Counts, Gauges, as_numbers
from gateway.proxy.door.admission import Admission
from gateway.proxy.door.listener import Listener
from gateway.proxy.http.tunnel import Tunnel
from gateway.proxy.http2.connections import Http2Server
from gateway.proxy.relay.carrier import Carrier
from gateway.proxy.routes.routes import RouteTable


def read(
    counts: Counts,
    admission: Admission,
    listener: Listener,
    http2: Http2Server,
    carrier: Carrier,
    tunnel: Tunnel,
    routes: RouteTable,
) -> dict[str, float]:
    """Return everything that is counted, by name."""
    relays = list(carrier.relays)
    gauges = Gauges(
        connections=admission.present,
        connections_allowed=admission.capacity.connections,
        newcomers=listener.newcomers,
        sessions=len(http2.sessions),
        relays=len(relays),
        tunnels=tunnel.count,
        half_closed=sum(relay.half_closed for relay in relays),
        pipes_leased=carrier.pipes.leased,
        pipe_leases_refused=carrier.pipes.refused,
        bytes_up=counts.bytes_up + sum(relay.client.carried for relay in relays),
        bytes_down=counts.bytes_down + sum(relay.upstream.carried for relay in relays),
        routes=len(routes),
        routes_age_s=routes.age_s,
        server_connected=int(routes.connected),
    )
    return as_numbers(counts, gauges)
