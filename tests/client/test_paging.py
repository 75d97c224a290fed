"""Lists that come page by page, from a gateway that is not there."""

from __future__ import annotations

from typing import Any

import pytest
from daskgateway.v1 import cluster_pb2
from daskgateway.v1 import cluster_service_pb2 as pb

from gateway import Gateway
from gateway.client.calls import paging
from gateway.client.calls.channel import Connection
from gateway.client.calls.errors import GatewayError


def answers(monkeypatch: pytest.MonkeyPatch, *pages: Any) -> list[str]:
    """Let a gateway answer these pages, the last again and again; return the tokens that it is
    asked for."""
    asked: list[str] = []

    def call(_: Connection, rpc: Any, request: Any) -> Any:
        asked.append(request.page_token)
        return pages[min(len(asked), len(pages)) - 1]

    monkeypatch.setattr(Connection, "call", call)
    return asked


def named(*names: str, token: str = "", revision: int = 0) -> pb.ListClustersResponse:
    """Return a page of clusters."""
    return pb.ListClustersResponse(
        clusters=[cluster_pb2.Cluster(name=name) for name in names],
        next_page_token=token,
        revision=revision,
    )


def test_all_pages_are_one_list_and_a_watch_from_its_revision_misses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = answers(
        monkeypatch,
        named("a", "b", token="1", revision=7),
        named(token="2", revision=8),
        named("c", revision=9),
    )
    found = Gateway("http://127.0.0.1:9").list_clusters()
    assert [cluster.name for cluster in found] == ["a", "b", "c"]
    assert found.revision == 7
    assert asked == ["", "1", "2"]


def test_events_beyond_one_page_are_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    first = pb.ListEventsResponse(events=[pb.Event(reason="LAST")] * 500, next_page_token="1")
    answers(monkeypatch, first, pb.ListEventsResponse(events=[pb.Event(reason="FIRST")]))
    found = Gateway("http://127.0.0.1:9").events("etl")
    assert (len(found), found[-1].reason) == (501, "FIRST")


@pytest.mark.parametrize("tokens", [["1", "1"], None], ids=["the same again", "ever new ones"])
def test_a_list_that_does_not_end_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tokens: list[str] | None
) -> None:
    monkeypatch.setattr(paging, "MAX_PAGES", 5)
    pages = [named("a", token=token) for token in tokens or map(str, range(10))]
    asked = answers(monkeypatch, *pages)
    with pytest.raises(GatewayError, match="list does not end"):
        Gateway("http://127.0.0.1:9").list_clusters()
    assert len(asked) <= 5
