"""The edge is nobody's way to other services: what it carries to a scheduler begins as TLS for that
cluster, and targets are judged."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from daskgateway.internal.v1 import route_pb2

from gateway.proxy.door.client_hello import MAX_HELLO_BYTES, unrecognized_name_alert
from gateway.wire import server_name
from tests.proxy.served import ALICE, OTHER, SIGNER, UID, Served, a_dashboard, serving, ticket
from tests.proxy.test_client_hello import real_hello

HELLO = real_hello(server_name(UID))


class Service:
    """A service of the edge's machine that is no scheduler, and greets whoever connects."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        try:
            while piece := await reader.read(65536):
                self.heard += piece
        except ConnectionError:
            pass
        writer.close()
        self.ended.set()


@pytest.fixture
async def served(tmp_path: pathlib.Path) -> AsyncIterator[Served]:
    """An edge that is soon impatient."""
    async with serving(tmp_path, hello_timeout_s=0.5) as made:
        yield made


@pytest.fixture
async def service(served: Served) -> AsyncIterator[Service]:
    """What alice's agent says that her scheduler is."""
    made = Service()
    server = await asyncio.start_server(made, "127.0.0.1", 0)
    served.add_routes(server.sockets[0].getsockname()[1])
    yield made
    server.close()


async def said(served: Served, *pieces: bytes, silent_s: float = 5.0) -> bytes:
    """Say something into a tunnel; return all that comes out of it until it is closed, or nothing
    more comes."""
    received = b""
    async with aiohttp.ClientSession() as caller:
        async with caller.ws_connect(
            f"{served.address}/tunnel/{UID}", headers={"Authorization": ALICE}
        ) as talk:
            for piece in pieces:
                await talk.send_bytes(piece)
            try:
                async with asyncio.timeout(silent_s):
                    while (message := await talk.receive()).type is aiohttp.WSMsgType.BINARY:
                        received += message.data
            except TimeoutError:
                pass
    return received


@pytest.mark.parametrize(
    "pieces",
    [
        (b"GET / HTTP/1.1\r\n\r\n",),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",),
        (b"\x00\x01\x02",),
        (real_hello(server_name(OTHER)),),  # another cluster's name
        (real_hello("localhost"),),
        (real_hello(f"{UID}.daskgateway.example.org"),),
        # with more in its record than itself
        (HELLO[:3] + (len(HELLO) - 4).to_bytes(2, "big") + HELLO[5:] + b"x",),
        # longer than any is read
        (b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + b"x" * MAX_HELLO_BYTES,),
        (*(bytes([number]) for number in HELLO[:200]), b""),  # the end in its middle
        (),  # nothing at all
        (HELLO[:100],),  # its beginning, and then silence
    ],
)
async def test_what_is_no_hello_for_that_cluster_reaches_no_service_and_hears_nothing_of_it(
    served: Served, service: Service, pieces: tuple[bytes, ...]
) -> None:
    received = await said(served, *pieces)
    async with asyncio.timeout(10):
        await service.ended.wait()
    assert service.heard == b""
    assert received in (b"", unrecognized_name_alert())
    assert served.edge.numbers()["tunnels"] == 0


@pytest.mark.parametrize("cut", [1, 5, 9, 44, len(HELLO) - 1, len(HELLO)])
async def test_a_hello_for_that_cluster_and_all_that_follows_passes_untouched(
    served: Served, service: Service, cut: int
) -> None:
    rest = bytes(range(256)) * 2000
    received = await said(
        served, HELLO[:cut], HELLO[cut:] + rest[:10], rest[10:], b"", silent_s=2.0
    )
    async with asyncio.timeout(10):
        await service.ended.wait()
    assert service.heard == HELLO + rest
    assert received == b"220 ready\r\n"


def routes_without_a_word_of_where(served: Served, port: int, host: str) -> None:
    """Tell the edge of alice's cluster, which no backend of this machine runs."""
    route = route_pb2.Route(
        uid=UID, scheduler_address=f"{host}:{port}", dashboard_address=f"{host}:{port}"
    )
    served.edge.routes.apply(
        route_pb2.RouteUpdate(snapshot=True, routes=[route], ticket_keys=[SIGNER.public_key])
    )


async def page(_: web.Request) -> web.Response:
    """Answer."""
    return web.Response(text="a page of this machine")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"])
async def test_this_machines_own_addresses_are_only_for_clusters_that_run_on_it(
    tmp_path: pathlib.Path, host: str
) -> None:
    everywhere = ["0.0.0.0/0", "::/0"]
    async with (
        serving(tmp_path, scheduler_networks=everywhere) as served,
        a_dashboard(served, [web.get("/{path:.*}", page)]) as port,
    ):
        routes_without_a_word_of_where(served, port, host)
        async with aiohttp.ClientSession() as caller:
            headers: Any = {"Authorization": ALICE}
            async with caller.get(
                f"{served.dashboard}/x?ticket={ticket()}", headers=headers
            ) as answer:
                assert answer.status in (404, 502)
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await caller.ws_connect(f"{served.address}/tunnel/{UID}", headers=headers)
            assert refused.value.status in (404, 502)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(HELLO)
        assert await reader.read(-1) == unrecognized_name_alert()
        writer.close()
        assert served.seen == []
