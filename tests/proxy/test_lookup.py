"""Names of schedulers and dashboards: one that is never answered is nobody else's trouble, and
answers are kept for a while."""

from __future__ import annotations

import asyncio
import pathlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from daskgateway.internal.v1 import route_pb2

from gateway.networks import Destination, Destinations, parse_networks
from gateway.proxy.app import Edge
from gateway.proxy.routes import lookup
from gateway.proxy.routes.lookup import Names, Resolver
from gateway.wire import server_name
from tests.proxy.served import ALICE, OTHER, SIGNER, UID, a_dashboard, raw, serving
from tests.proxy.test_client_hello import real_hello
from tests.proxy.test_relay import Start, port_of, start
from tests.waiting import comes, until

__all__ = ["start"]  # a fixture

ALERT = bytes([21, 3, 3, 0, 2, 2, 112])
ANYWHERE = Destinations(parse_networks(["0.0.0.0/0"]), ())


class Resolving:
    """The system's resolver: names that begin with `slow` are not answered before the end, others
    by the book."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.book: dict[str, Any] = {}
        self.end = threading.Event()
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not isinstance(name, str) or not name.endswith(".test"):
            return self._real(host, port, *rest, **named)
        self.asked[name] += 1
        if name.startswith("slow"):
            self.end.wait(30)
        found = self.book.get(name, socket.gaierror(socket.EAI_NONAME, "no such name"))
        if isinstance(found, BaseException):
            raise found
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in found
        ]


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolving]:
    """The resolver in the system's place."""
    made = Resolving()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.end.set()
    until(lambda: not threads(), "all look-ups have ended")


def threads() -> list[threading.Thread]:
    """Return those in which names are looked up."""
    return [thread for thread in threading.enumerate() if thread.name == "lookup"]


async def answer(edge: Edge, uid: str) -> bytes:
    """Return what a client of a cluster is told first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(edge))
    writer.write(real_hello(server_name(uid)))
    try:
        return await reader.read(7)
    finally:
        writer.close()


async def test_a_name_that_is_never_answered_keeps_nobody_elses_cluster_away(
    start: Start, resolving: Resolving
) -> None:
    async def here(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here")
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(here, "127.0.0.1", 0)
    edge = await start(1, connect_timeout_s=20.0)
    resolving.book["good.test"] = ["127.0.0.1"]
    routes = [
        route_pb2.Route(uid=UID, local=True, scheduler_address=f"good.test:{port_of(server)}"),
        route_pb2.Route(uid=OTHER, local=True, scheduler_address="slow.test:8786"),
    ]
    edge.routes.apply(route_pb2.RouteUpdate(snapshot=True, routes=routes))
    waiting = [asyncio.ensure_future(answer(edge, OTHER)) for _ in range(40)]
    await comes(lambda: resolving.asked["slow.test"])
    async with asyncio.timeout(5):
        assert await answer(edge, UID) == b"here"
    assert resolving.asked["slow.test"] == 1
    resolving.end.set()
    assert await asyncio.gather(*waiting) == [ALERT] * 40
    await comes(lambda: not edge.admission.present)
    server.close()


async def test_a_fault_of_a_look_up_refuses_the_client_and_is_logged(
    start: Start, resolving: Resolving, caplog: pytest.LogCaptureFixture
) -> None:
    edge = await start(1)
    resolving.book["odd.test"] = ZeroDivisionError("odd")
    edge.routes.apply(
        route_pb2.RouteUpdate(
            snapshot=True,
            routes=[route_pb2.Route(uid=UID, local=True, scheduler_address="odd.test:8786")],
        )
    )
    async with asyncio.timeout(5):
        assert await answer(edge, UID) == ALERT
    await comes(lambda: not edge.admission.present)
    assert "ZeroDivisionError" in caplog.text


async def test_answers_are_kept_and_failures_for_less_long(
    resolving: Resolving, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    names = Names(lambda: now[0])
    resolving.book["good.test"] = ["10.0.0.1", "10.0.0.2"]
    good, bad = Destination.of("good.test", 80), Destination.of("bad.test", 80)
    for _ in range(2):
        assert [one.host for one in await names.look_up(good, ANYWHERE)] == ["10.0.0.1", "10.0.0.2"]
        with pytest.raises(OSError, match="no such name"):
            await names.look_up(bad, ANYWHERE)
    assert resolving.asked == {"good.test": 1, "bad.test": 1}
    now[0] += lookup.FAILURE_S
    await names.look_up(good, ANYWHERE)
    with pytest.raises(OSError, match="no such name"):
        await names.look_up(bad, ANYWHERE)
    assert resolving.asked == {"good.test": 1, "bad.test": 2}
    now[0] += lookup.ANSWER_S
    await names.look_up(good, ANYWHERE)
    assert resolving.asked["good.test"] == 2
    monkeypatch.setattr(lookup, "MOST_KEPT", 2)
    resolving.book |= {f"n{number}.test": ["10.0.0.1"] for number in range(5)}
    for number in range(5):
        await names.look_up(Destination.of(f"n{number}.test", 80), ANYWHERE)
    assert len(names._kept) == 2
    names.close()


async def test_kept_addresses_are_judged_at_every_use(resolving: Resolving) -> None:
    names = Names()
    resolving.book["both.test"] = ["10.0.0.1", "169.254.169.254", "127.0.0.1"]
    targets = Destinations(parse_networks(["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16"]), (8001,))
    for port, hosts in (
        (80, ["10.0.0.1", "127.0.0.1"]),
        (8001, ["10.0.0.1"]),
        (80, ["10.0.0.1", "127.0.0.1"]),
    ):
        found = await names.look_up(Destination.of("both.test", port, local=True), targets)
        assert [(one.host, one.port) for one in found] == [(host, port) for host in hosts]
        # of a cluster that does not run here
        (only,) = await names.look_up(Destination.of("both.test", port), targets)
        assert only.host == "10.0.0.1"
    assert await names.look_up(Destination.of("both.test", 80), Destinations((), ())) == []
    assert resolving.asked["both.test"] == 1
    with pytest.raises(OSError, match="no address that may be connected to"):
        await Resolver(names, Destinations((), ()), local=True).resolve("both.test", 80)
    names.close()


async def test_look_ups_that_hang_do_not_pile_up(
    resolving: Resolving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "MOST_AT_A_TIME", 2)
    monkeypatch.setattr(lookup, "MOST_WAITING", 3)
    names = Names()
    for _ in range(3):  # patience ends; the look-ups do not
        for number in range(4):
            with pytest.raises((TimeoutError, OSError)):
                async with asyncio.timeout(0.05):
                    await names.look_up(Destination.of(f"slow{number}.test", 80), ANYWHERE)
    assert resolving.asked == {"slow0.test": 1, "slow1.test": 1}
    assert [thread.daemon for thread in threads()] == [True, True]
    with pytest.raises(OSError, match="too many"):
        await names.look_up(Destination.of("slow9.test", 80), ANYWHERE)
    resolving.book |= {f"slow{number}.test": ["10.0.0.1"] for number in range(4)}
    resolving.end.set()
    for number in range(4):
        assert await names.look_up(Destination.of(f"slow{number}.test", 80), ANYWHERE)
    names.close()
    await comes(lambda: not threads())


async def test_dashboards_and_tunnels_have_the_same_look_ups(
    tmp_path: pathlib.Path, resolving: Resolving
) -> None:
    resolving.book["good.test"] = ["127.0.0.1"]
    async with serving(tmp_path) as served, aiohttp.ClientSession() as caller:

        async def shown(_: web.Request) -> web.Response:
            return web.Response(text="shown")

        async with a_dashboard(served, [web.get("/status", shown)]) as port:
            route = route_pb2.Route(
                uid=UID,
                local=True,
                scheduler_address=f"good.test:{port}",
                dashboard_address=f"good.test:{port}",
            )
            served.edge.routes.apply(
                route_pb2.RouteUpdate(
                    snapshot=True, routes=[route], ticket_keys=[SIGNER.public_key]
                )
            )
            head = (
                f"GET /clusters/{UID}/status HTTP/1.1\r\nHost: x\r\nAuthorization:"
                f" {ALICE}\r\nConnection: close\r\n\r\n"
            )
            assert (await raw(served.port, head.encode())).endswith(b"shown")
            async with caller.ws_connect(
                f"{served.address}/tunnel/{UID}", headers={"Authorization": ALICE}
            ):
                pass
    assert resolving.asked["good.test"] == 1
