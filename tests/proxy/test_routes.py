"""How the edge follows the server's routes."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

import grpc
from daskgateway.internal.v1 import route_pb2 as pb

from gateway.proxy.networks import Targets, parse_networks
from gateway.proxy.routes import RouteTable


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
        self._end.set_exception(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "gone"))


async def test_a_cancellation_that_meets_a_broken_stream_is_not_lost(tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text("t")
    channel: Any = BrokenStream()
    following = asyncio.ensure_future(RouteTable(tmp_path / "routes.json").follow(channel, str(tmp_path / "token")))
    await channel.reading.wait()
    channel.break_off()
    following.cancel()
    done, _ = await asyncio.wait([following], timeout=5)
    assert done == {following}
    assert following.cancelled()


async def test_a_route_that_cannot_be_judged_is_logged_and_the_others_are_known(tmp_path: pathlib.Path, caplog: Any) -> None:
    def here(address: Any) -> bool:
        raise OSError(97, "Address family not supported by protocol")

    table = RouteTable(tmp_path / "routes.json")
    table.targets = Targets(parse_networks(["::/0", "10.0.0.0/8"]), {8000}, here)
    known = [pb.Route(uid=uid, scheduler_address="10.0.0.1:8786") for uid in ("first", "bad", "last")]
    table.apply(pb.RouteUpdate(snapshot=True, routes=known))
    known[1].scheduler_address = "[fd00::1]:8000"
    table.apply(pb.RouteUpdate(routes=known))
    assert set(table.snapshot) == {"first", "last"}
    assert "cluster bad is not routed to" in caplog.text
    table.save()


async def test_routes_hold_addresses_as_they_are_judged(tmp_path: pathlib.Path) -> None:
    table = RouteTable(tmp_path / "routes.json")
    table.targets = Targets(parse_networks(["127.0.0.0/8"]), {9101})
    told = pb.Route(uid="told", scheduler_address="0x7f.1:8786", dashboard_address="2130706433:8787")
    inward = pb.Route(uid="inward", scheduler_address="127.1:8786", dashboard_address="127.1:9101")
    named = pb.Route(uid="named", scheduler_address="node7:8786", dashboard_address="node7:8787")
    table.apply(pb.RouteUpdate(snapshot=True, routes=[told, inward, named]))
    table.save()
    again = RouteTable(tmp_path / "routes.json")
    again.targets = table.targets
    again.load()
    for one in (table, again):
        found = {uid: (route.scheduler, route.dashboard, route.target.host) for uid, route in one.snapshot.items()}
        assert found == {
            "told": (("127.0.0.1", 8786), ("127.0.0.1", 8787), "127.0.0.1"),
            "inward": (("127.0.0.1", 8786), None, "127.0.0.1"),
            "named": (("node7", 8786), ("node7", 8787), "node7"),
        }
