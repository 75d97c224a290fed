"""So many looks at logs a second and no more, and nobody looks again before its turn."""

from __future__ import annotations

from dataclasses import replace

from gateway.server.core import unheard
from gateway.server.core.facts import Facts, Patience
from gateway.server.core.model import Launching, Scheduler, State
from gateway.server.reconcile.pace import Pace
from tests.unit.test_plan_deadlines import NOW, cluster, stepped


def test_many_who_ask_at_once_are_spread_in_the_order_they_asked() -> None:
    pace = Pace(4.0)
    assert [pace.wait_s(key, 100.0) for key in "abc"] == [0.0, 0.25, 0.5]
    assert pace.wait_s("b", 100.1) == 100.25 - 100.1  # asking again changes nothing
    assert pace.wait_s("b", 100.25) == 0.0
    assert pace.wait_s("b", 100.25) == 0.5  # used up: it is behind c now
    assert pace.wait_s("c", 100.5) == 0.0


def test_an_idle_while_gives_nobody_more_turns_later() -> None:
    pace = Pace(4.0)
    assert pace.wait_s("a", 0.0) == 0.0
    assert [pace.wait_s(key, 1000.0) for key in "bc"] == [0.0, 0.25]


def test_who_needs_no_turn_any_more_leaves_nothing_behind() -> None:
    pace = Pace(1.0)
    for number in range(100):
        pace.wait_s(str(number), 0.0)
        pace.forget(str(number))
    pace.forget("unknown")
    assert not pace._given


def test_a_log_is_not_looked_at_before_its_turn_and_the_step_wakes_then() -> None:
    of = cluster(state=State.CREATING, scheduler=Scheduler(Launching.RUNNING, "7", running_at=NOW))
    due = NOW + unheard.LOOK_MS
    patience = Patience(scheduler_start_s=60.0)
    assert stepped(of, Facts(), now=due, patience=patience).actions
    waits = stepped(of, Facts(look_from=due + 700), now=due, patience=patience)
    assert waits.actions == ()
    assert waits.wake_at == due + 700
    later = stepped(of, Facts(look_from=due + 700), now=due + 700, patience=patience)
    assert later.actions


def test_a_failure_that_is_due_waits_for_no_turn() -> None:
    of = cluster(state=State.CREATING, scheduler=Scheduler(Launching.RUNNING, "7", running_at=NOW))
    facts = Facts(look_from=NOW + 10_000_000)
    (look,) = stepped(of, facts, now=NOW + 5_000_000).actions
    assert look
    failed = stepped(of, replace(facts, agent_says=""), now=NOW + 5_000_000)
    assert failed.cluster.stop is not None
