"""Which addresses are reached through the site's HTTP proxy, and what is said where that lets
nobody through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import dask.config
import pytest
from daskgateway.v1 import cluster_service_pb2 as pb
from distributed.comm.core import FatalCommClosedError

from gateway.client.calls import api, errors, forward_proxy
from gateway.client.calls.channel import Connection
from gateway.client.calls.forward_proxy import proxy_for
from gateway.client.calls.settings import Settings, TokenAuth
from gateway.client.dask.comm import GatewayConnector
from gateway.client.dask.tunnel import open_tunnel

UID = "c" + "a" * 20
FAR = "https://gateway.example.org"
PROXY = "http://proxy.example.org:3128"


@pytest.mark.parametrize(
    ("address", "environment", "source"),
    [
        (FAR, {"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        (FAR, {"https_proxy": PROXY}, "https_proxy"),
        (FAR, {"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, "https_proxy"),
        (FAR, {"ALL_PROXY": PROXY}, "ALL_PROXY"),
        (FAR, {"HTTPS_PROXY": "proxy.example.org:3128"}, "HTTPS_PROXY"),
        (FAR, {"HTTPS_PROXY": "http://proxy.example.org"}, "HTTPS_PROXY"),  # its usual port
        (FAR, {"HTTP_PROXY": PROXY}, None),  # of http:// alone
        (FAR, {}, None),
        (FAR, {"HTTPS_PROXY": " "}, None),
        ("http://gateway.example.org:8000", {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY}, None),
        ("https://127.0.0.1:8000", {"HTTPS_PROXY": PROXY}, None),
        ("https://localhost", {"HTTPS_PROXY": PROXY}, None),
        ("unix:/run/server.sock", {"HTTPS_PROXY": PROXY}, None),
    ],
)
def test_the_environment_names_a_proxy_as_for_curl(
    address: str, environment: dict[str, str], source: str | None
) -> None:
    found = proxy_for(address, environment)
    if source is None:
        assert found is None
    else:
        assert found is not None
        assert (found.host, found.port, found.source) == ("proxy.example.org", 3128, source)


@pytest.mark.parametrize(
    ("host", "port", "exceptions", "excepted"),
    [
        ("gateway.example.org", 443, "*", True),
        ("gateway.example.org", 443, "gateway.example.org", True),
        ("gateway.example.org", 443, "example.org", True),
        ("gateway.example.org", 443, ".example.org", True),
        ("gateway.example.org", 443, "*.example.org", True),
        ("Gateway.Example.Org.", 443, "other, EXAMPLE.org ", True),
        ("gateway.example.org", 443, "other example.org", True),
        ("gateway.example.org", 443, "gateway.example.org:443", True),
        ("gateway.example.org", 443, "gateway.example.org:8000", False),
        ("gateway.example.org", 443, "ample.org", False),
        ("gateway.example.org", 443, "org.example", False),
        ("gateway.example.org", 443, "", False),
        ("gateway.example.org", 443, " , ", False),
        ("10.1.2.3", 443, "10.1.2.3", True),
        ("10.1.2.3", 443, "10.0.0.0/8", True),
        ("10.1.2.3", 443, "10.1.2.3/33", False),
        ("10.1.2.3", 443, "10.1.2.3:80", False),
        ("10.1.2.3", 443, "2.3", False),
        ("11.1.2.3", 443, "10.0.0.0/8", False),
        ("fd00::1", 443, "fd00::/8", True),
        ("fd00::1", 443, "fd00::1", True),
        ("fd00::1", 443, "[fd00::1]", True),
        ("fd00::1", 443, "[fd00::1]:443", True),
        ("fd00::1", 443, "[fd00::1]:80", False),
    ],
)
def test_no_proxy_names_what_is_reached_without(
    host: str, port: int, exceptions: str, excepted: bool
) -> None:
    assert forward_proxy.excepted(host, port, exceptions) is excepted
    shown = f"[{host}]" if ":" in host else host
    found = proxy_for(f"https://{shown}:{port}", {"HTTPS_PROXY": PROXY, "NO_PROXY": exceptions})
    assert (found is None) is excepted


def test_dasks_configuration_goes_before_the_environment() -> None:
    environment = {"HTTPS_PROXY": "http://other:1"}
    with dask.config.set({"gateway.http-client.proxy": PROXY}):
        found = proxy_for(FAR, environment)
        assert found is not None
        assert found.source == "gateway.http-client.proxy"
        assert proxy_for("http://gateway.example.org", {}) is not None  # it was asked for
        assert proxy_for(FAR, {"NO_PROXY": "example.org"}) is None
    with dask.config.set({"gateway.http-client.proxy": False}):
        assert proxy_for(FAR, environment) is None
    with dask.config.set({"gateway.http-client.proxy": True}):
        assert proxy_for(FAR, environment) is not None
    for section, host in (
        (False, None),
        (True, "other"),
        (PROXY, "proxy.example.org"),
        (7, "other"),
    ):
        with dask.config.set({"gateway.http-client": section}):
            found = proxy_for(FAR, environment)
            assert (found and found.host) == host


@pytest.mark.parametrize(
    "text",
    ["socks5://proxy:1080", "https://proxy:3129", "http://", "http://proxy:x", "http://proxy/x"],
)
def test_what_is_no_proxy_is_told_with_its_name_and_without_its_password(text: str) -> None:
    text = text.replace("://", "://ann:secret@", 1)
    with pytest.raises(ValueError, match=r"^HTTPS_PROXY: must look like") as caught:
        proxy_for(FAR, {"HTTPS_PROXY": text})
    assert "secret" not in str(caught.value)


def test_a_password_is_sent_and_never_shown() -> None:
    found = proxy_for(FAR, {"HTTPS_PROXY": "http://ann:s%40cret@proxy.example.org:3128"})
    assert found is not None
    # ann:s@cret
    assert b"\r\nProxy-Authorization: Basic YW5uOnNAY3JldA==\r\n" in found.request("h", 1)
    assert b"CONNECT [::1]:8000 HTTP/1.1\r\nHost: [::1]:8000\r\n" in found.request("::1", 8000)
    assert "cret" not in f"{found} {found!r}"


Answer = Callable[[bytes], Awaitable[bytes | None]]


@pytest.fixture
async def pretend(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Callable[[bytes], Awaitable[list[bytes]]]]:
    """A proxy that answers everything alike; what it was asked is returned."""
    servers = []

    async def start(answer: bytes) -> list[bytes]:
        asked: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
                writer.write(answer)
                await writer.drain()
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        return asked

    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield start
    for server in servers:
        server.close()


Pretend = Callable[[bytes], Awaitable[list[bytes]]]
REFUSALS = {
    b"HTTP/1.1 403 Forbidden\r\n\r\n": "403 Forbidden; it does not permit that host or port",
    b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n": "it wants credentials",
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n": "what answers there is no HTTP proxy",
}


@pytest.mark.parametrize("answer", REFUSALS)
@pytest.mark.parametrize("transport", ["auto", "http"])
async def test_a_call_ends_at_once_where_the_proxy_lets_nobody_through(
    pretend: Pretend, answer: bytes, transport: str
) -> None:
    asked = await pretend(answer)
    connection = Connection(Settings(FAR, TokenAuth("t"), transport=transport))
    began = time.monotonic()
    with pytest.raises(errors.Unreachable) as caught:
        await asyncio.to_thread(connection.call, api.LIST_CLUSTERS, pb.ListClustersRequest())
    assert time.monotonic() - began < 20  # and not the 30 s for which calls are tried again
    assert REFUSALS[answer] in str(caught.value)
    assert "(HTTPS_PROXY)" in str(caught.value)
    assert set(asked) == {b"CONNECT gateway.example.org:443 HTTP/1.1"}


@pytest.mark.parametrize("answer", REFUSALS)
async def test_a_scheduler_is_not_waited_for_where_the_proxy_lets_nobody_through(
    pretend: Pretend, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.client.dask.comm._ended", {})
    asked = await pretend(answer)
    import ssl

    context = ssl.create_default_context()
    with (
        dask.config.set({"gateway.address": FAR, "gateway.auth.token": "t"}),
        pytest.raises(FatalCommClosedError, match="HTTPS_PROXY"),
    ):
        await GatewayConnector().connect(f"gateway.example.org:443/{UID}", ssl_context=context)
    assert set(asked) == {b"CONNECT gateway.example.org:443 HTTP/1.1"}


async def test_a_tunnel_tells_what_the_proxy_says(pretend: Pretend) -> None:
    await pretend(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
    connection = Connection(Settings(FAR, TokenAuth("t")))
    with pytest.raises(OSError, match="502 Bad Gateway; it does not reach that host, or not now"):
        await open_tunnel(connection, UID)
