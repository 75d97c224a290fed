"""Why a scheduler is not heard: when its log is looked at, what it says, and what users read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway import wire
from gateway.agent.unreached import unreached
from gateway.backends.contract import Target
from gateway.server.core.facts import Facts, Patience
from gateway.server.core.model import Cluster, Launching, Scheduler, State
from gateway.server.core.plan import ReadLog
from gateway.server.core.unheard import LOOK_MS, MAX_SAID, said
from tests.unit.test_plan_deadlines import NOW, cluster, stepped

LINE = "2026-11-27 10:00:00,123 - distributed.scheduler.daskgateway - WARNING - "
REFUSED = unreached("https://gateway:8001", "UNAVAILABLE", "last error: Connection refused")
DIALLING = Patience(scheduler_start_s=60.0, dialled="https://gateway:8001")


def running() -> Cluster:
    """Return a cluster whose scheduler runs and has not reported."""
    scheduler = Scheduler(Launching.RUNNING, "7", running_at=NOW)
    return cluster(state=State.CREATING, scheduler=scheduler)


def test_the_agents_last_words_are_found_among_what_the_scheduler_and_its_user_log() -> None:
    log = (
        f"{LINE}{wire.AGENT_SAYS}an older reason; trying on\n"
        f"{LINE}{wire.AGENT_SAYS}{REFUSED}; trying on\n"
        "distributed.scheduler - INFO - Receive client connection\n\n"
    )
    assert said(log) == f"its agent says: {REFUSED}; trying on"
    assert said("Loading modules\nTraceback\nImportError: no\n") == (
        "its log ends with: ImportError: no"
    )
    assert said("") == said("\n \n") == ""


@pytest.mark.parametrize("line", ["x" * 100_000, f"{wire.AGENT_SAYS}{'y ' * 50_000}"])
def test_what_is_told_of_a_log_is_one_bounded_line(line: str) -> None:
    words = said(f"before\n{line}\n")
    assert len(words) <= MAX_SAID + len("its log ends with: ")
    assert words.endswith("…")


def test_a_log_is_looked_at_before_a_cluster_fails_and_its_words_are_the_reason() -> None:
    of, looked = running(), Facts(log_read_at=NOW + 40_000)
    due = NOW + 60_000
    assert stepped(of, looked, now=due - 1, patience=DIALLING).actions == ()
    looks = stepped(of, looked, now=due, patience=DIALLING)
    assert looks.actions == (ReadLog(Target(of.scheduler_instance, "7", "alice")),)
    assert looks.cluster.stop is None
    failed = stepped(
        of, Facts(agent_says=f"its agent says: {REFUSED}"), now=due, patience=DIALLING
    ).cluster.stop
    assert failed is not None
    assert failed.message == (
        "the scheduler did not report within 60 s of running; its agent dials"
        f" https://gateway:8001; its agent says: {REFUSED}"
    )
    nothing = stepped(of, Facts(agent_says=""), now=due, patience=DIALLING).cluster.stop
    assert nothing is not None
    assert nothing.message.endswith("its agent dials https://gateway:8001, see its log")


def test_a_silent_scheduler_fails_with_what_its_log_says() -> None:
    of = cluster(scheduler=Scheduler(Launching.RUNNING, "7", silent_since_at=NOW))
    due = NOW + 8_000
    (look,) = stepped(of, Facts(), now=due).actions
    assert isinstance(look, ReadLog)
    failed = stepped(of, Facts(agent_says=f"its agent says: {REFUSED}"), now=due).cluster.stop
    assert failed is not None
    assert (failed.reason, failed.message) == (
        "AGENT_SILENT",
        f"the scheduler's agent has been silent for 8 s; its agent says: {REFUSED}",
    )


def test_while_a_scheduler_is_waited_for_its_log_is_looked_at_more_and_more_seldom() -> None:
    of, looks, facts = running(), list[int](), Facts()
    for now in range(NOW, NOW + 110_000, 1_000):
        result = stepped(of, facts, now=now, patience=Patience(scheduler_start_s=120.0))
        of = result.cluster
        if result.actions:
            looks.append((now - NOW) // 1_000)
            facts = Facts(log_read_at=now)
            told = replace(facts, agent_says="its log ends with: x")
            of = stepped(of, told, now=now, patience=Patience()).cluster
            assert of.message.endswith("has not reported yet; its log ends with: x")
            assert of.state is State.CREATING
    assert looks == [10, 20, 40, 80]


@pytest.mark.parametrize("says", ["", "its log ends with: x"])
def test_a_look_that_brings_nothing_new_stores_nothing(says: str) -> None:
    """Also found: each look was stored, so that watches were told of a change that nobody sees."""
    of = stepped(running(), Facts(), patience=Patience()).cluster
    facts = Facts(agent_says=says, log_read_at=NOW + LOOK_MS)
    first = stepped(of, facts, now=NOW + LOOK_MS, patience=Patience())
    assert first.changes(of) is bool(says)
    later = Facts(agent_says=says, log_read_at=NOW + 20_000)
    again = stepped(first.cluster, later, now=NOW + 20_000, patience=Patience())
    assert not again.changes(first.cluster)


def test_a_scheduler_that_was_heard_meanwhile_is_not_said_to_be_silent() -> None:
    heard = replace(running(), state=State.ACTIVE)
    facts = Facts(agent_says="its log ends with: x", agent_connected=True, heard_at=NOW)
    assert "not reported" not in stepped(heard, facts, patience=Patience()).cluster.message


def test_a_step_says_when_the_log_is_looked_at_next() -> None:
    result = stepped(running(), Facts(), patience=Patience())
    assert result.wake_at == NOW + LOOK_MS
    heard = replace(running(), state=State.ACTIVE)
    wake = stepped(heard, Facts(agent_connected=True, heard_at=NOW), patience=Patience()).wake_at
    assert wake is None
