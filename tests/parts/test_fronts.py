"""Control, dashboards and computing through what stands in front of an edge in real life."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import dask.config
import pytest
from distributed import Client

from gateway import Gateway, GatewayCluster, WatchEvent, wire
from gateway.client.calls.channel import uses_http
from gateway.client.dask import comm
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.parts import fronts
from tests.parts.fronts import PREFIX
from tests.ports import free_port

AUTH = (USER, PASSWORD)


@dataclass
class Front:
    """A gateway behind something."""

    address: str
    gateway: GatewayProcess
    only_http: bool


def _nginx(strip: bool) -> Callable[[pathlib.Path, int, int], Any]:
    return lambda directory, edge, port: fronts.nginx(
        directory, fronts.nginx_http(edge, strip=strip, port=port), port
    )


# How each is started, and the path it serves the gateway below. Those with a path pass nothing but
# HTTP/1.1.
FRONTS: dict[str, tuple[Callable[[pathlib.Path, int, int], Any], str]] = {
    "nginx": (_nginx(False), PREFIX),
    "nginx-stripping": (_nginx(True), PREFIX),
    "jupyterhub-proxy": (fronts.configurable_http_proxy, PREFIX),
    "nginx-stream": (
        lambda directory, edge, port: fronts.nginx(
            directory, fronts.nginx_stream(edge, port), port
        ),
        "",
    ),
    "haproxy-tcp": (
        lambda directory, edge, port: fronts.haproxy(
            directory, fronts.haproxy_tcp(edge, port), port
        ),
        "",
    ),
}


@contextlib.contextmanager
def a_gateway(
    directory: pathlib.Path, address: str, *settings: str
) -> Iterator[tuple[GatewayProcess, int]]:
    """Serve a gateway that its users know by another address than its edge's; yield it and the
    edge's port."""
    gateway = GatewayProcess(
        directory,
        f"c.DaskGateway.public_url = {address!r}",
        "c.Proxy.trusted_proxies = ['127.0.0.1']",
        *settings,
    )
    gateway.start()
    try:
        yield (
            gateway,
            int(
                json.loads((directory / "state" / "edge.json").read_text())["address"].rpartition(
                    ":"
                )[2]
            ),
        )
    finally:
        gateway.stop()
        for pid in gateway.processes():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module", params=FRONTS)
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """A gateway behind each of them."""
    start, prefix = FRONTS[request.param]
    port = free_port()
    address = f"http://127.0.0.1:{port}{prefix}"
    with a_gateway(tmp_path_factory.mktemp("gateway"), address) as (gateway, edge):
        with start(tmp_path_factory.mktemp("front"), edge, port):
            yield Front(address, gateway, bool(prefix))


@pytest.fixture(scope="module")
def cluster(front: Front) -> Iterator[GatewayCluster]:
    """A cluster with a worker that is reached through the front alone."""
    with GatewayCluster("behind", gateway=Gateway(front.address, auth=AUTH), n_workers=1) as made:
        assert made.scheduler_address.startswith(f"dgw://{front.address.removeprefix('http://')}/")
        yield made


def test_it_computes(front: Front, cluster: GatewayCluster) -> None:
    with Client(cluster) as client:
        client.wait_for_workers(1, timeout=60)
        assert client.submit(sum, range(101)).result(timeout=30) == 5050
        data = b"x" * 20_000_000
        assert (
            client.submit(lambda piece: piece + b"!", client.scatter(data)).result(timeout=60)
            == data + b"!"
        )
        assert uses_http(cluster.gateway.connection.settings) is front.only_http
        place = wire.parse_scheduler_address(cluster.scheduler_address)
        assert ((place.host, place.port) in comm._tunnel_until) is front.only_http


def test_a_plain_client_computes_in_a_process_that_imports_nothing_of_ours(
    front: Front, cluster: GatewayCluster
) -> None:
    program = (
        "import sys\n"
        "from distributed import Client\n"
        f"with Client({cluster.scheduler_address!r}, timeout=30) as client:\n"
        "    print(client.submit(sum, [1, 2, 3]).result(timeout=30))\n"
    )
    environment = front.gateway.environment() | {
        "DASKGATEWAY_ADDRESS": "",
        "PYTHONWARNINGS": "error::ResourceWarning",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "6"
    assert done.stderr == ""


def test_logs_and_watches_come_through(front: Front, cluster: GatewayCluster) -> None:
    gateway = cluster.gateway
    assert "Scheduler at:" in gateway.get_logs("behind", ["scheduler"])["scheduler"]
    seen: list[str] = []
    enough = threading.Event()

    def follow() -> None:
        for told in gateway.watch(clusters=["behind"]):
            if isinstance(told, WatchEvent):
                seen.append(told.cluster.name)
                if len(seen) > 1:
                    enough.set()
                    return

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    size = 1
    while not enough.wait(2.0):
        size = 3 - size
        gateway.scale_cluster("behind", size)
    following.join(10)
    assert set(seen) == {"users/alice/clusters/behind"}
    gateway.scale_cluster("behind", 1)


def test_the_command_line(front: Front, cluster: GatewayCluster) -> None:
    words = [sys.executable, "-m", "gateway", "clusters"]
    environment = front.gateway.environment() | {"DASKGATEWAY_ADDRESS": front.address}
    listed = subprocess.run(
        [*words, "list"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert "alice/behind" in listed.stdout, listed.stderr
    logs = subprocess.run(
        [*words, "logs", "behind", "scheduler"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Scheduler at:" in logs.stdout, logs.stderr


async def test_a_dashboard_and_its_websocket_come_through(
    front: Front, cluster: GatewayCluster
) -> None:
    link = await asyncio.to_thread(cluster.gateway.dashboard_url, "behind")
    assert link.startswith(f"{front.address}/clusters/{cluster.uid}/status?ticket=")
    assert cluster.dashboard_link == f"{front.address}/clusters/{cluster.uid}/status"
    origin = front.address.removesuffix(PREFIX)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(cluster.dashboard_link, headers={"Accept": "text/html"}) as answer:
            assert answer.status == 401
            assert (
                f'action="{link.partition("?")[0].removeprefix(origin).removesuffix("status")}login"'
                in await answer.text()
            )
        async with browser.get(link) as answer:
            assert answer.status == 200
            page = await answer.text()
            assert str(answer.url) == cluster.dashboard_link
        assert "Bokeh" in page
        async with browser.get(
            cluster.dashboard_link.replace("status", "static/js/bokeh.min.js")
        ) as answer:
            assert answer.status == 200
            assert len(await answer.read()) > 100_000
        token = page.partition('"token":"')[2].partition('"')[0]
        socket = cluster.dashboard_link.replace("http", "ws", 1) + "/ws"
        async with browser.ws_connect(socket, protocols=["bokeh", token], origin=origin) as talk:
            async with asyncio.timeout(30):
                while "ACK" not in str((await talk.receive()).data):
                    pass
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await browser.ws_connect(
                socket, protocols=["bokeh", token], origin="https://evil.example"
            )


@pytest.mark.parametrize("strip", [False, True])
def test_behind_tls_that_a_front_proxy_ends(tmp_path: pathlib.Path, strip: bool) -> None:
    """A direct connection meets the proxy's certificate, which is not the scheduler's; cookies are
    for https alone."""
    port = free_port()
    address = f"https://127.0.0.1:{port}{PREFIX}"
    certificate = fronts.self_signed(tmp_path)
    for name in ("gateway", "front"):
        (tmp_path / name).mkdir()
    with a_gateway(tmp_path / "gateway", address) as (_, edge):
        configuration = fronts.nginx_http(edge, strip=strip, port=port, certificate=certificate)
        with (
            fronts.nginx(tmp_path / "front", configuration, port),
            dask.config.set({"gateway.ca-file": str(certificate[0])}),
        ):
            with (
                GatewayCluster("tls", gateway=Gateway(address, auth=AUTH), n_workers=1) as cluster,
                Client(cluster) as client,
            ):
                assert client.submit(sum, [20, 22]).result(timeout=60) == 42
                ticket = cluster.gateway.dashboard_url("tls")
                asked = ["curl", "-s", "-i", "-m", "20", "--cacert", str(certificate[0]), ticket]
                assert (
                    "; Secure"
                    in subprocess.run(asked, capture_output=True, text=True, timeout=30).stdout
                )
