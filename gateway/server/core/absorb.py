"""What a cluster is known to be once facts are taken in. Decides nothing: that is `plan`.

Facts may be late, repeated or about what is long gone; taking them in twice changes nothing the
second time.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.backends.contract import Instance, Observation, Phase, Started, StartFailed
from gateway.server.core.facts import HUSH_S, AgentNews, Facts, Patience
from gateway.server.core.known import Known
from gateway.server.core.model import (
    Activity,
    GroupStatus,
    Launching,
    Scheduler,
    State,
    StopWish,
    Worker,
)
from gateway.server.core.reasons import Reason
from gateway.server.core.texts import sound
from gateway.server.core.transitions import Trigger

ENDED = (Phase.EXITED, Phase.GONE)
MAX_FAILURE = 1024  # characters of the reason that is kept with a group
# said of what a machine room has accepted and has not been seen in it yet
FIRST_LOOK = "waiting for the first look at the queue"
# ages travel as durations: an instant that moved less than this has not moved
ACTIVITY_SLACK_MS = 2000


def absorb(known: Known, facts: Facts) -> None:
    """Take in facts."""
    _outcomes(known, facts)
    for observation in facts.observations.values():
        if observation.presumed and facts.agent_connected and _at_work(known, observation.instance):
            continue
        if observation.instance == known.cluster.scheduler_instance:
            _scheduler_observed(known, observation)
        elif (name := observation.instance.name) in known.workers:
            if observation.phase in ENDED and facts.news is not None and name in facts.news.workers:
                _joined(known, name)  # it had joined before it ended
            _worker_observed(known, known.workers[name], observation)
    _silence(known, facts)
    if facts.news is not None and not known.cluster.state.finished:
        _news(known, facts.news)


def _at_work(known: Known, instance: Instance) -> bool:
    """Whether a scheduler that talks to us shows that an instance is there, whatever the machine
    room has lost sight of."""
    worker = known.workers.get(instance.name)
    return instance == known.cluster.scheduler_instance or (worker is not None and worker.connected)


def _outcomes(known: Known, facts: Facts) -> None:
    for instance, outcome in facts.outcomes.items():
        if instance == known.cluster.scheduler_instance:
            _scheduler_started(known, outcome)
        elif instance.name in known.workers:
            _worker_started(known, known.workers[instance.name], outcome)


def _scheduler_started(known: Known, outcome: Started | StartFailed) -> None:
    scheduler = known.cluster.scheduler
    if isinstance(outcome, Started):
        launching = (
            Launching.STARTED if scheduler.launching is Launching.INTENDED else scheduler.launching
        )
        known.scheduler(
            handle=outcome.handle, launching=launching, launched_at=known.now, failures=0
        )
        words = outcome.message or "the backend has accepted the scheduler"
        known.tell(Reason.SCHEDULER_STARTED, words, "scheduler")
        # why it waits, if it does, comes with the first look
        if scheduler.launching is Launching.INTENDED and known.cluster.state is State.CREATING:
            told = (
                f"the scheduler was {words}; {FIRST_LOOK}"
                if outcome.message
                else f"{words}, which does not run yet"
            )
            known.say(Reason.SCHEDULER_STARTED, told)
        return
    failures = scheduler.failures + 1
    known.tell(Reason.SCHEDULER_START_FAILED, outcome.message, "scheduler")
    known.scheduler(failures=failures, retry_at=known.now + backoff_ms(known.patience, failures))
    if outcome.permanent or failures >= known.patience.scheduler_attempts:
        known.fail(
            Reason.SCHEDULER_START_FAILED, f"the scheduler could not be started: {outcome.message}"
        )


def _worker_started(known: Known, worker: Worker, outcome: Started | StartFailed) -> None:
    if isinstance(outcome, Started):
        launching = (
            Launching.STARTED if worker.launching is Launching.INTENDED else worker.launching
        )
        known.worker(worker, handle=outcome.handle, launching=launching)
        return
    del known.workers[worker.name]
    worker_failed(known, worker, Reason.WORKER_START_FAILED, outcome.message)


def worker_failed(known: Known, worker: Worker, reason: Reason, message: str) -> None:
    """Take in that a worker did not come to join its scheduler; the next one is tried after a
    pause."""
    failures, why = (
        known.cluster.groups.get(worker.group, GroupStatus()).failures + 1,
        message or "no reason was told",
    )
    told = sound(f"{worker.name}: {why}", MAX_FAILURE)
    known.group(
        worker.group,
        failures=failures,
        failure=told,
        retry_at=known.now + backoff_ms(known.patience, failures),
    )
    known.tell(reason, why, worker.name)


def _worker_died(known: Known, worker: Worker, message: str) -> None:
    """Take in that a worker has ended soon after it joined. Of those that were started together,
    all count once: what one ends by often ends them all."""
    status = known.cluster.groups.get(worker.group, GroupStatus())
    after_s = (known.now - worker.connected_at) / 1000
    told = f"{worker.name} ended {after_s:.3g} s after it had joined: {message}"
    known.group(worker.group, failure=sound(told, MAX_FAILURE))
    if worker.created_at <= status.died_at:
        return
    died = status.died + 1
    pause_ms = backoff_ms(known.patience, died)
    known.group(worker.group, died=died, died_at=known.now, retry_at=known.now + pause_ms)
    if died == known.patience.worker_attempts:
        words = f"{given_up_words(died)}; {told}"
        known.tell(Reason.WORKERS_GIVEN_UP, words)


def given_up(status: GroupStatus, patience: Patience) -> bool:
    """Whether so many workers of a group have died soon after they joined that no more are
    started."""
    return 0 < patience.worker_attempts <= status.died


def given_up_words(died: int) -> str:
    """Return what is said of a group in which no more workers are started."""
    return (
        f"workers ended soon after they had joined, {died} times one after the other; none is"
        f" started until the cluster is scaled"
    )


def backoff_ms(patience: Patience, failures: int) -> int:
    """Return how long to wait after so many failures in a row."""
    return int(1000 * min(patience.backoff_max_s, patience.backoff_s * 2 ** min(failures - 1, 30)))


def _scheduler_observed(known: Known, seen: Observation) -> None:
    scheduler = known.cluster.scheduler
    if scheduler.launching is None:
        return
    if seen.handle and not scheduler.handle:  # the answer to its start was lost
        known.scheduler(handle=seen.handle)
        scheduler = known.cluster.scheduler
    if seen.phase is Phase.RUNNING and scheduler.launching in (
        Launching.INTENDED,
        Launching.STARTED,
    ):
        known.scheduler(
            launching=Launching.RUNNING,
            running_at=known.now,
            handle=seen.handle or scheduler.handle,
        )
        if known.cluster.state is State.CREATING:
            known.say("", "the scheduler runs and has not reported yet")
    if seen.phase is Phase.QUEUED and scheduler.launching in (Launching.STARTED, Launching.RUNNING):
        _scheduler_queued(known, scheduler, seen)
    if seen.phase in ENDED and scheduler.launching is not Launching.INTENDED:
        _scheduler_ended(known, scheduler, seen)


def _scheduler_queued(known: Known, scheduler: Scheduler, seen: Observation) -> None:
    """It waits, or waits again: before it was of use that costs only time; afterwards all that it
    held is lost."""
    if known.cluster.stop is not None:
        return
    if known.cluster.state is State.ACTIVE:
        # while its agent is connected, what says that it waits is older news
        if scheduler.silent_since_at:
            known.fail(
                Reason.SCHEDULER_REQUEUED,
                f"the scheduler was put back into the queue; what it held is lost. {seen.message}".rstrip(),  # noqa: E501
            )
        return
    if scheduler.launching is Launching.RUNNING:
        known.tell(
            Reason.SCHEDULER_REQUEUED, "the scheduler was put back into the queue", "scheduler"
        )
        known.scheduler(launching=Launching.STARTED, running_at=0)
    known.say(Reason.SCHEDULER_QUEUED, f"the scheduler waits in the queue: {seen.message}")


def _scheduler_ended(known: Known, scheduler: Scheduler, seen: Observation) -> None:
    if known.cluster.stop is None:
        if seen.exit_code == 0 and known.cluster.state is State.ACTIVE:
            known.end(
                StopWish(
                    State.STOPPED,
                    Reason.SCHEDULER_CLOSED,
                    "the scheduler was closed from within",
                    known.now,
                )
            )
        else:
            words = f"the scheduler's process ended{_ended_by(seen)}. {seen.message}"
            known.fail(Reason.SCHEDULER_EXITED, words.rstrip())
    # what is only presumed is told to end all the same
    if seen.phase is Phase.GONE and not seen.presumed:
        known.scheduler(launching=None, handle="")


def _ended_by(seen: Observation) -> str:
    """Return what a process ended by, as far as its code tells: no message need say so."""
    if seen.exit_code is None or f"code {seen.exit_code} " in f"{seen.message} ":
        return ""
    if seen.exit_code < 0:  # as Python's subprocess counts signals
        return f" by signal {-seen.exit_code}"
    return f" with code {seen.exit_code}"


def _worker_observed(known: Known, worker: Worker, seen: Observation) -> None:
    # the answer to its start was lost
    if seen.handle and not worker.handle and worker.launching is not Launching.INTENDED:
        worker = known.workers[worker.name] = replace(worker, handle=seen.handle)
    if (
        seen.phase is Phase.GONE
        and not seen.presumed
        and worker.launching is not Launching.INTENDED
    ):
        del known.workers[worker.name]
    if worker.launching in (Launching.STOPPING, Launching.LEAVING, Launching.INTENDED):
        return
    if (
        seen.phase is Phase.QUEUED
        and worker.launching is Launching.RUNNING
        and not worker.connected
    ):
        known.tell(Reason.WORKER_REQUEUED, "it was put back into the queue", worker.name)
        known.worker(worker, launching=Launching.STARTED)
    elif seen.phase is Phase.RUNNING and worker.launching is Launching.STARTED:
        known.worker(
            worker, launching=Launching.RUNNING, handle=seen.handle or worker.handle, message=""
        )
    elif seen.phase in ENDED:
        _worker_ended(known, worker, seen)


def _worker_ended(known: Known, worker: Worker, seen: Observation) -> None:
    if known.cluster.stop is None:
        known.group(worker.group, lost_at=known.now)
        by = _ended_by(seen) if seen.exit_code else ""  # 0: it was closed
        if worker.connected_at:
            reason = Reason.WORKER_CLOSED if seen.exit_code == 0 else Reason.WORKER_LOST
            words = f"its process ended{by}. {seen.message}".rstrip()
            known.tell(reason, words, worker.name)
            if known.now - worker.connected_at < int(known.patience.worker_settle_s * 1000):
                _worker_died(known, worker, words)
        else:
            worker_failed(
                known,
                worker,
                Reason.WORKER_EXITED,
                f"its process ended{by} before it connected. {seen.message}".rstrip(),
            )
    if seen.phase is Phase.EXITED or seen.presumed:
        known.worker(worker, launching=Launching.LEAVING, connected=False)


def _silence(known: Known, facts: Facts) -> None:
    scheduler = known.cluster.scheduler
    if facts.agent_connected and scheduler.silent_since_at:
        known.scheduler(silent_since_at=0)
        if known.cluster.reason == Reason.AGENT_SILENT and known.cluster.state is State.ACTIVE:
            known.say("", "the scheduler answers again")
            known.tell(Reason.AGENT_HEARD, "the scheduler answers again", "scheduler")
    elif not facts.agent_connected and known.cluster.state is State.ACTIVE:
        if not scheduler.silent_since_at:
            known.scheduler(silent_since_at=facts.heard_at or known.now)
        if (
            facts.hushed
            and known.cluster.reason != Reason.AGENT_SILENT
            and known.cluster.stop is None
        ):
            words = hushed_words(known.patience)
            known.say(Reason.AGENT_SILENT, words)
            known.tell(Reason.AGENT_SILENT, words, "scheduler")


def hushed_words(patience: Patience) -> str:
    """Return what is said of a scheduler that is silent though connected."""
    return (
        f"the scheduler has said nothing for {HUSH_S:g} s though its connection is open: it hangs,"
        f" or was suspended; its workers are not"
        f" replaced meanwhile, and after {patience.agent_silence_s:g} s the cluster has failed"
    )


def _news(known: Known, news: AgentNews) -> None:
    if news.snapshot:
        _snapshot(known, news)
    for name in news.workers:
        _joined(known, name)
    for name in news.left:
        worker = known.workers.get(name)
        if worker is not None and worker.connected:
            known.worker(worker, connected=False)
    for name in news.retired:
        worker = known.workers.get(name)
        if worker is not None and worker.launching not in (Launching.STOPPING, Launching.LEAVING):
            known.worker(worker, launching=Launching.LEAVING, connected=False)
    _activity(known, news)
    for group, target in news.targets.items():
        if (
            group in known.cluster.spec.groups
            and known.cluster.groups.get(group, GroupStatus()).target != target
        ):
            known.group(group, target=target)


def _joined(known: Known, name: str) -> None:
    worker = known.workers.get(name)
    if (
        worker is None
        or worker.connected
        or worker.launching in (Launching.STOPPING, Launching.LEAVING)
    ):
        return
    known.worker(
        worker,
        connected=True,
        connected_at=worker.connected_at or known.now,
        launching=Launching.RUNNING,
        message="",
    )
    if not known.cluster.groups.get(worker.group, GroupStatus()).died:
        known.group(worker.group, failure="", retry_at=0)
    known.group(worker.group, failures=0)


def _snapshot(known: Known, news: AgentNews) -> None:
    scheduler = known.cluster.scheduler
    known.scheduler(
        address=news.address or scheduler.address,
        dashboard_address=news.dashboard_address,
        versions=dict(news.versions),
        running_at=scheduler.running_at or known.now,
        launching=Launching.RUNNING
        if scheduler.launching in (Launching.INTENDED, Launching.STARTED)
        else scheduler.launching,
    )
    if known.cluster.state is State.CREATING and news.address:
        known.cluster = replace(known.cluster, started_at=known.now)
        known.move(Trigger.READY, "", "the scheduler answers")
    for worker in [
        worker
        for worker in known.workers.values()
        if worker.connected and worker.name not in news.workers
    ]:
        known.worker(worker, connected=False)


def _activity(known: Known, news: AgentNews) -> None:
    before = known.cluster.activity
    activity = Activity(
        clients=news.clients,
        idle_since_at=_settled(before.idle_since_at, news.idle_since_at),
        no_client_since_at=_settled(before.no_client_since_at, news.no_client_since_at),
        no_task_since_at=_settled(before.no_task_since_at, news.no_task_since_at),
    )
    if activity != before:
        known.cluster = replace(known.cluster, activity=activity)


def _settled(before: int, now: int) -> int:
    return before if before and now and abs(now - before) < ACTIVITY_SLACK_MS else now
