"""After every change the wish and the fact are told apart, on the spot: by the cluster object, in
its widget, and on the command line; and what a limit makes of a wish is a warning."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client

from gateway import AsyncGateway, Gateway, GatewayCluster, GatewayWarning
from gateway.backends.local import proc
from gateway.backends.local.spawning import MARK_NAME, MARK_ROOT
from gateway.client.calls import errors, settling
from gateway.client.calls.channel import Connection
from gateway.client.dask import display
from gateway.wire import ENV_UID
from tests.client.commands import run
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess, kill
from tests.waiting import until

GRANTED = "6 of 20 workers, by the limit of 6 workers for one cluster"


@pytest.fixture(scope="module")
def gateway(served: GatewayProcess) -> Gateway:
    """The gateway as alice calls it."""
    return Gateway(served.address, auth=(USER, PASSWORD))


@pytest.fixture
def name(gateway: Gateway, request: pytest.FixtureRequest) -> Iterator[str]:
    """A cluster without workers that is being started."""
    made = gateway.submit()
    yield made.id
    gateway.stop_cluster(made.id)


def test_what_is_returned_after_a_scale_shows_the_fact(gateway: Gateway, name: str) -> None:
    assert not gateway.scale_cluster(name, 2).stale
    with pytest.warns(GatewayWarning, match=GRANTED) as told:
        found = gateway.scale_cluster(name, 20)
    assert (found.wish, found.status.desired) == ("20", 6)
    assert told[0].filename == __file__
    with pytest.warns(GatewayWarning, match="limit of 6 workers"):
        gateway.adapt_cluster(name, 0, 20)


def test_a_submission_that_is_clamped_says_so(gateway: Gateway) -> None:
    with pytest.warns(GatewayWarning, match=GRANTED) as told:
        made = gateway.submit(n_workers=20)
    assert told[0].filename == __file__
    gateway.stop_cluster(made.name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gateway.stop_cluster(gateway.submit(n_workers=0).name)


def test_what_is_returned_after_a_stop_is_ending(gateway: Gateway) -> None:
    assert gateway.stop_cluster(gateway.submit().name).state.ending
    assert asyncio.run(_stopped(AsyncGateway.over(gateway.connection))).ending


async def _stopped(gateway: AsyncGateway):  # type: ignore[no-untyped-def]
    made = await gateway.submit()
    return (await gateway.stop_cluster(made.name)).state


def test_the_command_line_tells_them_apart(served: GatewayProcess, name: str) -> None:
    ended = run(served.address, "clusters", "scale", name, "20")
    assert ended.code == 0
    assert "20 wished, 6 granted" in ended.out
    assert re.fullmatch(rf"daskgateway: cluster {name}: .*{GRANTED}.*\n", ended.err)
    ended = run(served.address, "clusters", "adapt", name, "--maximum", "4")
    assert "0-4 wished" in ended.out
    assert ended.err == ""
    shown = run(served.address, "clusters", "show", name).out
    for words in ("limit of one cluster", "at most 6 workers", "age", "clients"):
        assert words in shown, shown
    refused = run(served.address, "clusters", "adapt", name, "--minimum", "3", "--maximum", "1")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "daskgateway: maximum must be at least the minimum, 3, not 1\n"
    ended = run(served.address, "clusters", "stop", name)
    assert re.search(r"state\s+(STOPPING|STOPPED)", ended.out)
    assert re.search(r"workers \(default\) .* 0-4 were wished *\n", ended.out)
    for words in ("taken up", "needed now", "limit of", "is stopped by itself"):
        assert words not in ended.out, ended.out


@pytest.mark.parametrize("waits", ["--wait", "--no-wait"])
def test_a_create_that_is_clamped_says_so(served: GatewayProcess, waits: str) -> None:
    name = f"clamped{waits}"
    ended = run(served.address, "clusters", "create", name, "-n", "20", waits)
    assert ended.code == 0
    assert GRANTED in ended.err
    run(served.address, "clusters", "stop", name)


@pytest.mark.parametrize(
    ("place", "function", "told"),
    [
        ("gateway.client.calls.waiting", "wait", r"cluster {0} goes on .* clusters stop {0}`"),
        ("gateway.client.gateway.Gateway", "submit", r"may have been asked for: .* clusters list`"),
    ],
)
def test_a_create_that_is_interrupted_says_what_it_leaves(
    served: GatewayProcess,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    function: str,
    told: str,
) -> None:
    def interrupted(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    name = f"interrupted-in-{function}"
    with monkeypatch.context() as patched:
        patched.setattr(f"{place}.{function}", interrupted)
        ended = run(served.address, "clusters", "create", name)
    assert ended.code == 130
    assert re.search(told.format(name), ended.err)
    listed = run(served.address, "clusters", "list").out
    assert (name in listed) is (function == "wait")
    if function == "wait":
        run(served.address, "clusters", "stop", name)


def test_a_cluster_object_tells_it_on_the_spot(gateway: Gateway) -> None:
    with pytest.warns(GatewayWarning, match=GRANTED) as told:
        cluster = GatewayCluster(gateway=gateway, n_workers=20)
    try:
        assert told[0].filename == __file__
        assert "20 wished, 6 granted" in cluster._scaling_status()
        assert "Limit: at most 6 workers" in cluster._scaling_status()
        cluster.scale(0)
        assert "0 wished" in cluster._scaling_status()
        assert "granted" not in cluster._scaling_status()
        with pytest.warns(GatewayWarning, match=GRANTED) as told:
            cluster.scale(20)
        assert told[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with GatewayCluster.from_name(cluster.cluster_id, gateway=gateway):
                pass  # who only connects has wished nothing
        cluster.scale(0)
    finally:
        cluster.close()


def test_an_awaited_cluster_tells_it_too(gateway: Gateway) -> None:
    async def scaled() -> None:
        async with AsyncGateway.over(gateway.connection).new_cluster() as cluster:
            with pytest.warns(GatewayWarning, match=GRANTED):
                await cluster.scale(20)
            found: Any = await cluster.scale(0)
            assert found is None  # as with Dask's own

    asyncio.run(scaled())


def test_what_a_widget_shows_is_asked_for_while_somebody_looks(gateway: Gateway) -> None:
    with GatewayCluster(gateway=gateway, idle_timeout="1 hour") as cluster:
        shown = cluster._repr_html_()
        for words in ("Age", "Versions", "dask 20", "after 1 h without task", "at most 6 workers"):
            assert words in shown, words
        with Client(cluster):
            row = re.compile(r">Clients</td><td[^>]*>1<")
            until(lambda: row.search(cluster._repr_html_()) is not None, "the client is shown")


def test_an_object_that_is_closed_says_so_also_in_its_widget(gateway: Gateway) -> None:
    """It hears nothing more: a widget that went on saying ACTIVE would be wrong for ever."""
    cluster = GatewayCluster(gateway=gateway)
    try:
        widget = cluster._widget()
        until(lambda: "cluster-repr" in cluster.periodic_callbacks, "it is looked after")
        assert display.CLOSED not in widget.children[0].value
    finally:
        cluster.close()
    assert display.CLOSED in widget.children[0].value
    assert display.CLOSED in cluster._repr_html_()


def test_workers_of_a_scheduler_are_counted_as_they_are_shown() -> None:
    worker = {"nthreads": 2, "memory_limit": 2**30}
    told = {"n_workers": 5, "total_threads": 5, "total_memory": 5, "workers": {"a": worker}}
    display.count_workers(told)
    assert (told["n_workers"], told["total_threads"], told["total_memory"]) == (1, 2, 2**30)
    display.count_workers({"workers": {}})  # before the scheduler has told anything


def test_a_change_is_answered_also_where_nobody_tells_what_became_of_it(
    gateway: Gateway, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = gateway.get_cluster(name)
    never = settling.settle(gateway.connection, cluster, lambda _: False)  # for a second at most
    assert never.uid == cluster.uid

    def away(*_: object, **__: object) -> None:
        raise errors.Unavailable("it is away")

    monkeypatch.setattr(Connection, "call", away)
    assert settling.settle(gateway.connection, cluster, lambda _: False) is cluster


def test_why_a_worker_was_lost_is_told_long_before_the_next_look(
    gateway: Gateway, served: GatewayProcess
) -> None:
    made = gateway.submit(n_workers=1)
    found = gateway.wait(made.id, "ACTIVE", timeout_s=120)

    def told(word: str) -> list[str]:
        return [one.message for one in gateway.events(made.id) if one.reason == word]

    try:
        until(lambda: gateway.scale_cluster(made.id, 1).status.running == 1, "the worker runs")
        marks = {MARK_ROOT: str(served.local), MARK_NAME: "default-0", ENV_UID: found.uid}
        for process, _ in proc.marked(marks):
            kill(process.pid)
        until(lambda: told("WORKER_LOST"), "it is told", timeout_s=20)  # the next look: after 30 s
        assert told("WORKER_LOST")[0].startswith("its process ended by signal 9.")
    finally:
        gateway.stop_cluster(made.id)
