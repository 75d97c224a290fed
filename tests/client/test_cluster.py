"""GatewayCluster as one of Dask's own cluster objects, over a real gateway."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from distributed import Adaptive, Client
from distributed.core import Status
from google.protobuf.field_mask_pb2 import FieldMask

from gateway import Gateway, GatewayCluster, GatewayWarning
from gateway.client.calls import api, errors
from gateway.client.calls.channel import Connection
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.waiting import until


@pytest.fixture(scope="module")
def gateway(served: GatewayProcess) -> Gateway:
    """The gateway as alice calls it."""
    return Gateway(served.address, auth=(USER, PASSWORD))


@pytest.fixture
def cluster(gateway: Gateway) -> Iterator[GatewayCluster]:
    """A cluster without workers."""
    with GatewayCluster(gateway=gateway) as made:
        yield made


def test_it_scales_by_cores_and_memory(cluster: GatewayCluster) -> None:
    cluster.scale(cores=2)
    cluster.wait_for_workers(2, timeout=60)
    cluster.scale(memory="2 GiB")
    until(lambda: len(cluster.scheduler_info["workers"]) == 1, "one worker of 2 GiB is left")
    bounds = cluster.adapt(maximum_memory="7 GiB", minimum_cores=1)
    assert (bounds.minimum, bounds.maximum) == (1, 3)
    assert "Adaptive (1 to 3)" in cluster._scaling_status()
    again = GatewayCluster.from_name(cluster.cluster_id, gateway=cluster.gateway)
    assert "Adaptive (1 to 3)" in again._scaling_status()
    again.close()
    with pytest.raises(TypeError, match="a number of workers, cores or memory"):
        cluster.scale()
    with pytest.raises(ValueError, match="0 <= minimum <= maximum"):
        cluster.adapt(3, 2)


def test_it_shows_itself_in_a_notebook_without_any_call(cluster: GatewayCluster) -> None:
    assert "Gateway: ACTIVE" in cluster._repr_html_()
    assert cluster.dashboard_link in cluster._repr_html_()
    assert "Scaling mode: Manual" in cluster._scaling_status()
    assert cluster._widget() is not None
    assert f"GatewayCluster({cluster.cluster_id}, 'dgw://" in repr(cluster)
    assert cluster.plan == cluster.requested == cluster.observed == set()


def test_waiting_for_more_than_the_limits_grant_ends_at_once(cluster: GatewayCluster) -> None:
    with pytest.warns(GatewayWarning, match="6 of 50 workers, by the limit of 6 workers for one"):
        cluster.scale(50)
    with pytest.raises(
        errors.LimitReached, match="6 of 50 workers, by the limit of 6 workers for one cluster"
    ):
        cluster.wait_for_workers(50, timeout=60)


def test_a_late_worker_is_told_with_the_reason(gateway: Gateway) -> None:
    with GatewayCluster(gateway=gateway, n_workers=0) as cluster:
        with pytest.raises(TimeoutError, match=r"0/1 workers.*the scheduler answers"):
            cluster.wait_for_workers(1, timeout=0.5)


def test_an_end_that_another_wished_closes_the_object_and_its_client(gateway: Gateway) -> None:
    cluster = GatewayCluster(gateway=gateway)
    client = Client(cluster)
    gateway.stop_cluster(cluster.cluster_id)
    until(lambda: cluster.status is Status.closed, "the object is closed")
    until(lambda: client.status == "closed", "the client has ended too", timeout_s=20)
    with pytest.raises(OSError, match="asked for its end"):
        Client(cluster.scheduler_address, security=cluster.security, timeout=20)
    assert "asked for its end" in cluster._cluster_manager_logs[-1][1]
    cluster.close()
    client.close()


def test_closing_while_the_way_to_the_scheduler_is_broken_does_not_wait_for_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = GatewayCluster(gateway=gateway)
    asked = threading.Event()

    async def no_answer_comes() -> bool:
        asked.set()
        return bool(await asyncio.Event().wait())

    monkeypatch.setattr(cluster, "_has_ended", no_answer_comes)
    cluster.loop.add_callback(cluster._watch_worker_status_comm.abort)  # type: ignore[union-attr]
    assert asked.wait(20)
    cluster.close(timeout=20)
    assert cluster.status is Status.closed


def test_a_way_that_breaks_before_the_object_has_quite_started_is_followed_again(
    cluster: GatewayCluster,
) -> None:
    first = cluster._watch_worker_status_comm
    cluster.status = Status.starting  # as it is while Dask asks for more, once it follows
    cluster.loop.add_callback(first.abort)  # type: ignore[union-attr]
    until(lambda: cluster._watch_worker_status_comm is not first, "it follows again", timeout_s=20)
    cluster.status = Status.running


def test_workers_are_followed_again_while_the_server_is_away(
    cluster: GatewayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cluster._watch_worker_status_comm
    away = Connection(replace(cluster.gateway.connection.settings, address="http://127.0.0.1:9"))
    with monkeypatch.context() as patched:
        patched.setattr(cluster, "_connection", away)
        cluster.loop.add_callback(first.abort)  # type: ignore[union-attr]
        until(
            lambda: cluster._watch_worker_status_comm is not first, "it follows again", timeout_s=20
        )


def test_an_idle_cluster_is_stopped_and_says_why(gateway: Gateway) -> None:
    """Also found: Dask keeps a plugin of a cluster object that has gone, which was counted as a
    client for ever."""
    cluster = GatewayCluster(gateway=gateway, idle_timeout="1s")
    cluster.close(shutdown=False)
    ended = gateway.wait(f"{USER}/{cluster.uid}", ("STOPPED",), timeout_s=60)
    assert ended.status.reason == "IDLE_TIMEOUT"
    assert "it was idle for 1 s" in ended.status.message


def test_a_cluster_object_is_no_client_that_keeps_its_cluster_from_being_idle(
    gateway: Gateway,
) -> None:
    cluster = GatewayCluster(gateway=gateway, idle_timeout="1s")
    until(lambda: cluster.status is Status.closed, "the object is closed")
    ended = gateway.wait(f"{USER}/{cluster.uid}", ("STOPPED",), timeout_s=60)
    assert ended.status.reason == "IDLE_TIMEOUT"


def test_when_a_cluster_ends_by_itself_is_shown_and_changed(gateway: Gateway) -> None:
    with GatewayCluster(gateway=gateway) as cluster:
        lives = cluster.describe().spec.lifecycle
        assert lives.idle_timeout == timedelta(hours=1)
        assert lives.no_task_timeout == timedelta(hours=12)
        until(lambda: cluster.describe().status.expire_time is not None, "it is idle")
        shown = dict(cluster.describe().rows())
        assert shown["is stopped by itself"].startswith(
            "after 1 h without task and client, after 12 h without task"
        )
        assert "as it has neither task nor client" in shown["will be stopped"]
        changed = gateway.change_lifetimes(cluster.cluster_id, idle_timeout="3 days")
        assert changed.spec.lifecycle.idle_timeout == timedelta(days=3)
        assert changed.spec.lifecycle.no_task_timeout == timedelta(hours=12)
        with pytest.raises(ValueError, match="at least one of idle_timeout, max_lifetime"):
            gateway.change_lifetimes(cluster.cluster_id)


def test_a_lifetime_ends_a_cluster_under_its_client(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = GatewayCluster(gateway=gateway, max_lifetime="1 day")
    shorter = pb.Cluster(name=f"users/{USER}/clusters/{cluster.uid}")
    shorter.spec.lifecycle.max_lifetime.seconds = 1
    request = service_pb.UpdateClusterRequest(
        cluster=shorter, update_mask=FieldMask(paths=["spec.lifecycle"])
    )
    gateway.connection.call(api.UPDATE_CLUSTER, request)
    until(lambda: cluster.status is Status.closed, "the object is closed")
    assert "it lived for 1 s" in caplog.text


def test_groups_of_workers_differ(gateway: Gateway) -> None:
    groups = {"big": {"n_workers": 1, "worker_memory": "3 GiB"}}
    with GatewayCluster(
        gateway=gateway, n_workers=1, worker_groups=groups, options={"worker_memory": "1 GiB"}
    ) as cluster:
        cluster.wait_for_workers(2, timeout=60)
        limits = {
            worker["name"]: worker["memory_limit"]
            for worker in cluster.scheduler_info["workers"].values()
        }
        assert limits == {"default-0": 2**30, "big-0": 3 * 2**30}
        cluster.scale(0, group="big")
        until(lambda: cluster.observed == {"default-0"}, "the group is empty")


def test_adapting_has_a_pace_and_stops(cluster: GatewayCluster) -> None:
    adaptive = cluster.adapt(1, 4, interval="200ms", wait_count=2, target_duration="1 minute")
    assert (adaptive.interval, adaptive.wait_count, adaptive.target_duration) == (0.2, 2, 60.0)
    cluster.wait_for_workers(1, timeout=60)
    told = cluster.describe().spec.worker_groups["default"].adaptive
    assert told is not None
    assert (told.interval, told.wait_count) == (timedelta(seconds=0.2), 2)
    assert "Adaptive (1 to 4)" in cluster._scaling_status()
    again = GatewayCluster.from_name(cluster.cluster_id, gateway=cluster.gateway)
    assert again._adaptive is not None
    assert again._adaptive.wait_count == 2
    again.close()
    assert cluster.describe().spec.worker_groups["default"].adaptive == told
    adaptive.stop()
    adaptive.stop()
    group = cluster.describe().spec.worker_groups["default"]
    assert (group.adaptive, group.count) == (None, 1)
    assert "Manual" in cluster._scaling_status()


def test_what_has_ended_adapting_is_not_stopped_again(cluster: GatewayCluster) -> None:
    first = cluster.adapt(0, 2)
    second = cluster.adapt(0, 3)
    first.stop()
    assert cluster.describe().wish == "0-3"
    cluster.scale(0)
    second.stop()
    assert cluster.describe().wish == "0"


def test_adapting_in_the_client_ends_that_of_the_scheduler(cluster: GatewayCluster) -> None:
    cluster.adapt(0, 3)
    mine = cluster.adapt(Adaptive=Adaptive, minimum=0, maximum=1)
    assert cluster.describe().wish == "0"
    mine.stop()


def test_nonsense_is_refused_before_anything_changes(cluster: GatewayCluster) -> None:
    with pytest.raises(TypeError, match=r"'intervall'; did you mean interval\?"):
        cluster.adapt(0, 2, intervall="1s")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="interval must be a duration greater than 0"):
        cluster.adapt(0, 2, interval=0)
    with pytest.raises(errors.InvalidRequest, match=r"between 0\.1 s and 1 h"):
        cluster.adapt(0, 2, interval="2 h")
    assert cluster.describe().wish == "0"


def test_an_adaptive_of_ones_own_runs_in_the_client(cluster: GatewayCluster) -> None:
    class Mine(Adaptive):
        """Dask's own, by another name."""

    adaptive = cluster.adapt(Adaptive=Mine, minimum=1, maximum=2, interval="100ms")
    assert isinstance(adaptive, Mine)
    cluster.wait_for_workers(1, timeout=60)
    adaptive.stop()


def test_wrong_wishes_are_told_with_their_fields_before_anything_starts(gateway: Gateway) -> None:
    with pytest.raises(errors.InvalidRequest) as wrong:
        GatewayCluster(
            gateway=gateway,
            worker_cores=1000,
            colour="red",
            worker_groups={"Big": {"n_workers": 1}},
        )
    assert {violation.field for violation in wrong.value.violations} == {
        "cluster.spec.options.worker_cores",
        "cluster.spec.options.colour",
        "cluster.spec.worker_groups.Big",
    }


def test_a_scheduler_that_cannot_start_is_told_with_the_last_lines_of_its_log(
    gateway: Gateway,
) -> None:
    with pytest.raises(errors.ClusterFailed, match=r"(?s)No module named 'encodings'"):
        GatewayCluster(gateway=gateway, environment={"PYTHONHOME": "/nowhere"})
