"""Makes what is observed match what is wished, cluster by cluster: facts → step → store → execute →
facts.

Decisions are `core.plan`'s. Nothing is remembered here between steps that the store or the machine
room does not know.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gateway.backends.contract import Backend, BackendUnavailable, Observation
from gateway.server.core import unheard
from gateway.server.core.conditions import Objection, anywhere
from gateway.server.core.facts import AgentNews, Facts, Patience
from gateway.server.core.model import State
from gateway.server.core.plan import Step, step
from gateway.server.core.reasons import Reason
from gateway.server.reconcile.complaints import Complaints
from gateway.server.reconcile.execute import Done, MakeLaunches, execute
from gateway.server.reconcile.inbox import Inbox
from gateway.server.reconcile.pace import Pace
from gateway.server.reconcile.queue import KeyedQueue
from gateway.server.store.contract import Store, StoreUnreachable, Tx

logger = logging.getLogger(__name__)

CONCURRENCY = 32  # clusters worked on at a time
NEWS_DELAY_S = 0.1  # agents' reports within so long are stored as one change
RETRY_S = (1.0, 60.0)  # after a step that could not be done: doubled from the first to the last
# by so much the clock of day may part from the steady one between two steps; more is a jump: it was
# set, or the machine slept
JUMP_S = 5.0
# a cluster is looked at once a day at least: what it waits for may be beyond what clocks and floats
# hold
LOOK_AGAIN_MS = 86_400_000
LISTEN_S = 1.0  # between two looks at who has fallen silent
# the event loop turned no earlier: the process was suspended, or its machine had no time for it
STANDSTILL_S = 5.0
# looks at the logs of schedulers that are not heard yet: each costs two steps, and a machine room
# that is slow with logs holds up one of the CONCURRENCY for 5 s
LOOKS_A_SECOND = 4.0
ROUNDS = 8  # steps in a row for one cluster before others have their turn


class Reconciler:
    """The loop."""

    def __init__(
        self,
        store: Store,
        backends: Mapping[str, Backend],
        make_launches: MakeLaunches,
        now: Callable[[], int],
        patience: Callable[[], Patience],
        *,
        most_ended: int = 0,
        let_go: Callable[[str], None] = lambda _: None,
    ) -> None:
        # clusters of one user that are kept; 0: all, for as long as patience says
        self._most_ended = most_ended
        # told of each cluster that has ended: nothing of it will be started any more
        self._let_go = let_go
        self._objection: Objection = anywhere
        self.inbox = Inbox()
        self._store, self._backends, self._make_launches = store, backends, make_launches
        self._now, self._patience = now, patience
        self._apart = 0  # ms from the steady clock to that of day
        self._turned = 0.0  # when the event loop was last seen to turn, by the steady clock
        self._queue = KeyedQueue()
        self._looks = Pace(LOOKS_A_SECOND)
        self._failures: dict[str, int] = {}
        self._complaints = Complaints(logger)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, objection: Objection = anywhere) -> None:
        """Take up every cluster where it was left. `objection` says what the edge has against a
        scheduler's address."""
        self._objection = objection
        self.inbox.listening_since_at = now = self._now()
        self._turned = time.monotonic()
        self._apart = now - int(self._turned * 1000)
        self.inbox.listen_anew(now)
        for cluster in self._store.view.clusters():
            self.inbox.resume(cluster.uid)
            self._queue.add(cluster.uid)
        self._tasks = [
            asyncio.create_task(self._work(), name=f"reconcile-{n}") for n in range(CONCURRENCY)
        ]
        self._tasks.append(asyncio.create_task(self._listen(), name="listen"))
        self._tasks.append(asyncio.create_task(self._make_room_at_first(), name="make-room"))

    async def stop(self) -> None:
        """Finish the steps that were begun, at most 10 s, and begin no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self, uid: str) -> None:
        """Look at a cluster now: its wish has changed."""
        self._queue.add(uid)

    def observed(self, observations: Sequence[Observation]) -> None:
        """Take what a backend saw."""
        for uid in self.inbox.observe(observations):
            self._queue.add(uid)

    def heard(self, uid: str, news: AgentNews) -> None:
        """Take what an agent told."""
        self.inbox.hear(uid, news)
        cluster = self._store.view.cluster(uid)
        # somebody waits for it
        first = news.snapshot and cluster is not None and cluster.state is not State.ACTIVE
        # and as many as come later are taken in together
        self._queue.add(uid, 0.0 if first else NEWS_DELAY_S)

    def beat(self, uid: str) -> None:
        """Take an agent's sign of life."""
        if self.inbox.hear_beat(uid):
            self._queue.add(uid)

    def agent_came(self, uid: str) -> None:
        """Note that an agent has connected."""
        self.inbox.agent_came(uid)
        self._queue.add(uid, NEWS_DELAY_S)

    def agent_went(self, uid: str) -> None:
        """Note that an agent's stream has ended."""
        self.inbox.agent_went(uid)
        self._queue.add(uid, NEWS_DELAY_S)

    async def _listen(self) -> None:
        """Look at clusters whose agents fall silent: nothing else tells of that."""
        while True:
            await asyncio.sleep(LISTEN_S)
            self._time()
            for uid in self.inbox.fallen_silent():
                self._queue.add(uid)

    async def _work(self) -> None:
        while True:
            uid = await self._queue.take()
            try:
                wake_at = await self._reconcile(uid)
            except (BackendUnavailable, StoreUnreachable) as error:
                if isinstance(error, BackendUnavailable):
                    self.inbox.unanswered(uid, str(error))
                    self._complaints.hear(f"cluster {uid}", str(error))
                else:  # the store says so once, not for each cluster
                    logger.debug("cluster %s: %s; trying again", uid, error)
                self._again(uid)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._complaints.fault(f"cluster {uid}", error)
                self._again(uid)
            else:
                self._failures.pop(uid, None)
                self._complaints.over(f"cluster {uid}")
                if wake_at is not None:
                    self._queue.add(uid, min(wake_at - self._now(), LOOK_AGAIN_MS) / 1000)
            finally:
                self._queue.done(uid)

    def _again(self, uid: str) -> None:
        """Try a step again in a while: what it stored as asked may never have been asked, or not of
        everything."""
        self.inbox.resume(uid)
        failures = self._failures[uid] = self._failures.get(uid, 0) + 1
        first_s, last_s = RETRY_S
        self._queue.add(uid, min(last_s, first_s * 2 ** min(failures - 1, 30)))

    async def _reconcile(self, uid: str) -> int | None:
        """Step until there is nothing more to do now; return when to look again."""
        now = self._time()
        facts = self._in_turn(uid, self.inbox.take(uid, now), now)
        for _ in range(ROUNDS):
            try:
                work = functools.partial(self._step, uid=uid, facts=facts, now=now)
                result = await self._store.transact(work)
            except BaseException:
                self.inbox.put_back(uid, facts)
                raise
            if result is None:
                self._forget(uid)
                return None
            self._warn(result)
            backend = self._backends.get(result.cluster.spec.backend)
            if result.departed and backend is not None:
                backend.expect_ends(result.departed)
            if result.cluster.stopped_at == now:  # it has ended with this step
                self._let_go(uid)
                await self._make_room(result.cluster.owner)
            if not result.actions:
                return result.wake_at
            done = await execute(
                result.actions, result.cluster, self._backends, self._make_launches
            )
            if done.purged:
                await self._purge(uid)
                return None
            now = self._time()
            facts = self._follow_up(uid, now, done)
        self.inbox.put_back(uid, facts)
        return self._now()

    def _in_turn(self, uid: str, facts: Facts, now: int) -> Facts:
        """Return the facts, with from when the scheduler's log may be looked at if it is due and
        others are before it."""
        cluster = self._store.view.cluster(uid)
        at = unheard.look_at(cluster, facts) if cluster is not None else None
        if at is None or at > now:
            return facts
        wait_s = self._looks.wait_s(uid, time.monotonic())
        return replace(facts, look_from=now + math.ceil(wait_s * 1000)) if wait_s else facts

    def _time(self) -> int:
        """Return what time it is; after a jump of the clock, nobody's end or failure is concluded
        from instants before it."""
        now, steady = self._now(), time.monotonic()
        stood_s, self._turned = steady - self._turned, steady
        if stood_s > STANDSTILL_S:
            logger.warning(
                "this process stood still for %.1f s; for how long agents were silent is counted"
                " anew",
                stood_s,
            )
            self.inbox.listen_anew(now)
        apart = now - int(steady * 1000)
        jump_s, self._apart = (apart - self._apart) / 1000, apart
        if abs(jump_s) > JUMP_S:
            logger.warning(
                "the clock has jumped by %+.1f s; for how long clusters were idle or silent is"
                " counted anew",
                jump_s,
            )
            self.inbox.clock_jumped(now)
        return now

    def _step(self, tx: Tx, uid: str, facts: Facts, now: int) -> Step | None:
        """Decide and store, in one transaction; runs off the event loop."""
        cluster = tx.cluster(uid)
        if cluster is None:
            return None
        result = step(cluster, tx.workers(uid), facts, now, self._patience(), self._objection)
        if result.changes(cluster):
            if result.put:
                tx.put_workers(result.put)
            if result.deleted:
                tx.delete_workers(uid, result.deleted)
            if result.events:
                tx.add_events(result.events)
            if result.cluster.state.finished and not cluster.state.finished:
                tx.drop_remains(uid)
            return replace(result, cluster=tx.put_cluster(result.cluster))
        return result

    def _warn(self, result: Step) -> None:
        """Log what an administrator must mend: settings that keep users from their clusters, and
        every cluster that fails, once, with the reason."""
        cluster = result.cluster
        ending = any(event.reason == State.STOPPING for event in result.events)
        if ending and cluster.stop and cluster.stop.goal is State.FAILED:
            begun = "failed" if cluster.scheduler.address else "failed to start"
            logger.warning(
                "cluster %s (%s of %s, backend %s) %s: %s: %s",
                cluster.uid,
                cluster.cluster_id,
                cluster.owner,
                cluster.spec.backend,
                begun,
                cluster.stop.reason,
                cluster.stop.message,
            )
        for event in result.events:
            if event.reason == Reason.ADDRESS_NOT_PERMITTED:
                logger.warning("nobody reaches cluster %s: %s", result.cluster.uid, event.message)

    def _follow_up(self, uid: str, now: int, done: Done) -> Facts:
        """Return the facts for the next step: what came of the actions, and what came in
        meanwhile."""
        self._queue.drop(uid)  # whatever it waits for: the next step sees it
        if done.agent_says is not None:
            self.inbox.log_read(uid, now)
        facts = self.inbox.take(uid, now)
        return replace(
            facts, outcomes=done.outcomes, cleaned=done.cleaned, agent_says=done.agent_says
        )

    async def _make_room_at_first(self) -> None:
        """Do so for every user: fewer may be kept than before."""
        for owner in {
            cluster.owner for cluster in self._store.view.clusters() if cluster.state.finished
        }:
            try:
                await self._make_room(owner)
            except StoreUnreachable as error:
                logger.warning("ended clusters of %s are not purged early: %s", owner, error)

    async def _make_room(self, owner: str) -> None:
        """Have the clusters purged that ended first, if too many of one user's are kept."""
        ended = self._store.view.ended(owner)
        now, beyond = (
            self._now(),
            [cluster.uid for cluster in ended[: max(0, len(ended) - self._most_ended)]],
        )
        if not beyond or not self._most_ended:
            return

        def expire(tx: Tx) -> None:
            for cluster in filter(None, map(tx.cluster, beyond)):
                if cluster.purge_at > now:
                    tx.put_cluster(replace(cluster, purge_at=now))

        await self._store.transact(expire)
        for uid in beyond:
            self._queue.add(uid)

    async def _purge(self, uid: str) -> None:
        await self._store.transact(lambda tx: tx.purge_cluster(uid))
        self._forget(uid)
        self._failures.pop(uid, None)

    def _forget(self, uid: str) -> None:
        self.inbox.forget(uid)
        self._looks.forget(uid)
