"""JupyterLab's Dask sidebar drives a GatewayCluster: its own factory and cluster model, without the
browser."""

from __future__ import annotations

import json
import warnings
from datetime import timedelta

import dask.config

from gateway import Gateway
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.waiting import comes

FACTORY = {
    "module": "gateway",
    "class": "GatewayCluster",
    "args": [],
    "kwargs": {"idle-timeout": "1 hour", "options": {"worker_memory": "1 GiB"}},
}


async def test_the_sidebar_makes_scales_adapts_and_closes_a_cluster(served: GatewayProcess) -> None:
    with warnings.catch_warnings():
        # the extension and what it imports warn of their own affairs
        warnings.simplefilter("ignore")
        from dask_labextension.manager import DaskClusterManager  # type: ignore[import-untyped]
    gateway = {"address": served.address, "auth": {"user": USER, "password": PASSWORD}}
    factory = {"factory": FACTORY, "default": {"workers": 1, "adapt": None}, "initial": []}
    with dask.config.set(
        {
            "gateway": dask.config.merge(dask.config.get("gateway", {}), gateway),
            "labextension": factory,
        }
    ):
        async with await DaskClusterManager() as sidebar:
            model = await sidebar.start_cluster()
            key = model["id"]
            assert model["scheduler_address"].startswith("dgw://127.0.0.1:")
            assert model["dashboard_link"].startswith(f"{served.address}/clusters/")
            await comes(lambda: sidebar.get_cluster(key)["workers"] == 1, 60)
            assert sidebar.get_cluster(key)["memory"] == "1.00 GiB"
            await sidebar.scale_cluster(key, 2)
            await comes(lambda: sidebar.get_cluster(key)["workers"] == 2, 60)
            adapting = sidebar.adapt_cluster(key, 0, 3)
            assert adapting["adapt"] == {"minimum": 0, "maximum": 3}
            await comes(lambda: sidebar.get_cluster(key)["workers"] == 0, 60)
            json.dumps(sidebar.list_clusters())
            (cluster,) = Gateway(served.address, auth=(USER, PASSWORD)).list_clusters()
            assert cluster.spec.lifecycle.idle_timeout == timedelta(hours=1)
            closed = await sidebar.close_cluster(key)
            assert closed["workers"] == 0
    ended = Gateway(served.address, auth=(USER, PASSWORD)).wait(
        f"{USER}/{cluster.uid}", ("STOPPED",), timeout_s=60
    )
    assert ended.status.reason == "STOP_REQUESTED"
