"""How answers show themselves: a line or lines on a terminal, a table in a notebook, and nothing
that acts or tells a secret."""

from __future__ import annotations

from datetime import timedelta

import pytest
from daskgateway.v1 import cluster_pb2, cluster_service_pb2, credential_service_pb2

from gateway.client.dask import display
from gateway.client.model import (
    Caller,
    Cluster,
    DashboardTicket,
    Event,
    Lifecycle,
    NewToken,
    Page,
    Token,
    WatchEvent,
    show,
)

HOSTILE = "\x1b]0;owned\x07 \u202egnp.exe <script>alert(1)</script>\r\nsecond line"


def cluster(name: str = "etl", message: str = "", **sizes: int) -> Cluster:
    """Return a cluster of which one worker runs, in groups of these sizes."""
    proto = cluster_pb2.Cluster(name=f"users/alice/clusters/{name}", owner="alice", uid="c" * 21)
    proto.create_time.FromJsonString("2026-11-27T10:00:00.5Z")
    proto.status.state = cluster_pb2.CLUSTER_STATE_ACTIVE
    proto.status.message = message
    proto.status.worker_groups["default"].running = 1
    for group, size in sizes.items():
        proto.spec.worker_groups[group].count = size
    return Cluster.from_proto(proto)


def test_a_cluster_is_one_line() -> None:
    made = cluster(message="the scheduler answers", default=4)
    assert repr(made) == "Cluster(alice/etl, ACTIVE, 1 of 4 workers: the scheduler answers)"


def test_clusters_are_a_line_each_under_headings_and_a_table_in_a_notebook() -> None:
    page = Page(Cluster, [cluster(default=4), cluster("long-name", message="why", default=12)])
    assert repr(page).splitlines() == [
        "NAME             STATE   WORKERS  CLIENTS  CREATED               MESSAGE",
        "alice/etl        ACTIVE  1/4      0        2026-11-27 10:00:00Z  the server gave no"
        " reason",
        "alice/long-name  ACTIVE  1/12     0        2026-11-27 10:00:00Z  why",
    ]
    html = page._repr_html_()
    assert html.count("<tr>") == 3
    assert ">alice/long-name</td>" in html
    assert repr(Page(Cluster)) == "[]"


def test_wish_and_fact_are_told_apart() -> None:
    proto = cluster(default=4, gpu=1).proto
    proto.spec.worker_groups["spot"].adaptive.maximum = 10
    made = Cluster.from_proto(proto)
    assert (made.status.running, made.wish) == (1, "5+0-10")
    rows = dict(made.rows())
    assert rows["workers (default)"] == "1 running, 0 pending, 0 desired, 4 wished"
    assert "Workers: 1 / 5+0-10" in display.scaling_table(1, made, None)
    assert cluster().wish == "0"


def test_nothing_that_a_server_says_acts_on_a_terminal_or_in_a_notebook() -> None:
    made = cluster(message=HOSTILE, default=1)
    event = Event.from_proto(
        cluster_service_pb2.Event(reason="X", instance=HOSTILE, message=HOSTILE)
    )
    change = WatchEvent.from_proto(
        cluster_service_pb2.WatchClustersResponse(
            event=cluster_service_pb2.WatchEvent(type="WATCH_EVENT_TYPE_ADDED", cluster=made.proto)
        )
    )
    caller = Caller.from_proto(
        credential_service_pb2.WhoAmIResponse(user=HOSTILE, groups=[HOSTILE])
    )
    token = Token.from_proto(credential_service_pb2.Token(display_name=HOSTILE))
    for shown in (made, event, change, caller, token, Page(Cluster, [made]), Page(Event, [event])):
        text, html = repr(shown), shown._repr_html_()
        assert not any(bad in text for bad in ("\x1b", "\x07", "\u202e", "\r")), text
        assert len(text.splitlines()) == (2 if isinstance(shown, Page) else 1)
        assert "<script>" not in html
        assert "&lt;script&gt;" in html


def test_secrets_are_not_shown() -> None:
    made = NewToken.from_proto(
        credential_service_pb2.CreateTokenResponse(secret="dgw_u_id_secret", token={"id": "id"})
    )
    ticket = DashboardTicket.from_proto(
        credential_service_pb2.CreateDashboardTicketResponse(url="https://h/?ticket=secret")
    )
    for shown in (made, ticket, [made]):
        assert "secret" not in repr(shown)
    assert "secret" not in made._repr_html_() + ticket._repr_html_()
    assert made.secret == "dgw_u_id_secret"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (86400 * 2 + 60, "2 d 1 min"),
        (0.5, "0.5 s"),
        (-60, "-1 min"),
    ],
)
def test_durations_are_words(seconds: float, words: str) -> None:
    assert show.span(timedelta(seconds=seconds)) == words


def test_a_lifecycle_says_what_is_set() -> None:
    proto = cluster_pb2.Lifecycle()
    proto.idle_timeout.seconds = 3600
    assert (
        repr(Lifecycle.from_proto(proto))
        == "Lifecycle(idle_timeout=1 h, max_lifetime=None, no_client_timeout=None,"
        " ignore_clients=False, no_task_timeout=None, keepalive_timeout=None)"
    )
    assert "max lifetime" not in Lifecycle.from_proto(proto)._repr_html_()
