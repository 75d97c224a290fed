"""The reconciler loses nothing that it was told, whatever it is busy with; and it says of trouble
that lasts what is new of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from google.protobuf.duration_pb2 import Duration

from gateway.backends.contract import (
    BackendUnavailable,
    Instance,
    Launch,
    Observation,
    StartOutcome,
    Target,
)
from gateway.server.core import unheard
from gateway.server.core.facts import AgentNews, Patience
from gateway.server.core.model import Cluster, Launching, State
from gateway.server.reconcile import loop, sweep
from gateway.server.reconcile.loop import ROUNDS
from gateway.server.store.memory import MemoryStore
from tests.rpc.harness import Harness, PretendAgent, PretendBackend, as_


class TalkingBackend(PretendBackend):
    """While a cluster's last start in a row is done, its agent tells something."""

    harness: Harness
    starts = 0

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        uid = launches[0].instance.uid
        self.starts += launches[0].instance.name != "scheduler"
        if self.starts == ROUNDS:
            self.harness.reconciler.inbox.hear(uid, AgentNews(clients=7))
        return await super().start(launches)


async def test_news_that_come_while_many_workers_are_started_are_not_lost() -> None:
    backend = TalkingBackend()
    harness = backend.harness = Harness(backend=backend, patience=Patience(batch=1))
    await harness.start()
    try:
        spec = pb.ClusterSpec(worker_groups={"default": pb.WorkerGroup(count=ROUNDS + 4)})
        request = service_pb.CreateClusterRequest(cluster_id="large", cluster=pb.Cluster(spec=spec))
        made = await harness.clusters.CreateCluster(request, metadata=as_("alice"))
        agent = PretendAgent(harness, made.uid)
        await agent.hello()
        subscription = harness.store.view.subscribe()
        async with asyncio.timeout(20):
            while (
                harness.store.view.cluster(made.uid).activity.clients != 7
                or backend.starts < ROUNDS + 4
            ):
                await subscription.next()
        agent.call.cancel()
    finally:
        await harness.stop()


HOUR_MS = 3_600_000


async def test_a_clock_that_jumps_ends_no_cluster_that_was_not_idle_for_so_long(
    harness: Harness,
) -> None:
    lifecycle = pb.Lifecycle(idle_timeout=Duration(seconds=3600))
    request = service_pb.CreateClusterRequest(
        cluster_id="kept", cluster=pb.Cluster(spec=pb.ClusterSpec(lifecycle=lifecycle))
    )
    made = await harness.clusters.CreateCluster(request, metadata=as_("alice"))
    agent = PretendAgent(harness, made.uid)
    await agent.hello()
    subscription = harness.store.view.subscribe(start_revision=0)

    async def seen(holds: Callable[[Cluster], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds(harness.store.view.cluster(made.uid)):
                await subscription.next()

    await agent.report(idle_ms=60_000)
    await seen(lambda cluster: cluster.activity.idle_since_at > 0)
    idle_since_at = harness.store.view.cluster(made.uid).activity.idle_since_at
    harness.ahead_ms = 2 * HOUR_MS
    call = service_pb.UpdateClusterRequest(
        cluster=pb.Cluster(name="users/alice/clusters/kept", labels={"looked": "at"}),
        update_mask={"paths": ["labels"]},
    )
    await harness.clusters.UpdateCluster(call, metadata=as_("alice"))
    # a step was made, and ended nothing
    await seen(lambda cluster: cluster.observed_generation == 2)
    assert harness.store.view.cluster(made.uid).state is State.ACTIVE
    await agent.report(idle_ms=61_000)
    await seen(lambda cluster: cluster.activity.idle_since_at > idle_since_at + HOUR_MS)
    assert harness.store.view.cluster(made.uid).state is State.ACTIVE
    await agent.report(idle_ms=HOUR_MS)  # by the agent's own clock, which is steady
    await seen(lambda cluster: cluster.stop is not None)
    assert harness.store.view.cluster(made.uid).stop.reason == "IDLE_TIMEOUT"
    agent.call.cancel()


class MutedBackend(PretendBackend):
    """Gives no answer, for one reason after another, then does."""

    def __init__(self, *reasons: str) -> None:
        super().__init__()
        self.reasons = list(reasons)

    def answer(self) -> None:
        if self.reasons:
            raise BackendUnavailable(self.reasons.pop(0))

    async def start(self, launches: Sequence[Launch]) -> Mapping[Instance, StartOutcome]:
        self.answer()
        return await super().start(launches)

    async def find(self) -> Sequence[Observation]:
        self.answer()
        return await super().find()


class Trusting:
    """Believes the database whatever it lacks."""

    async def permitted(
        self, backend: str, left_over: Sequence[Observation], unknown: Sequence[Observation]
    ) -> Sequence[Observation]:
        return [*left_over, *unknown]


class Heard(logging.Handler):
    """What the reconciler's loggers say of a key that begins so."""

    def __init__(self) -> None:
        super().__init__()
        self.key = ""
        self.said: list[tuple[int, str]] = []
        self.more = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        key, _, words = record.getMessage().partition(": ")
        if key.startswith(self.key):
            self.said.append((record.levelno, words))
            self.more.set()

    async def count(self, number: int) -> list[tuple[int, str]]:
        """Return what was said, when it is so much."""
        async with asyncio.timeout(20):
            while len(self.said) < number:
                self.more.clear()
                await self.more.wait()
        return self.said


@pytest.fixture
async def heard(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Heard]:
    """Whoever listens to the reconciler."""
    handler, logger = Heard(), logging.getLogger("gateway.server.reconcile")
    caplog.set_level(logging.DEBUG, logger.name)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


REASONS = ("down", "down", "down", "full", "full")
SAID = [
    (logging.WARNING, "down; trying again"),
    (logging.DEBUG, "down; trying again"),
    (logging.DEBUG, "down; trying again"),
    (logging.WARNING, "full; trying again"),
    (logging.DEBUG, "full; trying again"),
    (logging.INFO, "it is over: full"),
]


async def test_a_start_that_is_tried_again_and_again_is_told_once_for_each_reason_and_once_when_it_is_over(  # noqa: E501
    monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    monkeypatch.setattr(loop, "RETRY_S", (0.01, 0.01))
    heard.key = "cluster "
    harness = Harness(backend=MutedBackend(*REASONS))
    await harness.start()
    try:
        request = service_pb.CreateClusterRequest(
            cluster_id="muted", cluster=pb.Cluster(spec=pb.ClusterSpec())
        )
        await harness.clusters.CreateCluster(request, metadata=as_("alice"))
        assert await heard.count(len(SAID)) == SAID
    finally:
        await harness.stop()


async def test_a_machine_room_that_cannot_be_looked_at_is_told_once_for_each_reason_and_once_when_it_is_over(  # noqa: E501
    monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    monkeypatch.setattr(sweep, "SWEEP_INTERVAL_S", 0.0)
    heard.key = "backend pretend, sweeping"
    backend = MutedBackend(*REASONS)
    backend.observe_interval_s = 0.01
    store = MemoryStore()
    await store.open()
    watching = asyncio.create_task(
        sweep.Watcher(store, "pretend", backend, lambda _: None, Trusting()).run()
    )
    try:
        assert await heard.count(len(SAID)) == SAID
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await store.close()


class Unstoppable(PretendBackend):
    """Starts everything, and gives no answer to a stop while it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = False
        self.asked = 0

    async def stop(self, targets: Sequence[Target]) -> None:
        self.asked += 1
        if not self.answers:
            raise BackendUnavailable("down")
        await super().stop(targets)


async def test_a_stop_is_asked_for_until_it_was_answered_and_the_outage_is_over_no_sooner(
    monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    """The step after one that failed used to have nothing to do, as the stop stood as asked, and
    counted as an answer."""
    monkeypatch.setattr(loop, "RETRY_S", (0.01, 0.01))
    heard.key = "cluster "
    backend = Unstoppable()
    harness = Harness(backend=backend)
    await harness.start()
    try:
        made = await harness.clusters.CreateCluster(
            service_pb.CreateClusterRequest(
                cluster_id="held", cluster=pb.Cluster(spec=pb.ClusterSpec())
            ),
            metadata=as_("alice"),
        )
        agent = PretendAgent(harness, made.uid)
        await agent.hello()
        await harness.clusters.StopCluster(
            service_pb.StopClusterRequest(name=made.name), metadata=as_("alice")
        )
        said = await heard.count(5)
        assert said == [
            (logging.WARNING, "down; trying again"),
            *[(logging.DEBUG, "down; trying again")] * (len(said) - 1),
        ]
        assert backend.asked >= 5
        conditions = {one.type: one for one in harness.store.view.cluster(made.uid).conditions}
        assert (conditions["BackendAvailable"].holds, conditions["BackendAvailable"].message) == (
            False,
            "down; trying again",
        )
        backend.answers = True
        subscription = harness.store.view.subscribe(start_revision=0)
        async with asyncio.timeout(20):
            while not harness.store.view.cluster(made.uid).state.finished:
                await subscription.next()
        assert heard.said[-1] == (logging.INFO, "it is over: down")
        assert [words for _, words in heard.said].count("it is over: down") == 1
        agent.call.cancel()
    finally:
        await harness.stop()


class ReadBackend(PretendBackend):
    """Notes whose logs are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.is_read = asyncio.Event()

    async def logs(
        self, target: Target, *, tail_lines: int = 0, follow: bool = False
    ) -> AsyncIterator[str]:
        self.read.append(target.instance.uid)
        self.is_read.set()
        yield "nothing of use"


async def test_schedulers_that_are_silent_together_have_their_logs_read_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unheard, "LOOK_MS", 1)
    monkeypatch.setattr(loop, "LOOKS_A_SECOND", 0.001)
    backend = ReadBackend()
    harness = Harness(backend=backend)
    await harness.start()
    try:
        request = service_pb.CreateClusterRequest(cluster_id="first")
        first = await harness.clusters.CreateCluster(request, metadata=as_("alice"))
        async with asyncio.timeout(20):
            await backend.is_read.wait()
        request = service_pb.CreateClusterRequest(cluster_id="second")
        second = await harness.clusters.CreateCluster(request, metadata=as_("alice"))
        subscription = harness.store.view.subscribe(start_revision=0)
        async with asyncio.timeout(20):
            while harness.store.view.cluster(second.uid).scheduler.launching is not (
                Launching.RUNNING
            ):
                await subscription.next()
        agent = PretendAgent(harness, second.uid)
        await agent.hello()  # what waits for its turn takes in all the same what it is told
        async with asyncio.timeout(20):
            while harness.store.view.cluster(second.uid).state is not State.ACTIVE:
                await subscription.next()
        agent.call.cancel()
        assert set(backend.read) == {first.uid}
    finally:
        await harness.stop()
