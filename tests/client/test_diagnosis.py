"""Where no waiting helps, a call ends at once with what is wrong and what would be right."""

from __future__ import annotations

import contextlib
import http.server
import pathlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from daskgateway.v1 import cluster_service_pb2 as pb

from gateway.client.calls import api, errors
from gateway.client.calls.channel import Connection
from gateway.client.calls.diagnosis import hopeless
from gateway.client.calls.settings import Settings, TokenAuth
from tests.parts.fronts import self_signed

VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own configuration."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


class Plain(http.server.BaseHTTPRequestHandler):
    """A server that is no gateway."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def listening(directory: pathlib.Path, *, tls: bool) -> Iterator[int]:
    """Serve HTTP, with TLS or without; yield the port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Plain)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self_signed(directory))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refusal(address: str, transport: str = "auto") -> tuple[str, float]:
    """Return what a call to an address says, and after how many seconds."""
    connection = Connection(
        Settings(address, TokenAuth("t"), insecure_ok=True, transport=transport)
    )
    began = time.monotonic()
    with pytest.raises(errors.Unreachable) as caught:
        connection.call(api.LIST_CLUSTERS, pb.ListClustersRequest())
    return str(caught.value), time.monotonic() - began


@pytest.mark.parametrize("transport", ["auto", "grpc", "http"])
@pytest.mark.parametrize("address", ["https://gatway.invalid", "http://gatway.invalid:8000"])
def test_a_mistyped_host_is_told_at_once(
    address: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def unknown(host: object, *words: object, **more: object) -> object:
        if host == "gatway.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    words, after_s = refusal(address, transport)
    assert "there is no host 'gatway.invalid'" in words
    assert address in words
    assert "the address is from the argument address" in words
    assert after_s < 20  # and not 30


@pytest.mark.parametrize("transport", ["auto", "grpc", "http"])
def test_http_to_a_port_that_speaks_tls_is_told_with_the_right_address(
    tmp_path: pathlib.Path, transport: str
) -> None:
    with listening(tmp_path, tls=True) as port:
        words, after_s = refusal(f"http://127.0.0.1:{port}", transport)
        assert f"127.0.0.1:{port} speaks TLS: use https://127.0.0.1:{port}" in words
        assert after_s < 20


@pytest.mark.parametrize("transport", ["auto", "grpc", "http"])
def test_https_to_a_port_that_does_not_is_told_too(tmp_path: pathlib.Path, transport: str) -> None:
    with listening(tmp_path, tls=False) as port:
        words, after_s = refusal(f"https://127.0.0.1:{port}/hub", transport)
        assert f"does not speak TLS: use http://127.0.0.1:{port}/hub" in words
        assert after_s < 20


def test_what_may_pass_is_waited_for(tmp_path: pathlib.Path) -> None:
    """Nobody listens, or nobody says anything yet."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert hopeless(f"http://127.0.0.1:{port}") == ""
        silent.listen()
        assert hopeless(f"http://127.0.0.1:{port}") == ""
        assert hopeless(f"https://127.0.0.1:{port}") == ""
    assert hopeless("unix:/run/server.sock") == ""
    with listening(tmp_path, tls=True) as port:
        assert hopeless(f"https://127.0.0.1:{port}") == ""
    with listening(tmp_path, tls=False) as port:
        assert hopeless(f"http://127.0.0.1:{port}") == ""
