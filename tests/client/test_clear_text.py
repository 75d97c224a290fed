"""Passwords and tokens do not travel in clear text unless that was asked for, and go nowhere that
they were not sent to."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator

import dask
import pytest
from click.testing import CliRunner
from daskgateway.v1 import cluster_service_pb2 as pb
from distributed import Client

from gateway import Gateway, GatewayCluster
from gateway.__main__ import main
from gateway.client.calls import api, errors, http_calls, settings
from gateway.client.calls.channel import Connection
from gateway.client.calls.settings import Auth, BasicAuth, Settings, TokenAuth
from gateway.client.dask.tunnel import open_tunnel

AFAR = "http://gateway.example.org:8000"
UID = "c" + "a" * 20


@pytest.fixture(autouse=True)
def nobody_configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No configuration of whoever runs the tests."""
    for name in ("ADDRESS", "TOKEN", "USER", "PASSWORD", "INSECURE_OK"):
        monkeypatch.delenv(f"DASKGATEWAY_{name}", raising=False)
    with dask.config.set({"gateway.auth.token-file": None}):
        yield


HERE = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "127.0.0.1",
    "127.8.8.8",
    "127.1",
    "2130706433",
    "[::1]",
    "[::ffff:127.0.0.1]",
]
ELSEWHERE = [
    "gateway.example.org",
    "10.0.0.7",
    "localhost.example.org",
    "127.0.0.1.example.org",
    "example.localhost",
    "[2001:db8::1]",
    "0.0.0.0",
]


@pytest.mark.parametrize("host", HERE)
def test_what_stays_on_this_machine_is_sent(host: str) -> None:
    assert (
        settings.load(f"http://{host}:8000", ("alice", "secret"))
        .authorization()
        .startswith("Basic ")
    )


@pytest.mark.parametrize("host", ELSEWHERE)
def test_what_leaves_it_without_tls_is_not(host: str) -> None:
    with pytest.raises(errors.InsecureAddress, match="DASKGATEWAY_INSECURE_OK") as caught:
        settings.load(f"http://{host}:8000", ("alice", "secret"))
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("address", [AFAR, "gateway.example.org", "dgw://gateway.example.org:8000"])
def test_whatever_way_credentials_come_they_are_held_back(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    for given in ("dgw_api_x_y", ("alice", "secret"), BasicAuth("alice", "secret"), TokenAuth("t")):
        with pytest.raises(errors.InsecureAddress):
            Gateway(address, auth=given)
        with pytest.raises(errors.InsecureAddress):
            GatewayCluster(gateway=address, auth=given)
    with (
        dask.config.set({"gateway.auth.user": "alice", "gateway.auth.password": "secret"}),
        pytest.raises(errors.InsecureAddress),
    ):
        Gateway(address)
    monkeypatch.setenv("DASKGATEWAY_TOKEN", "t")
    with pytest.raises(errors.InsecureAddress):
        Gateway(address)


def test_https_unix_sockets_and_nobody_are_let_be() -> None:
    for address in ("https://gateway.example.org", "unix:/run/gateway.sock"):
        assert settings.load(address, "token").authorization() == "Bearer token"
    assert settings.load(AFAR).authorization() == ""


class LateAuth(Auth):
    """Says who calls only when asked."""

    def header(self) -> str:
        return "Negotiate secret"


def test_settings_that_were_made_otherwise_are_checked_with_every_call() -> None:
    connection = Connection(Settings(AFAR, LateAuth(), retry_s=0.0))
    for wish in (
        lambda: connection.call(api.GET_CLUSTER, pb.GetClusterRequest()),
        lambda: connection.stream(api.WATCH_CLUSTERS, pb.WatchClustersRequest()),
    ):
        with pytest.raises(errors.InsecureAddress):
            wish()

    with pytest.raises(errors.InsecureAddress):
        asyncio.run(_tunnel(connection))


async def _tunnel(connection: Connection) -> None:
    await open_tunnel(connection, UID)


@pytest.mark.parametrize("word", ["true", "1", "Yes"])
def test_it_can_be_permitted(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with dask.config.set({"gateway.insecure-ok": word}):
        assert settings.load(AFAR, "token").authorization() == "Bearer token"
    monkeypatch.setenv("DASKGATEWAY_INSECURE_OK", word)
    assert settings.load(AFAR, "token").authorization() == "Bearer token"
    monkeypatch.setenv("DASKGATEWAY_INSECURE_OK", "perhaps")
    with pytest.raises(ValueError, match="must be true or false"):
        settings.load(AFAR, "token")
    monkeypatch.setenv("DASKGATEWAY_INSECURE_OK", "no")
    with pytest.raises(errors.InsecureAddress):
        settings.load(AFAR, "token")


def test_the_command_line_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKGATEWAY_TOKEN", "dgw_api_x_y")
    done = CliRunner().invoke(main, ["clusters", "list", "--address", AFAR])
    assert done.exit_code != 0
    assert done.output.startswith(
        "daskgateway: http://gateway.example.org:8000 is reached without TLS"
    )
    assert "dgw_api" not in done.output


async def test_a_scheduler_by_its_address_alone_is_not_reached_with_credentials_in_clear_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DASKGATEWAY_TOKEN", "dgw_api_x_y")
    with pytest.raises(OSError, match="DASKGATEWAY_INSECURE_OK"):
        await Client(f"dgw://gateway.example.org:8000/{UID}", asynchronous=True, timeout=5)


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Sends everybody to another place, and keeps what they brought."""

    to = ""
    brought: list[dict[str, str]]

    def do_GET(self) -> None:
        self.brought.append({key.lower(): value for key, value in self.headers.items()})
        self.send_response(302)
        self.send_header("Location", self.to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_CONNECT = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def places() -> Iterator[tuple[type[Elsewhere], type[Elsewhere], str]]:
    """Two servers, of which the first sends to the second, and the first one's address."""
    servers, handlers, threads = [], [], []
    for name in ("First", "Second"):
        handler = type(name, (Elsewhere,), {"brought": []})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threads.append(threading.Thread(target=server.serve_forever))
        threads[-1].start()
        servers.append(server)
        handlers.append(handler)
    handlers[0].to = f"http://127.0.0.1:{servers[1].server_port}/"  # type: ignore[attr-defined]
    yield handlers[0], handlers[1], f"http://127.0.0.1:{servers[0].server_port}"
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


async def test_credentials_are_carried_nowhere_else_by_a_redirect(
    places: tuple[type[Elsewhere], type[Elsewhere], str],
) -> None:
    first, second, address = places
    there = Settings(address, BasicAuth("alice", "secret"), transport="http", retry_s=0.0)
    headers = {"authorization": there.authorization()}
    with pytest.raises(errors.GatewayError):
        await asyncio.to_thread(
            http_calls.unary, there, api.GET_CLUSTER, pb.GetClusterRequest(), headers, 5.0
        )
    with pytest.raises(errors.GatewayError):
        await asyncio.to_thread(
            http_calls.EventStream, there, api.WATCH_CLUSTERS, pb.WatchClustersRequest(), headers
        )
    with pytest.raises(OSError, match="302"):
        await open_tunnel(Connection(there), UID)
    assert ["authorization" in brought for brought in first.brought] == [True] * 3
    assert second.brought == []


def test_no_proxy_of_the_environment_sees_what_has_no_tls(
    places: tuple[type[Elsewhere], type[Elsewhere], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, address = places
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, address)
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(errors.GatewayError):
        Connection(Settings("http://127.0.0.1:1", TokenAuth("t"), timeout_s=2.0, retry_s=0.0)).call(
            api.GET_CLUSTER, pb.GetClusterRequest()
        )
    assert first.brought == []
