"""A scheduler is where the edge connects to nobody: its user and the administrator are told why."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

from gateway import Gateway, GatewayCluster
from tests.client.commands import run
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")  # Dask's own, while its connection fails
def test_a_cluster_that_the_edge_never_connects_to_says_why(tmp_path: pathlib.Path) -> None:
    served = GatewayProcess(tmp_path, "c.Proxy.scheduler_networks = ['10.0.0.0/8']")
    served.start()
    try:
        gateway = Gateway(served.address, auth=(USER, PASSWORD))
        made = gateway.submit("afar")
        found = gateway.wait(made.name, ("ACTIVE",), timeout_s=60)
        (condition,) = [c for c in found.status.conditions if c.type == "SchedulerReachable"]
        assert condition.reason == "ADDRESS_NOT_PERMITTED"
        said = r"tls://127\.0\.0\.1:\d+, which c\.Proxy\.scheduler_networks does not permit"
        assert re.search(said, condition.message)
        with pytest.raises(OSError, match=said):
            GatewayCluster.from_name("afar", gateway=gateway)
        command = [sys.executable, "-m", "gateway", "clusters", "show", "afar"]
        shown = subprocess.run(
            command,
            env=served.environment() | {"COLUMNS": "300"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert re.search(said, " ".join(shown.stdout.split())), shown
        ended = run(served.address, "clusters", "create", "again")
        assert ended.code == 1
        assert re.search(f"daskgateway: nobody can reach the cluster.*: .*{said}", ended.err)
        assert "ACTIVE" in ended.out
        assert run(served.address, "clusters", "stop", "again").code == 0
        gateway.scale_cluster(made.name, 0)  # further steps tell it no more
        assert [event.reason for event in gateway.events(made.name)].count(
            "ADDRESS_NOT_PERMITTED"
        ) == 1
        # it is not stopped by it
        assert gateway.get_cluster(made.name).status.state == found.status.state
        log = (tmp_path / "server.log").read_text()
        assert len(re.findall(f"nobody reaches cluster {made.uid}: .*{said}", log)) == 1
        gateway.stop_cluster(made.name)
        gateway.wait(made.name, ("STOPPED",), timeout_s=60)
    finally:
        served.stop()
        for pid in served.processes():
            os.kill(pid, 9)
