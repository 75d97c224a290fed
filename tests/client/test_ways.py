"""How the `dgw://` scheme finds its way: directly, through a tunnel where that does not pass, or as
Dask's configuration wishes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

import dask.config
import pytest
from distributed.comm.core import FatalCommClosedError

from gateway import wire
from gateway.client.dask import comm
from gateway.client.dask.comm import GatewayConnector, NoDirectWay
from gateway.client.dask.tunnel import TunnelRefused

TARGET = wire.SchedulerAddress("gateway.example.org", 443, "c" + "a" * 20, "/services/daskgateway")
CONTEXT = ssl.create_default_context()
REFUSED = NoDirectWay(ConnectionRefusedError("refused"))
FOREIGN = NoDirectWay(FatalCommClosedError("not the scheduler"))
UNKNOWN = NoDirectWay(OSError("no way to cluster"), conclusive=True)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No test knows what another found out."""
    comm._tunnel_until.clear()
    comm._tunnel_passed_at.clear()
    yield
    comm._tunnel_until.clear()
    comm._tunnel_passed_at.clear()


class Ways(GatewayConnector):
    """A connector whose two ways answer or fail as told, and are noted."""

    def __init__(self, direct: Exception | None, tunnel: Exception | None) -> None:
        self.direct, self.tunnel, self.tried = direct, tunnel, []  # type: ignore[var-annotated]

    async def _direct(self, *_: Any) -> Any:
        self.tried.append("direct")
        await asyncio.sleep(0)
        if self.direct is not None:
            raise self.direct
        return "direct"

    async def _tunnelled(self, *_: Any) -> Any:
        self.tried.append("tunnel")
        await asyncio.sleep(0)
        if self.tunnel is not None:
            raise self.tunnel
        return "tunnel"

    async def go(self, wish: str) -> Any:
        """Return what a connection is made over."""
        self.tried.clear()
        return await self._stream(TARGET, CONTEXT, wish)


@pytest.mark.parametrize("failed", [REFUSED, FOREIGN])
async def test_a_tunnel_is_taken_where_nothing_else_passes_and_then_at_once(
    failed: NoDirectWay,
) -> None:
    ways = Ways(failed, None)
    for _ in range(2):  # the first time the edge may have been away for a moment
        assert await ways.go("auto") == "tunnel"
        assert ways.tried == ["direct", "tunnel"]
    assert await ways.go("auto") == "tunnel"
    assert ways.tried == ["tunnel"]
    ways.direct, ways.tunnel = None, OSError("gone")
    assert await ways.go("auto") == "direct"
    assert ways.tried == ["tunnel", "direct"]
    assert await ways.go("auto") == "direct"
    assert ways.tried == ["direct"]


async def test_what_was_remembered_wears_off(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = Ways(REFUSED, None)
    monkeypatch.setattr(comm, "TUNNEL_FOR_S", 0.0)
    await ways.go("auto")
    await ways.go("auto")
    assert await ways.go("auto") == "tunnel"
    assert ways.tried == ["direct", "tunnel"]


async def test_an_edge_that_was_away_does_not_turn_its_clients_to_tunnels() -> None:
    # when the direct connections were tried it was away, and back when the tunnels were
    ways = Ways(REFUSED, None)
    assert await asyncio.gather(ways.go("auto"), ways.go("auto"), ways.go("auto")) == ["tunnel"] * 3  # type: ignore[comparison-overlap]
    ways.direct = None
    assert await ways.go("auto") == "direct"
    assert ways.tried == ["direct"]


async def test_the_wish_is_kept_to() -> None:
    ways = Ways(REFUSED, None)
    with pytest.raises(ConnectionRefusedError):
        await ways.go("never")
    assert ways.tried == ["direct"]
    ways = Ways(None, OSError("no tunnel"))
    with pytest.raises(OSError, match="no tunnel"):
        await ways.go("always")
    assert ways.tried == ["tunnel"]
    for wish, wanted in (("never", "never"), (None, "auto"), ("ALWAYS", "always")):
        with dask.config.set({"gateway.tunnel": wish}):
            assert comm.wished_way() == wanted
    with (
        dask.config.set({"gateway.tunnel": "perhaps"}),
        pytest.raises(ValueError, match=r"gateway\.tunnel must be auto, always or never"),
    ):
        comm.wished_way()


async def test_what_the_edge_itself_refuses_no_tunnel_would_bring() -> None:
    ways = Ways(UNKNOWN, None)
    with pytest.raises(OSError, match="no way to cluster"):
        await ways.go("auto")
    assert ways.tried == ["direct"]


async def test_where_both_fail_the_more_telling_error_is_raised() -> None:
    with pytest.raises(ConnectionRefusedError):
        await Ways(REFUSED, OSError("no tunnel")).go("auto")
    with pytest.raises(TunnelRefused, match="no such"):
        await Ways(REFUSED, TunnelRefused("no such", 404)).go("auto")
    with pytest.raises(FatalCommClosedError, match="credentials"):
        await Ways(REFUSED, FatalCommClosedError("credentials")).go("auto")


def test_an_address_may_have_a_prefix() -> None:
    text = f"dgw://gateway.example.org:443/services/daskgateway/{TARGET.uid}"
    assert str(TARGET) == text
    assert wire.parse_scheduler_address(text) == TARGET
    assert wire.parse_scheduler_address(f"dgw://h/{TARGET.uid}/") == wire.SchedulerAddress(
        "h", 8000, TARGET.uid
    )
    for wrong in ("dgw://h", "dgw://h/x", f"dgw://h/{TARGET.uid}/x", f"tcp://h/{TARGET.uid}"):
        with pytest.raises(ValueError, match="not a scheduler's address"):
            wire.parse_scheduler_address(wrong)
