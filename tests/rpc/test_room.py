"""When the disk is nearly full no new cluster is accepted, and what there is can be ended."""

from __future__ import annotations

import logging
import os
import pathlib
from types import SimpleNamespace

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb

from gateway.server.keeping.room import Room
from tests.rpc.harness import Harness, as_
from tests.rpc.test_clusters import create, reason

MIB = 2**20


async def nothing() -> None:
    """Reserve nothing."""


async def test_a_full_disk_keeps_new_clusters_out_and_lets_old_ones_end(harness: Harness) -> None:
    first = create("first")
    first.request_id = "0e7e4b6c-9ac8-4ef2-8b2b-6a0f4b1f2f11"
    made = await harness.clusters.CreateCluster(first, metadata=as_("alice"))
    harness.full = True
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.clusters.CreateCluster(create("second"), metadata=as_("alice"))
    assert reason(caught.value) == "OVERLOADED"
    assert "disk is nearly full" in (caught.value.details() or "")
    # it was accepted before
    again = await harness.clusters.CreateCluster(first, metadata=as_("alice"))
    assert again.uid == made.uid
    await harness.clusters.StopCluster(
        service_pb.StopClusterRequest(name=made.name), metadata=as_("alice")
    )
    wait = service_pb.WaitClusterRequest(name=made.name, states=[pb.CLUSTER_STATE_STOPPED])
    assert (
        await harness.clusters.WaitCluster(wait, metadata=as_("alice"))
    ).status.state == pb.CLUSTER_STATE_STOPPED
    harness.full = False
    await harness.clusters.CreateCluster(create("second"), metadata=as_("alice"))


def test_too_little_room_is_told_when_it_begins_and_when_it_is_over(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    free_mib = [300]
    monkeypatch.setattr(
        os, "statvfs", lambda _: SimpleNamespace(f_bavail=free_mib[0] * 256, f_frsize=4096)
    )
    found = Room(tmp_path, 256 * MIB, nothing)
    for free_mib[0], full in ((300, False), (255, True), (100, True), (256, False)):
        found.look()
        assert found.full() is full
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "255 MiB left" in caplog.records[0].getMessage()
    assert "c.DaskGateway.min_free_bytes" in caplog.records[0].getMessage()


def test_a_disk_that_cannot_be_looked_at_keeps_nobody_out(tmp_path: pathlib.Path) -> None:
    found = Room(tmp_path / "gone", 256 * MIB, nothing)
    found.look()
    assert not found.full()
    assert os.path.exists(tmp_path)
