"""Over what calls go: gRPC, and HTTP where gRPC is seen not to pass; not where the gateway was only
away for a moment."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from daskgateway.v1.credential_service_pb2 import WhoAmIRequest, WhoAmIResponse

from gateway.client.calls import api, channel, credentials, errors
from gateway.client.calls.channel import Connection
from gateway.client.calls.settings import Auth, Settings

SETTINGS = Settings("http://gateway.example.org:8000", Auth(), retry_s=0.0)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No test knows what another found out."""
    channel.forget(SETTINGS.address)
    yield
    channel.forget(SETTINGS.address)


class Ways(Connection):
    """Calls that pass over gRPC only while told so, and always over HTTP; over what each went is
    noted."""

    def __init__(self) -> None:
        super().__init__(SETTINGS)
        self.grpc_passes, self.tried = True, list[str]()

    def _over_grpc(self, *_: object) -> WhoAmIResponse:  # type: ignore[override]
        self.tried.append("grpc")
        if not self.grpc_passes:
            raise errors.Unavailable("connection refused", code="UNAVAILABLE")
        return WhoAmIResponse()

    def _http(self, *_: object) -> WhoAmIResponse:  # type: ignore[override]
        self.tried.append("http")
        return WhoAmIResponse()

    def go(self) -> str:
        """Make a call; return over what it was tried."""
        self.tried.clear()
        self.call(api.WHO_AM_I, WhoAmIRequest())
        return " ".join(self.tried)


def test_a_fork_closes_no_channel_of_its_parent_and_waits_for_none_of_its_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A forked child hung once in thousands of runs. Likely why: what closes a channel waits for a
    lock inside gRPC, and a thread of the parent held it at the fork."""
    for module in (channel, credentials):
        monkeypatch.setattr(module, "_lock", threading.Lock())
        module._lock.acquire()
    of_the_parent = Ways()  # any object will do
    kept = weakref.ref(of_the_parent)
    monkeypatch.setattr(channel, "_of_the_parent", [])
    monkeypatch.setattr(channel, "_channels", {("address", None, ""): of_the_parent})
    monkeypatch.setattr(channel, "_pools", {})
    del of_the_parent
    channel._after_fork()
    credentials._after_fork()
    gc.collect()
    assert kept() is not None
    assert not channel._channels
    assert not channel._lock.locked()
    assert not credentials._lock.locked()


def test_an_edge_that_starts_again_does_not_turn_its_clients_to_http() -> None:
    ways = Ways()
    assert ways.go() == "grpc"
    # the edge was away when gRPC was tried, and back when HTTP was; gRPC waits before it connects
    # again
    ways.grpc_passes = False
    assert [ways.go(), ways.go()] == ["grpc http", "grpc http"]
    ways.grpc_passes = True
    assert ways.go() == "grpc"
    ways.grpc_passes = False
    assert ways.go() == "grpc http"
    assert not channel.uses_http(SETTINGS)


def test_two_short_absences_are_not_one_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(channel, "time", SimpleNamespace(monotonic=lambda: now))
    ways = Ways()
    assert ways.go() == "grpc"
    ways.grpc_passes = False
    assert ways.go() == "grpc http"
    now += 3600  # nothing was asked meanwhile, or it would have gone over gRPC
    assert [ways.go(), ways.go()] == ["grpc http", "grpc http"]
    now += 11
    assert [ways.go(), ways.go()] == ["grpc http", "http"]


def test_where_grpc_does_not_come_back_calls_go_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = Ways()
    assert ways.go() == "grpc"
    ways.grpc_passes = False
    assert ways.go() == "grpc http"
    monkeypatch.setattr(channel, "GRPC_AWAY_S", 0.0)
    assert ways.go() == "grpc http"
    assert ways.go() == "http"


def test_where_grpc_never_passed_calls_go_over_http_at_once() -> None:
    ways = Ways()
    ways.grpc_passes = False
    assert ways.go() == "grpc http"
    assert ways.go() == "http"
