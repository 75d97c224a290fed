"""How the edge follows the server's routes."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

import grpc
import pytest
from daskgateway.internal.v1 import route_pb2 as pb

from gateway.networks import Destinations, parse_networks
from gateway.proxy.routes import routes as routes_module
from gateway.proxy.routes.routes import RouteTable
from tests.waiting import comes


class BrokenStream:
    """A channel, and the one call made on it: a stream that breaks when told to."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self._end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def unary_stream(self, *_: Any, **__: Any) -> Any:
        return lambda *_, **__: self

    async def read(self) -> Any:
        self.reading.set()
        return await self._end

    def cancel(self) -> None:
        """Nothing is held."""

    def break_off(self) -> None:
        nothing = grpc.aio.Metadata()
        self._end.set_exception(
            grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "gone")  # type: ignore[call-arg]
        )


async def test_a_cancellation_that_meets_a_broken_stream_is_not_lost(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "token").write_text("t")
    channel: Any = BrokenStream()
    following = asyncio.ensure_future(
        RouteTable(tmp_path / "routes.json").follow(lambda: channel, str(tmp_path / "token"))
    )
    await channel.reading.wait()
    channel.break_off()
    following.cancel()
    done, _ = await asyncio.wait([following], timeout=5)
    assert done == {following}
    assert following.cancelled()


class Quiet(BrokenStream):
    """A stream that tells what it has, and then nothing more."""

    def __init__(self, *updates: pb.RouteUpdate) -> None:
        super().__init__()
        self.calls = 0
        self._updates = list(updates)

    async def read(self) -> Any:
        if self._updates:
            return self._updates.pop(0)
        self.calls += 1
        return await super().read()


async def test_signs_of_life_are_counted_and_a_silence_is_told_in_words(
    tmp_path: pathlib.Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_module, "SILENCE_S", 0.05)
    (tmp_path / "token").write_text("t")
    channel: Any = Quiet(
        pb.RouteUpdate(snapshot=True),
        pb.RouteUpdate(),
        pb.RouteUpdate(removed=["x"]),
        pb.RouteUpdate(),
    )
    routes = RouteTable(tmp_path / "routes.json")
    following = asyncio.ensure_future(routes.follow(lambda: channel, str(tmp_path / "token")))
    await comes(lambda: channel.calls >= 2)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    counts = routes._counts
    assert (counts.route_changes, counts.route_keepalives) == (2, 2)
    assert counts.route_silences >= 1
    assert (
        "the server does not answer (it has said nothing for 0.05 s); 0 clusters are known"
        in caplog.text
    )
    assert "()" not in caplog.text
    routes.save()


@pytest.mark.parametrize("details", ["", None])
async def test_a_broken_stream_without_details_is_told_with_its_code(
    tmp_path: pathlib.Path, caplog: Any, details: str | None
) -> None:
    (tmp_path / "token").write_text("t")
    channel: Any = BrokenStream()
    nothing = grpc.aio.Metadata()
    channel._end.set_exception(
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details)  # type: ignore[call-arg]
    )
    following = asyncio.ensure_future(
        RouteTable(tmp_path / "routes.json").follow(lambda: channel, str(tmp_path / "token"))
    )
    await comes(lambda: "does not answer" in caplog.text)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert "the server does not answer (UNAVAILABLE)" in caplog.text


async def test_a_route_that_cannot_be_judged_is_logged_and_the_others_are_known(
    tmp_path: pathlib.Path, caplog: Any
) -> None:
    def here(address: Any) -> bool:
        if address.version == 4:
            return False
        raise OSError(97, "Address family not supported by protocol")

    table = RouteTable(
        tmp_path / "routes.json", Destinations(parse_networks(["::/0", "10.0.0.0/8"]), {8000}, here)
    )
    known = [
        pb.Route(uid=uid, scheduler_address="10.0.0.1:8786") for uid in ("first", "bad", "last")
    ]
    table.apply(pb.RouteUpdate(snapshot=True, routes=known))
    known[1].scheduler_address = "[fd00::1]:8000"
    table.apply(pb.RouteUpdate(routes=known))
    assert set(table.snapshot) == {"first", "last"}
    assert "cluster bad is not routed to" in caplog.text
    table.save()


async def test_routes_hold_addresses_as_they_are_judged(tmp_path: pathlib.Path) -> None:
    table = RouteTable(
        tmp_path / "routes.json", Destinations(parse_networks(["127.0.0.0/8"]), {9101})
    )
    told = pb.Route(
        uid="told", local=True, scheduler_address="0x7f.1:8786", dashboard_address="2130706433:8787"
    )
    inward = pb.Route(
        uid="inward", local=True, scheduler_address="127.1:8786", dashboard_address="127.1:9101"
    )
    named = pb.Route(
        uid="named", local=True, scheduler_address="node7:8786", dashboard_address="node7:8787"
    )
    table.apply(pb.RouteUpdate(snapshot=True, routes=[told, inward, named]))
    table.save()
    again = RouteTable(tmp_path / "routes.json", table.targets)
    again.load()
    for one in (table, again):
        found = {
            uid: (route.scheduler, route.dashboard, route.target.host)
            for uid, route in one.snapshot.items()
        }
        assert found == {
            "told": (("127.0.0.1", 8786), ("127.0.0.1", 8787), "127.0.0.1"),
            "inward": (("127.0.0.1", 8786), None, "127.0.0.1"),
            "named": (("node7", 8786), ("node7", 8787), "node7"),
        }


def told(uid: str, owner: str, dashboard: str) -> pb.Route:
    """Return a route as the server tells it."""
    return pb.Route(
        uid=uid, owner=owner, scheduler_address="10.0.0.1:8786", dashboard_address=dashboard
    )


def table(tmp_path: pathlib.Path) -> RouteTable:
    """Return a table that knows nothing yet but what is on disk."""
    made = RouteTable(tmp_path / "routes.json", Destinations(parse_networks(["10.0.0.0/8"]), ()))
    made.load()
    return made


def dashboards(routes: RouteTable) -> dict[str, bool]:
    """Return which clusters have a dashboard."""
    return {uid: route.dashboard is not None for uid, route in routes.snapshot.items()}


@pytest.mark.parametrize("spelt", ["10.0.0.1:8787", "[::ffff:10.0.0.1]:8787"])
async def test_a_dashboard_is_that_of_the_first_user_whose_cluster_names_it(
    tmp_path: pathlib.Path, spelt: str
) -> None:
    routes = table(tmp_path)
    routes.apply(pb.RouteUpdate(snapshot=True, routes=[told("bob", "bob", "10.0.0.1:8787")]))
    routes.apply(
        pb.RouteUpdate(
            routes=[told("thief", "mallory", spelt), told("else", "mallory", "10.0.0.1:9999")]
        )
    )
    assert dashboards(routes) == {"bob": True, "thief": False, "else": True}
    assert routes._counts.routes_forbidden == 1
    routes.apply(
        pb.RouteUpdate(
            routes=[told("bob", "bob", "10.0.0.1:8787"), told("second", "bob", "10.0.0.1:8787")]
        )
    )
    assert dashboards(routes) == {"bob": True, "thief": False, "else": True, "second": True}
    routes.apply(pb.RouteUpdate(removed=["bob"]))
    assert dashboards(routes) == {"thief": False, "else": True, "second": True}


async def test_names_of_a_dashboards_machine_are_the_same_in_capitals(
    tmp_path: pathlib.Path,
) -> None:
    routes = table(tmp_path)
    routes.apply(
        pb.RouteUpdate(
            snapshot=True,
            routes=[told("bob", "bob", "node1:80"), told("thief", "mallory", "NODE1.:80")],
        )
    )
    assert dashboards(routes) == {"bob": True, "thief": False}


@pytest.mark.parametrize(
    "how", ["removed", "removed with the newcomer's coming", "moved", "missing from a snapshot"]
)
async def test_a_dashboards_address_is_had_once_its_first_holder_is_gone(
    tmp_path: pathlib.Path, how: str
) -> None:
    """As ports are used again: the old cluster's end may be told in the same breath, or later."""
    routes = table(tmp_path)
    old, new = told("old", "alice", "10.0.0.1:8787"), told("new", "bob", "10.0.0.1:8787")
    routes.apply(pb.RouteUpdate(snapshot=True, routes=[old]))
    if how == "removed with the newcomer's coming":
        routes.apply(pb.RouteUpdate(routes=[new], removed=["old"]))
        assert dashboards(routes) == {"new": True}
        assert routes._counts.routes_forbidden == 0
        return
    routes.apply(pb.RouteUpdate(routes=[new]))
    assert dashboards(routes) == {"old": True, "new": False}
    if how == "moved":
        routes.apply(pb.RouteUpdate(routes=[told("old", "alice", "10.0.0.1:9999")]))
        assert dashboards(routes) == {"old": True, "new": True}
    elif how == "removed":
        routes.apply(pb.RouteUpdate(removed=["old"]))
        assert dashboards(routes) == {"new": True}
    else:
        routes.apply(pb.RouteUpdate(snapshot=True, revision=7, routes=[new]))
        routes.apply(pb.RouteUpdate(revision=7))
        assert dashboards(routes) == {"new": True}


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_dashboard_stays_its_holders_when_the_server_tells_everything_anew(
    tmp_path: pathlib.Path, restarted: bool
) -> None:
    """It tells the newest clusters first, and many clusters in several messages of one revision."""
    routes = table(tmp_path)
    bobs, thiefs = told("bob", "bob", "10.0.0.1:8787"), told("thief", "mallory", "10.0.0.1:8787")
    routes.apply(pb.RouteUpdate(snapshot=True, revision=1, routes=[bobs]))
    routes.apply(pb.RouteUpdate(revision=2, routes=[thiefs]))
    if restarted:
        routes.save()
        routes = table(tmp_path)
    routes.apply(pb.RouteUpdate(snapshot=True, revision=2, routes=[thiefs]))
    assert dashboards(routes) == {"thief": False}
    routes.apply(pb.RouteUpdate(revision=2, routes=[bobs]))
    assert dashboards(routes) == {"thief": False, "bob": True}
    routes.apply(pb.RouteUpdate(revision=2))
    assert dashboards(routes) == {"thief": False, "bob": True}
    routes.apply(pb.RouteUpdate(revision=3, removed=["bob"]))
    assert dashboards(routes) == {"thief": True}
