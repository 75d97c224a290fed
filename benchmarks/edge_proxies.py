"""The proxies that are compared, each started on a port of its own, pinned to one core, leading to
the same far end."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.edge_parts import BUILD, OUR_NAME, PEER_ID, UID, Parts, free_port

PROXY_CORE, ENDPOINT_CORE = "1", "0"
READY_S = 20.0


@dataclass(slots=True)
class Running:
    """A proxy that runs; `direct` has none."""

    name: str
    port: int
    hello: pathlib.Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the pid of the process that does the work."""
        return self.process.pid if self.process is not None else 0

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def pinned(core: str, *command: str) -> list[str]:
    """Return a command that runs on one core."""
    return ["taskset", "-c", core, *command]


def start_far_end(found: Parts) -> tuple[subprocess.Popen[bytes], int]:
    """Start what all proxies lead to; return it and its port."""
    port = free_port()
    return subprocess.Popen(pinned(ENDPOINT_CORE, str(found.load), "serve", str(port))), port


def direct(found: Parts, far_end: int) -> Running:
    """No proxy."""
    return Running("direct", far_end, found.our_hello)


def go(found: Parts, far_end: int) -> Running:
    """dask-gateway's proxy, which asks an API for its routes."""
    return _serving(_go(found, far_end)[0])


def go_http(found: Parts, dashboard: int) -> Running:
    """The same, for its dashboards."""
    running, port = _go(found, dashboard)
    return Running(running.name, port, running.hello, running.process)


def _go(found: Parts, far_end: int) -> tuple[Running, int]:
    """Start it; return it and its port for HTTP."""
    port, http_port = free_port(), free_port()
    addresses = ["-address", f"127.0.0.1:{http_port}", "-tcp-address", f"127.0.0.1:{port}"]
    words = [str(found.go), *addresses, "-api-url", _peer_routes(far_end), "-log-level", "error"]
    return _start(
        Running("go", port, found.peer_hello), words, DASK_GATEWAY_PROXY_TOKEN="t"
    ), http_port


def haproxy(found: Parts, far_end: int) -> Running:
    """HAProxy, made to splice both ways."""
    port, names = free_port(), BUILD / "haproxy.map"
    names.write_text(f"{OUR_NAME} scheduler\n")
    config = BUILD / "haproxy.cfg"
    splice = "  option splice-request\n  option splice-response\n"
    config.write_text(
        "global\n  nbthread 1\n  maxconn 4000\n  tune.pipesize 1048576\n"
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n"
        f"frontend public\n  bind 127.0.0.1:{port}\n  tcp-request inspect-delay 5s\n"
        "  tcp-request content accept if { req.ssl_hello_type 1 }\n"
        f"  use_backend %[req.ssl_sni,lower,map({names},none)]\n{splice}"
        f"backend scheduler\n  server one 127.0.0.1:{far_end}\n{splice}"
        "backend none\n  server none 127.0.0.1:9\n"
    )
    return _serving(
        _start(
            Running("haproxy", port, found.our_hello),
            [found.haproxy, "-db", "-q", "-f", str(config)],
        )
    )


def nginx(found: Parts, far_end: int) -> Running:
    """nginx's stream module with buffers of 256 KiB."""
    port, config = free_port(), BUILD / "nginx.conf"
    config.write_text(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nworker_processes 1;\ndaemon"
        " off;\nmaster_process off;\n"
        f"pid {BUILD}/nginx.pid;\nerror_log {BUILD}/nginx.err error;\nevents {{ worker_connections"
        f" 19000; }}\nstream {{\n"
        f"  map $ssl_preread_server_name $to {{ {OUR_NAME} 127.0.0.1:{far_end}; default"
        f" 127.0.0.1:9; }}\n"
        f"  server {{ listen 127.0.0.1:{port} backlog=4096; ssl_preread on; proxy_pass $to;"
        f" proxy_timeout 10m;"
        " proxy_buffer_size 256k; tcp_nodelay on; }\n}\n"
    )
    return _serving(
        _start(Running("nginx", port, found.our_hello), [found.nginx, "-c", str(config), "-g", ""])
    )


def ours(found: Parts, far_end: int, name: str = "ours", *settings: str) -> Running:
    """This project's edge, with its routes from disk and no server."""
    port = free_port()
    return _serving(
        _start(
            Running(name, port, found.our_hello),
            edge_command(BUILD / name, port, far_end, *settings),
        )
    )


def ours_http(found: Parts, dashboard: int) -> Running:
    """The same, for its dashboards."""
    port = free_port()
    return _start(
        Running("ours", port, found.our_hello), edge_command(BUILD / "dashboards", port, dashboard)
    )


def edge_command(state: pathlib.Path, port: int, far_end: int, *settings: str) -> list[str]:
    """Return the command of an edge that knows one cluster."""
    state.mkdir(mode=0o700, exist_ok=True)
    (state / "token").write_text("t")
    route = [UID, "a", "b", ["127.0.0.1", far_end], ["127.0.0.1", far_end], True]
    (state / "routes.json").write_text(json.dumps({"ticket_keys": [], "routes": [route]}))
    words = {
        "address": f"127.0.0.1:{port}",
        "state_dir": str(state),
        "token_file": str(state / "token"),
        "server_address": f"unix:{state}/no.sock",
        "max_connections_per_cluster": "20000",
    }
    return [
        sys.executable,
        "-m",
        "gateway",
        "proxy",
        *(f"--Proxy.{name}={value}" for name, value in words.items()),
        *settings,
    ]


def _start(running: Running, command: list[str], **environment: str) -> Running:
    with (BUILD / f"{running.name}.log").open("wb") as log:
        running.process = subprocess.Popen(
            pinned(PROXY_CORE, *command), env={**os.environ, **environment}, stdout=log, stderr=log
        )
    return running


def _serving(running: Running) -> Running:
    """Wait until the far end is reached through a proxy."""
    until(lambda: echoes(running.port, running.hello), f"{running.name} serves", READY_S)
    return running


def echoes(port: int, hello: pathlib.Path) -> bool:
    """Whether a byte comes back from the far end."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as talk:
            talk.settimeout(1.0)
            talk.sendall(hello.read_bytes() + b"E" + bytes(15) + b"z")
            return talk.recv(1) == b"z"
    except OSError:
        return False


def until(holds: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Look again and again until something holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"not within {timeout_s:g} s: {what}; see {BUILD}")
        time.sleep(0.01)


class _Routes(http.server.BaseHTTPRequestHandler):
    """The API that dask-gateway's proxy asks."""

    protocol_version = "HTTP/1.1"
    far_end = 0  # for both kinds: each proxy is asked for one of them

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Answer with the one route, or never, to a watch."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if "watch" in self.path:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            threading.Event().wait()
        targets = [
            {
                "kind": "PATH",
                "path": f"/clusters/{UID}",
                "target": f"http://127.0.0.1:{self.far_end}",
            },
            {"kind": "SNI", "sni": PEER_ID, "target": f"tls://127.0.0.1:{self.far_end}"},
        ]
        body = json.dumps({"routes": targets, "id": 2}).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _peer_routes(far_end: int) -> str:
    _Routes.far_end = far_end
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Routes)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/api/v1/routes"
