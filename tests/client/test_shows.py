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
    Limits,
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
        "NAME             STATE   RUNNING  WISHED  CLIENTS  CREATED               MESSAGE",
        "alice/etl        ACTIVE  1        4       0        2026-11-27 10:00:00Z  the server gave"
        " no reason",
        "alice/long-name  ACTIVE  1        12      0        2026-11-27 10:00:00Z  why",
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
    assert rows["workers (default)"] == "1 running, 0 starting, 4 wished, 0 granted"
    assert rows["workers (gpu)"] == "none yet, 1 wished"
    assert rows["workers (spot)"] == "none yet, 0-10 wished"
    assert "Workers: 1 connected, 5+0-10 wished<" in display.scaling_table(1, made, None, None)
    assert cluster().wish == "0"


def test_what_each_worker_has_is_told_for_each_group() -> None:
    proto = cluster(default=1).proto
    assert "each worker (default)" not in dict(Cluster.from_proto(proto).rows())
    default, gpu = (proto.status.worker_groups[name] for name in ("default", "gpu"))
    default.worker_cores, default.worker_memory_bytes = 1.0, 2**31
    gpu.worker_cores, gpu.worker_gpus = 2.5, 2
    gpu.worker_resources.update({"nvme": 0.5, "fpga": 1})
    made = Cluster.from_proto(proto)
    rows = dict(made.rows())
    assert rows["each worker (default)"] == "1 core, 2 GiB"
    assert rows["each worker (gpu)"] == "2.5 cores, 2 GPUs, 1 fpga, 0.5 nvme"
    html = display.status_rows(made, None, "https://h")
    assert ">Each worker of group gpu<" in html
    assert f">{rows['each worker (gpu)']}<" in html
    assert made.status.worker_groups["gpu"].worker_resources == {"nvme": 0.5, "fpga": 1}


def test_a_status_from_before_the_wish_is_told_as_such() -> None:
    """After `scale 20` a status said "2 desired"."""
    proto = cluster(default=20).proto
    proto.generation, proto.status.observed_generation = 3, 2
    proto.status.worker_groups["default"].desired = 2
    made = Cluster.from_proto(proto)
    told = "1 running, 0 starting, 20 wished, which is not taken up yet"
    assert dict(made.rows())["workers (default)"] == told
    assert "Workers: 1 connected, 20 wished<" in display.scaling_table(1, made, None, None)
    proto.status.observed_generation = 3
    made = Cluster.from_proto(proto)
    assert made.workers("default") == "1 running, 0 starting, 20 wished, 2 granted"
    limits = Limits.from_proto(cluster_service_pb2.Limits(workers=2, memory_bytes=2**34))
    shown = display.scaling_table(1, made, None, limits)
    assert "Workers: 1 connected, 20 wished, 2 granted<" in shown
    assert "Limit: at most 2 workers, 16 GiB<" in shown
    proto.spec.worker_groups["default"].adaptive.maximum = 9
    assert Cluster.from_proto(proto).workers("default") == (
        "1 running, 0 starting, 0-9 wished, 2 needed now"
    )


def test_a_cluster_tells_its_age_its_clients_its_versions_and_its_end() -> None:
    proto = cluster(default=1).proto
    proto.status.clients = 2
    proto.status.versions.update({"python": "3.11.7", "dask": "2026.8.0"})
    proto.stop_time.FromJsonString("2026-11-27T11:30:00.5Z")
    proto.spec.lifecycle.idle_timeout.seconds = 3600
    proto.status.expire_time.FromJsonString("2026-11-27T12:00:00Z")
    proto.status.expire_reason = "IDLE_TIMEOUT"
    rows = dict(Cluster.from_proto(proto).rows())
    assert rows["clients"] == "2"
    assert rows["age"] == "1 h 30 min"
    assert rows["versions"] == "dask 2026.8.0, python 3.11.7"
    assert rows["is stopped by itself"] == "after 1 h without task and client"
    assert rows["will be stopped"].startswith("2026-11-27 12:00:00Z, as it has neither task nor")
    html = display.status_rows(Cluster.from_proto(proto), None, "https://h")
    for name in ("clients", "age", "versions", "is stopped by itself", "will be stopped"):
        assert f">{rows[name]}<" in html, name


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, ""),
        ({"workers": 0}, "at most 0 workers"),
        ({"cores": 8.0, "memory_bytes": 3 * 2**29}, "at most 8 cores, 1.5 GiB"),
        ({"memory_bytes": 1000}, "at most 1000 B"),
        ({"gpus": 1}, "at most 1 GPU"),
        ({"gpus": 0}, "at most 0 GPUs"),
        ({"resources": {"nvme": 1.5, "fpga": 4}, "gpus": 8}, "at most 8 GPUs, 4 fpga, 1.5 nvme"),
    ],
)
def test_limits_are_one_line(limits: dict[str, object], words: str) -> None:
    made = cluster_service_pb2.Limits(**limits)  # type: ignore[arg-type]
    assert Limits.from_proto(made).words == words


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
