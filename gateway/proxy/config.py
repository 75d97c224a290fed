"""What an administrator may set for the edge."""

from __future__ import annotations

from traitlets import Bool, Enum, Float, Int, List, Unicode
from traitlets.config import Configurable

from gateway.configfile import LogLevel
from gateway.files import default_state_dir
from gateway.networks import DEFAULT_NETWORKS
from gateway.proxy.problems import hints, problems


class Proxy(Configurable):
    """The edge: the one public port."""

    address = Unicode("127.0.0.1:8000", help="host:port to listen on; port 0: any free one.").tag(
        config=True
    )
    tls_cert = Unicode(
        "",
        help="PEM file with the certificate chain for gRPC, browsers and HTTP clients; read again"
        " when it changes.",
    ).tag(config=True)
    tls_key = Unicode("", help="PEM file with the key of tls_cert.").tag(config=True)
    insecure_ok = Bool(
        False, help="Serve HTTP without TLS beyond loopback. Passwords then travel in clear text."
    ).tag(config=True)
    prefix = Unicode(
        "",
        help="Path that a front proxy serves the edge below, such as /services/daskgateway; empty:"
        " that of DaskGateway.public_url.",
    ).tag(config=True)
    trusted_proxies = List(
        Unicode(),
        help="Networks of front proxies, such as 10.0.0.0/8, that are believed what they say of a"
        " caller's address and scheme.",
    ).tag(config=True)
    forwarded_by = Enum(
        ["x-forwarded", "forwarded"],
        "x-forwarded",
        help="Headers that trusted_proxies write: X-Forwarded-For/-Proto/-Host or Forwarded.",
    ).tag(config=True)
    allowed_origins = List(
        Unicode(),
        help="Origins, such as https://hub.example.org, whose pages may open WebSockets, log in"
        " and change something on"
        " dashboards, besides the edge's own.",
    ).tag(config=True)
    server_address = Unicode(
        help="The server, for all calls and for routes: unix:/path of server.sock in its"
        " state_dir, which nobody else may be able to write"
        " to, or https://host:port of its listener.",
    ).tag(config=True)
    server_ca = Unicode(
        "", help="PEM bundle that an https server_address is verified by; empty: the system's."
    ).tag(config=True)
    token_file = Unicode(
        "",
        help="File with the edge's token, which the server made (edge.token in its state_dir)."
        " Mode 0600.",
    ).tag(config=True)
    state_dir = Unicode(
        help="Directory of what the edge keeps: last known routes, the key of its sessions. Made"
        " 0700."
    ).tag(config=True)
    mtls_name = Unicode(
        "",
        help="Name by which callers reach the server's listener for client certificates; told by"
        " the server where it starts this edge. TLS to that name is relayed untouched.",
    ).tag(config=True)
    mtls_address = Unicode(
        "", help="host:port of that listener (c.MutualTlsAuthenticator.address)."
    ).tag(config=True)
    max_connections = Int(
        15_000,
        min=1,
        help="Connections that one process serves at a time; more wait unaccepted until some end."
        " No more than the limit on open files"
        " permits (RLIMIT_NOFILE, two for each): with fewer the edge says so, with less than 64 it"
        " does not start.",
    ).tag(config=True)
    max_connections_per_address = Int(
        5_000,
        min=1,
        help="Connections of one client address (of IPv6: one network of 64 bits) that one process"
        " serves at a time; more are closed."
        " A JupyterHub, or a balancer before the edge, is one address.",
    ).tag(config=True)
    max_connections_per_cluster = Int(
        2_000,
        min=1,
        help="Connections to one cluster's scheduler, tunnels too, that one process serves at a"
        " time; more are closed. Those to mtls_name count like a cluster's.",
    ).tag(config=True)
    max_newcomers = Int(
        6_000,
        min=1,
        help="Connections that have not yet said what they want; the oldest gives way.",
    ).tag(config=True)
    max_pipes = Int(
        32,
        min=0,
        max=1024,
        help="Pipes of 1 MiB that one process may lease to bulk transfers, two descriptors each."
        " Those who get none are copied."
        " Unless root, a user may have fs.pipe-user-pages-soft / 256 of them in all (64 by"
        " default).",
    ).tag(config=True)
    loopback_congestion = Unicode(
        "reno",
        help="TCP congestion control of bulk transfers to peers on this machine, where nothing"
        " congests; empty: the system's. One that"
        " paces, such as bbr, halves their throughput.",
    ).tag(config=True)
    scheduler_networks = List(
        Unicode(),
        default_value=list(DEFAULT_NETWORKS),
        help="Networks (CIDR) in which schedulers and dashboards may be; what a cluster reports"
        " elsewhere is not routed to. Name those of"
        " your nodes: where none are named, all private ones are permitted, or with no backend but"
        " the local one loopback alone."
        " Link-local addresses and the gateway's own ports are never routed to, the edge's own"
        " machine only for backends that are `local`.",
    ).tag(config=True)
    admin_address = Unicode(
        "",
        help="host:port where Prometheus finds /metrics, and probes /healthz, without login, such"
        " as 127.0.0.1:9101; empty: nowhere.",
    ).tag(config=True)
    own_ports = List(
        Int(min=1, max=65535),
        help="Ports of this machine besides the gateway's own, which it knows, that no scheduler"
        " or dashboard may be said to be at.",
    ).tag(config=True)
    processes = Int(
        1,
        min=1,
        max=256,
        help="Processes that share the port; each has the limits above for itself.",
    ).tag(config=True)
    hello_timeout_s = Float(
        5.0, min=0.1, help="Seconds for a connection to say what it wants."
    ).tag(config=True)
    connect_timeout_s = Float(
        10.0, min=0.1, help="Seconds to reach a scheduler or the server."
    ).tag(config=True)
    linger_s = Float(
        60.0,
        min=0.1,
        help="Seconds that a connection whose one side has ended may be silent before it is"
        " closed.",
    ).tag(config=True)
    session_s = Float(
        12 * 3600.0,
        min=60,
        help="Seconds from a sign-in on that a browser stays logged in to a dashboard, and that a"
        " lost tunnel is let in again while the"
        " server is away. Nothing makes it longer.",
    ).tag(config=True)
    drain_s = Float(5.0, min=0, help="Seconds that relays may go on after SIGTERM.").tag(
        config=True
    )
    max_body_bytes = Int(
        1024 * 1024, min=1024, help="Largest body of an HTTP request, in bytes."
    ).tag(config=True)
    header_timeout_s = Float(
        10.0, min=0.1, help="Seconds for an HTTP request's head, and for a TLS handshake."
    ).tag(config=True)
    message_timeout_s = Float(
        20.0,
        min=0.1,
        help="Seconds for one message of a gRPC call to be whole, from its beginning or that of"
        " its call.",
    ).tag(config=True)
    body_timeout_s = Float(60.0, min=0.1, help="Seconds for an HTTP request's body.").tag(
        config=True
    )
    keepalive_timeout_s = Float(
        75.0, min=1, help="Seconds that an idle HTTP connection is kept."
    ).tag(config=True)
    max_idle_http_connections = Int(
        1_000,
        min=1,
        help="HTTP connections of one process beyond which idle ones are closed, the longest idle"
        " first: each takes a tenth of a megabyte with TLS.",
    ).tag(config=True)
    answer_timeout_s = Float(
        60.0, min=0.1, help="Seconds for a dashboard to begin its answer."
    ).tag(config=True)
    max_tunnels = Int(
        2_000,
        min=0,
        help="Tunnels (scheduler connections in WebSockets) at a time; 0: none are served.",
    ).tag(config=True)
    max_tunnels_per_cluster = Int(200, min=1, help="Tunnels to one cluster at a time.").tag(
        config=True
    )
    user = Unicode(
        "",
        help="Account (name or number) of an edge that a server starts as root; empty:"
        " `daskgateway` where there is such an account, else a"
        " number that nobody has. The edge gives all other rights up, but for binding ports below"
        " 1024.",
    ).tag(config=True)
    log_level = LogLevel(
        help="What the edge logs to standard error; by default INFO, or what"
        " c.DaskGateway.log_level says where a server starts it.",
    ).tag(config=True)
    reuse_port = Bool(False, help="Let several edges share the port (SO_REUSEPORT).").tag(
        config=True
    )

    def problems(self, *, beside_server: bool = False) -> list[str]:
        """Return what is wrong with the settings, one line each, as far as they and the files that
        they name tell. `beside_server`: whether a server starts this edge, and tells it the way to
        itself."""
        return problems(self, beside_server=beside_server)

    def hints(self) -> list[str]:
        """Return what works and is not what anybody wants, one line each."""
        return hints(self)

    def _log_level_default(self) -> str:
        return str(self.config.get("DaskGateway", {}).get("log_level", "INFO"))

    def _state_dir_default(self) -> str:
        return str(default_state_dir() / "edge")

    def _server_address_default(self) -> str:
        return f"unix:{default_state_dir() / 'server.sock'}"
