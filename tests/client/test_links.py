"""Links to dashboards lead there, also those that Dask makes; where there is no dashboard there is
no link. Numbers and headings of the command line are told as people read them."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from gateway import Gateway, GatewayCluster
from gateway.client.dask import links
from tests.client.commands import run
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess

OPTIONS = (
    "from gateway.options import Bool, Integer\n"
    "c.ClusterConfig.options = [Integer('minutes', 60), Bool('dashboard', True)]"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway where users choose whether there is a dashboard."""
    directory: pathlib.Path = tmp_path_factory.mktemp("gateway")
    made = GatewayProcess(directory, OPTIONS)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def gateway(served: GatewayProcess) -> Gateway:
    """The gateway as alice calls it."""
    return Gateway(served.address, auth=(USER, PASSWORD))


PLAIN = """
from distributed import Client
with Client({address!r}) as client:
    print(client.dashboard_link)
    print(client._repr_html_())
"""


def plain(served: GatewayProcess, address: str) -> str:
    """Return what a plain client shows in a process that imports nothing of ours."""
    words = [sys.executable, "-c", PLAIN.format(address=address)]
    ended = subprocess.run(
        words, env=served.environment(), capture_output=True, text=True, timeout=90
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_links_of_a_plain_client_lead_to_the_dashboard(
    served: GatewayProcess, gateway: Gateway
) -> None:
    with GatewayCluster(gateway=gateway, n_workers=1) as cluster:
        cluster.wait_for_workers(1, timeout=60)
        shown, link = plain(served, cluster.scheduler_address), cluster.dashboard_link
        assert link.startswith(served.address)
        assert shown.splitlines()[0] == link
        targets = set(re.findall(r'href="([^"]*)"', shown))
        assert targets == {link}, targets
        assert set(re.findall(r'href="([^"]*)"', cluster._repr_html_())) == {link}
        opened = gateway.dashboard_url(cluster.cluster_id)
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with browser.open(opened, timeout=30) as page:
            assert page.status == 200


def test_without_a_dashboard_there_is_no_link(served: GatewayProcess, gateway: Gateway) -> None:
    with GatewayCluster(gateway=gateway, dashboard=False) as cluster:
        assert cluster.dashboard_link == ""
        assert "href" not in cluster._repr_html_()
        shown = plain(served, cluster.scheduler_address)
        assert shown.splitlines()[0] == "None"
        assert "href" not in shown
        ended = run(served.address, "clusters", "show", cluster.cluster_id)
        assert re.search(r"^dashboard\b", ended.out, re.M) is None
        with pytest.raises(ValueError, match="has no dashboard"):
            gateway.dashboard_url(cluster.cluster_id)


def test_only_links_that_lead_nowhere_are_changed() -> None:
    dead = '<a href="http://10.0.0.1:8787/status" target="_blank">http://10.0.0.1:8787/status</a>'
    right = '<a href="https://h/c" target="_blank">https://h/c</a>'
    none = '<a href="None" target="_blank">None</a>'
    assert links.with_links(f"x{dead}y{none}z{right}", "https://h/c") == f"x{right}ynonez{right}"
    assert links.with_links(f"x{dead}y", "") == "xnoney"


def test_whole_numbers_are_shown_as_such(served: GatewayProcess, gateway: Gateway) -> None:
    offered = gateway.cluster_options()
    assert "minutes=60," in repr(offered)
    assert ">60<" in offered._repr_html_()
    assert json.loads(run(served.address, "options", "--output", "json").out)["minutes"] == 60
    ended = run(
        served.address,
        "clusters",
        "create",
        "whole",
        "--no-wait",
        "-o",
        "minutes=60",
        "--output",
        "json",
    )
    assert '"minutes": 60' in ended.out
    assert "60.0" not in ended.out
    shown = run(served.address, "clusters", "show", "whole")
    assert re.search(r"option minutes\s+60\s*$", shown.out, re.M)
    assert "60.0" not in repr(gateway.get_cluster("whole").spec)
    gateway.stop_cluster("whole")


def test_logs_are_told_by_the_names_of_workers_and_headings_stand_in_the_file_too(
    served: GatewayProcess, gateway: Gateway
) -> None:
    with GatewayCluster(gateway=gateway, n_workers=1) as cluster:
        cluster.wait_for_workers(1, timeout=60)
        ended = run(served.address, "clusters", "logs", cluster.cluster_id)
        for instance in ("scheduler", "default-0"):
            assert re.search(rf"^==> {instance} <==$", ended.out, re.M), ended.out
        ended = run(served.address, "clusters", "logs", cluster.cluster_id, "scheduler")
        assert "==>" not in ended.out
        (address,) = cluster.scheduler_info["workers"]
        for named in ("default-0", ["default-0"], [address]):
            assert set(cluster.get_logs(False, False, named)) == {address}
        with pytest.raises(ValueError, match=r"no worker 'default-9' now; there are: default-0$"):
            cluster.get_logs(workers=["default-9"])


def test_lists_are_tables(served: GatewayProcess, gateway: Gateway) -> None:
    made = gateway.submit("listed")
    found = gateway.list_clusters()
    assert repr(found).splitlines()[0].split()[:4] == ["NAME", "STATE", "RUNNING", "WISHED"]
    assert any(line.startswith("alice/listed ") for line in repr(found).splitlines())
    assert "alice/listed</td>" in found._repr_html_()
    gateway.stop_cluster(made.name)
