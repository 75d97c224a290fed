"""Where no waiting helps, a call ends at once with what is wrong and what would be right."""

from __future__ import annotations

import contextlib
import http.server
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
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

    answer: tuple[int, str, bytes] = (404, "text/html", b"")

    def do_GET(self) -> None:
        status, kind, body = self.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status == 302:
            self.send_header("Location", "https://hub.example.org/login?next=secret")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def listening(
    directory: pathlib.Path, *, tls: bool, answer: tuple[int, str, bytes] = Plain.answer
) -> Iterator[int]:
    """Serve HTTP, with TLS or without; yield the port."""
    kind = type("Answering", (Plain,), {"answer": answer})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
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


@pytest.mark.parametrize("path", ["", "/services/dask"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, "text/html", b"<html>not here</html>"), "(HTTP status 404)"),
        ((200, "text/html", b"<html>hello</html>"), "(HTTP status 200)"),
        ((200, "application/json", b"{}"), "(HTTP status 200)"),
        ((200, "application/proto", b"<html>hello</html>"), "(HTTP status 200)"),
        ((403, "application/json", b'{"message": 7}'), "(HTTP status 403)"),
        ((302, "text/html", b""), "302, it leads to https://hub.example.org/login)"),
    ],
)
def test_another_server_at_the_address_is_told_at_once(
    tmp_path: pathlib.Path, answer: tuple[int, str, bytes], said: str, path: str
) -> None:
    with listening(tmp_path, tls=False, answer=answer) as port:
        words, after_s = refusal(f"http://127.0.0.1:{port}{path}")
        assert f"what answers at http://127.0.0.1:{port}{path} is no gateway" in words
        assert said in words
        assert "from the argument address" in words
        assert "secret" not in words
        assert after_s < 20


@pytest.mark.parametrize("transport", ["auto", "http"])
@pytest.mark.parametrize("status", [500, 503])
def test_what_fails_before_the_gateway_is_named_without_grpcs_words(
    tmp_path: pathlib.Path, transport: str, status: int
) -> None:
    with listening(tmp_path, tls=False, answer=(status, "text/html", b"<html>")) as port:
        address = f"http://127.0.0.1:{port}"
        connection = Connection(
            Settings(address, TokenAuth("t"), insecure_ok=True, transport=transport, retry_s=0.5)
        )
        with pytest.raises(errors.GatewayError) as caught:
            connection.call(api.LIST_CLUSTERS, pb.ListClustersRequest())
    assert address in str(caught.value)
    assert "SETTINGS" not in str(caught.value)


def test_who_wants_grpc_alone_is_told_that_nobody_there_speaks_it(tmp_path: pathlib.Path) -> None:
    with listening(tmp_path, tls=False) as port:
        words, after_s = refusal(f"http://127.0.0.1:{port}", "grpc")
        assert "does not speak HTTP/2, as gRPC must" in words
        assert "gateway.transport" in words
        assert after_s < 20


@pytest.mark.parametrize("transport", ["auto", "grpc"])
def test_another_service_of_grpc_is_told(transport: str) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        words, after_s = refusal(f"http://127.0.0.1:{port}", transport)
        assert f"what answers at http://127.0.0.1:{port} is no gateway (Method not found!)" in words
        assert after_s < 20
    finally:
        server.stop(None).wait()


def test_a_stream_of_another_server_is_told(tmp_path: pathlib.Path) -> None:
    for answer in ((200, "text/html", b"<html>"), (404, "text/html", b"")):
        with listening(tmp_path, tls=False, answer=answer) as port:
            settings = Settings(
                f"http://127.0.0.1:{port}/dask", TokenAuth("t"), insecure_ok=True, transport="http"
            )
            with pytest.raises(errors.NoGateway, match="is no gateway"):
                Connection(settings).stream(api.WATCH_CLUSTERS, pb.WatchClustersRequest())


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


UNTRUSTED = """
import sys
from daskgateway import Gateway
from daskgateway.errors import Unavailable
from gateway.client.calls import channel
for _ in range(2):
    try:
        Gateway(sys.argv[1], auth=("alice", "pw")).list_clusters()
    except Unavailable as error:
        assert "is not trusted" in str(error), error
assert not channel._channels  # one that is left would connect again and again
"""


def test_a_certificate_that_is_not_trusted_leaves_no_channel_and_no_words_of_grpc(
    tmp_path: pathlib.Path,
) -> None:
    with listening(tmp_path, tls=True) as port:
        command = [sys.executable, "-c", UNTRUSTED, f"https://127.0.0.1:{port}"]
        environment = {key: one for key, one in os.environ.items() if key != "GRPC_VERBOSITY"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
