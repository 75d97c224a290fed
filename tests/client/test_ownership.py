"""Whatever happens to who asked for a cluster, and whenever: afterwards it is closed, or owned, and
nothing is left at the server."""

from __future__ import annotations

import asyncio
import gc
import pathlib
import signal
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import distributed.deploy.cluster
import pytest

import gateway.client
from gateway import AsyncGateway, AsyncGatewayCluster, Gateway, GatewayCluster
from gateway.client.calls import api, errors
from gateway.client.calls.channel import Connection
from gateway.client.dask import ownership
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.waiting import comes, until

MOMENTS = 50
TRACED = (
    str(pathlib.Path(gateway.client.__file__).parent / "dask"),
    distributed.deploy.cluster.__file__,
)
pytestmark = pytest.mark.filterwarnings("ignore:unclosed cluster")


@pytest.fixture(scope="module")
def gateway_of_alice(served: GatewayProcess) -> Gateway:
    """The gateway as alice calls it."""
    return Gateway(served.address, auth=(USER, PASSWORD))


@pytest.fixture
def alice(gateway_of_alice: Gateway) -> Iterator[Gateway]:
    """The same; a test that fails leaves no cluster to the next one."""
    yield gateway_of_alice
    for one in gateway_of_alice.list_clusters():
        gateway_of_alice.stop_cluster(f"{USER}/{one.uid}")
    until(lambda: not gateway_of_alice.list_clusters(), "nothing is left", timeout_s=90)


def nothing_is_left(alice: Gateway) -> None:
    """Wait until none of alice's clusters runs, nor is about to."""

    def left() -> list[str]:
        gc.collect()
        found = alice.list_clusters()
        return [f"{one.id} {one.labels} {one.state}" for one in found]

    try:
        until(lambda: not left(), "no cluster is left", timeout_s=90)
    except AssertionError:
        raise AssertionError(f"left: {left()}") from None
    finally:
        for one in alice.list_clusters():
            alice.stop_cluster(f"{USER}/{one.uid}")


class Interruption:
    """Ctrl-C at the n-th call of traced code, in whichever thread it is made."""

    def __init__(self, moment: int) -> None:
        self.moment, self.calls, self.where = moment, 0, ""
        self._main, self._delivered = threading.get_ident(), threading.Event()
        self._lock = threading.Lock()

    def _trace(self, frame: types.FrameType, event: str, _: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(TRACED):
            return
        with self._lock:
            self.calls += 1
            hit = self.calls == self.moment
        if not hit:
            return
        self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
        if threading.get_ident() == self._main:
            raise KeyboardInterrupt
        signal.pthread_kill(self._main, signal.SIGINT)
        self._delivered.wait(30)

    def _deliver(self, *_: object) -> None:
        self._delivered.set()
        raise KeyboardInterrupt

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Trace; the interrupt is swallowed."""
        before = signal.signal(signal.SIGINT, self._deliver)
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            with suppress(KeyboardInterrupt):
                yield
        finally:
            sys.settrace(None)
            threading.settrace(None)
            signal.signal(signal.SIGINT, before)


def use(alice: Gateway, moment: int) -> None:
    """Make a cluster, change it, close it."""
    with GatewayCluster(gateway=alice, labels={"moment": str(moment)}) as cluster:
        cluster.scale(1)
        cluster.adapt(0, 1)


@pytest.mark.timeout(900)
def test_ctrl_c_at_any_of_fifty_moments_leaves_no_cluster(alice: Gateway) -> None:
    ownership.be_ready()  # what it does is not counted
    for _ in range(2):  # the first time more is called
        dry = Interruption(0)
        with dry.armed():
            use(alice, 0)
    hit: list[str] = []
    for number in range(MOMENTS):
        interruption = Interruption(1 + number * dry.calls // (MOMENTS + 5))
        with interruption.armed():
            use(alice, interruption.moment)
        hit += [interruption.where] if interruption.where else []
    assert len(hit) > MOMENTS * 0.9, hit
    nothing_is_left(alice)


def stepped(
    work: Coroutine[Any, Any, None], moment: int, error: BaseException | None
) -> Coroutine[Any, Any, int]:
    """Return work that is cancelled at its n-th await, or to which an exception happens there; its
    result is how many awaits there were."""

    @types.coroutine
    def drive() -> Generator[Any, Any, int]:
        task, awaits, value = asyncio.current_task(), 0, None
        thrown: BaseException | None = None
        assert task is not None
        while True:
            try:
                waited = work.throw(thrown) if thrown is not None else work.send(value)
            except StopIteration:
                return awaits
            awaits, thrown = awaits + 1, None
            if awaits == moment and error is None:
                task.cancel()
            elif awaits == moment:
                if waited is not None:
                    waited._asyncio_future_blocking = False
                thrown = error
                continue
            try:
                value = yield waited
            except BaseException as raised:
                thrown = raised

    async def whole() -> int:
        return await drive()

    return whole()


async def use_async(alice: AsyncGateway, moment: int) -> None:
    """The same for who awaits."""
    async with AsyncGatewayCluster(gateway=alice, labels={"moment": str(moment)}) as cluster:
        await cluster.scale(1)
        cluster.adapt(0, 1)
        await asyncio.sleep(0)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("error", [None, OSError("broken")], ids=["cancelled", "raised"])
def test_a_task_that_ends_at_any_await_leaves_no_cluster(
    alice: Gateway, error: BaseException | None
) -> None:
    gateway = AsyncGateway.over(alice.connection)

    async def at(moment: int) -> int:
        task = asyncio.ensure_future(stepped(use_async(gateway, moment), moment, error))
        (result,) = await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.01)  # what the task has begun may take its turn
        return result if isinstance(result, int) else 0

    moment, awaits = 0, asyncio.run(at(0))
    assert awaits > 10
    while moment < awaits:
        moment += 1 if error is None else 4
        asyncio.run(at(moment))
    nothing_is_left(alice)


def script(served: GatewayProcess, text: str, **variables: str) -> subprocess.Popen[str]:
    """Return a user's process, once it has said that it is ready.

    Signals are as in a shell, also if the tests themselves run under nohup, which ignores SIGHUP
    for its children too.
    """
    process = subprocess.Popen(
        ["env", "--default-signal=HUP,INT,TERM", sys.executable, "-c", text],
        env=served.environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = []
    while (line := process.stdout.readline()) != "ready\n":
        said.append(line)  # what it waits for
        if not line:
            process.kill()
            process.communicate()
            raise AssertionError("".join(said))
    return process


def end(process: subprocess.Popen[str], number: int) -> int:
    """Send a signal; return how the process ended."""
    process.send_signal(number)
    try:
        return process.wait(60)
    finally:
        process.kill()
        process.communicate()


WORKS = """
import threading, time
from gateway import GatewayCluster
{made}
print("ready", flush=True)
while True:
    time.sleep(1)
"""
STARTS = """
import sys, threading
from gateway.client.dask import remote
from gateway import GatewayCluster
def waits(*_):
    print("ready", flush=True)
    threading.Event().wait()
remote.waiting.wait = waits
GatewayCluster()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("text", [WORKS.format(made="cluster = GatewayCluster()"), STARTS])
def test_a_signal_stops_what_the_process_owns_and_ends_it_as_signals_do(
    alice: Gateway, served: GatewayProcess, number: int, text: str
) -> None:
    process = script(served, text)
    (cluster,) = alice.list_clusters()
    assert end(process, number) == -number
    ended = alice.wait(f"{USER}/{cluster.uid}", ("STOPPED",), timeout_s=60)
    assert ended.status.reason == "STOP_REQUESTED"
    nothing_is_left(alice)


def test_a_signal_leaves_what_is_to_go_on_and_what_others_do_about_signals(
    alice: Gateway, served: GatewayProcess
) -> None:
    made = "cluster = GatewayCluster(shutdown_on_close=False)"
    own = "import os, signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(7))\n"
    process = script(served, own + WORKS.format(made=made))
    assert end(process, signal.SIGTERM) == 7
    (cluster,) = alice.list_clusters()
    assert cluster.state == "ACTIVE"
    assert not cluster.spec.lifecycle.keepalive_timeout
    alice.stop_cluster(cluster.name)
    nothing_is_left(alice)


def test_a_cluster_whose_process_was_killed_ends_by_itself(
    alice: Gateway, served: GatewayProcess
) -> None:
    text = WORKS.format(made="cluster = GatewayCluster()")
    process = script(served, text, DASK_GATEWAY__CLUSTER__KEEPALIVE_TIMEOUT="12s")
    (cluster,) = alice.list_clusters()
    until(
        lambda: alice.get_cluster(cluster.name).status.keepalive_time != cluster.create_time,
        "it gives signs of life",
    )
    end(process, signal.SIGKILL)
    ended = alice.wait(f"{USER}/{cluster.uid}", ("STOPPED",), timeout_s=60)
    assert ended.status.reason == "NOT_KEPT_ALIVE"
    assert "gave no sign of life for 12 s" in ended.status.message


def away(cluster: GatewayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gateway be away for a cluster object."""
    settings = replace(
        cluster.gateway.connection.settings, address="http://127.0.0.1:9", retry_s=0.0
    )
    assert cluster._claim is not None
    monkeypatch.setattr(cluster._claim, "connection", Connection(settings))


def test_signs_of_life_begin_with_the_answer_to_the_request(
    alice: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also found: the first one came up to ten seconds later, with the next look."""
    monkeypatch.setattr(ownership, "LOOK_S", 3600.0)
    ownership.be_ready()
    ownership.later(lambda: None)  # from now on it looks that seldom
    told = threading.Event()
    call = Connection.call

    def listens(self: Connection, rpc: Any, request: Any, **kwargs: Any) -> Any:
        if rpc is api.KEEP_ALIVE:
            told.set()
        return call(self, rpc, request, **kwargs)

    monkeypatch.setattr(Connection, "call", listens)
    with GatewayCluster(gateway=alice):
        assert told.wait(30)
    nothing_is_left(alice)


def test_a_close_of_which_the_gateway_does_not_hear_is_made_again(
    alice: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = GatewayCluster(gateway=alice)
    with monkeypatch.context() as patched:
        away(cluster, patched)
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                cluster.close()
            assert alice.get_cluster(cluster.uid).stop_time is None
    cluster.close()
    until(lambda: alice.get_cluster(cluster.uid).state.ending, "it is stopped")
    cluster.close()
    nothing_is_left(alice)


def test_what_the_gateway_was_not_told_is_told_by_itself_and_at_the_end_of_the_process(
    alice: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "AGAIN_S", (0.2, 0.2))
    monkeypatch.setattr(ownership, "LOOK_S", 0.2)
    first, second = GatewayCluster(gateway=alice), GatewayCluster(gateway=alice)
    with monkeypatch.context() as patched:
        away(first, patched)
        with pytest.raises(errors.Unavailable):
            first.close()
    until(lambda: alice.get_cluster(first.uid).state.ending, "it was told again")
    monkeypatch.setattr(ownership, "AGAIN_S", (3600.0, 3600.0))
    with monkeypatch.context() as patched:
        away(second, patched)
        with pytest.raises(errors.Unavailable):
            second.close()
    ownership._stop_all()
    until(lambda: alice.get_cluster(second.uid).state.ending, "it is stopped")
    nothing_is_left(alice)


def test_an_unanswered_request_is_taken_back(
    alice: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Connection.call

    def unanswered(self: Connection, rpc: Any, request: Any, **kwargs: Any) -> Any:
        found = call(self, rpc, request, **kwargs)
        if rpc is api.CREATE_CLUSTER:
            raise errors.Unavailable("the answer was lost", code="UNAVAILABLE")
        return found

    monkeypatch.setattr(Connection, "call", unanswered)
    with pytest.raises(errors.Unavailable, match="the answer was lost"):
        GatewayCluster(gateway=alice)
    nothing_is_left(alice)


def forget(made: list[Any]) -> None:
    """Drop an object, as a notebook does whose cell is run again."""
    weak = weakref.ref(made[0])
    made.clear()
    until(lambda: gc.collect() is None or weak() is None, "it is collected")


@pytest.mark.parametrize("shown", [False, True])
def test_a_forgotten_object_stops_its_cluster(alice: Gateway, shown: bool) -> None:
    made = [GatewayCluster(gateway=alice)]
    uid = made[0].uid
    if shown:
        assert made[0]._widget() is not None
    with pytest.warns(ResourceWarning, match="unclosed cluster"):
        forget(made)
    until(lambda: alice.get_cluster(uid).state.ending, "it is stopped")
    nothing_is_left(alice)


def test_a_forgotten_object_leaves_a_cluster_that_is_to_go_on(alice: Gateway) -> None:
    made = [GatewayCluster(gateway=alice, shutdown_on_close=False)]
    uid, loop = made[0].uid, made[0]._loop_runner.loop
    with pytest.warns(ResourceWarning, match="unclosed cluster"):
        forget(made)
    until(lambda: not loop.asyncio_loop.is_running(), "its event loop has ended")
    assert alice.get_cluster(uid).state == "ACTIVE"
    alice.stop_cluster(uid)
    nothing_is_left(alice)


async def test_a_forgotten_object_of_an_event_loop_stops_its_cluster(alice: Gateway) -> None:
    made = [await AsyncGatewayCluster(gateway=AsyncGateway.over(alice.connection))]
    uid = made[0].uid

    async def forgets() -> None:
        weak = weakref.ref(made[0])
        made.clear()
        await comes(lambda: gc.collect() is None or weak() is None, timeout_s=30)

    with pytest.warns(ResourceWarning, match="unclosed cluster"):
        await forgets()
    await comes(lambda: alice.get_cluster(uid).state.ending, timeout_s=30)
    await comes(lambda: not alice.list_clusters(), timeout_s=60)


def test_who_leaves_a_cluster_takes_its_need_of_signs_of_life_along(alice: Gateway) -> None:
    cluster = GatewayCluster(gateway=alice)
    assert cluster.describe().spec.lifecycle.keepalive_timeout == timedelta(minutes=5)
    cluster.close(shutdown=False)
    left = alice.get_cluster(cluster.uid)
    assert (left.state, left.spec.lifecycle.keepalive_timeout) == ("ACTIVE", timedelta(0))
    assert left.spec.lifecycle.idle_timeout == timedelta(hours=1)
    again = GatewayCluster.from_name(cluster.cluster_id, gateway=alice, shutdown_on_close=True)
    assert again.describe().spec.lifecycle.keepalive_timeout == timedelta(minutes=5)
    again.close()
    nothing_is_left(alice)
