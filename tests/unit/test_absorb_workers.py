"""What is known of a worker once a machine room has seen it, and what is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.backends.contract import Phase
from gateway.server.core.model import (
    GroupStatus,
    Launching,
    State,
)
from tests.unit.known import ACTIVE, NOW, STOP, WORKER, of_worker, taken, told


def test_a_worker_that_begins_to_run() -> None:
    started = replace(WORKER, launching=Launching.STARTED, connected=False, message="waits")
    running = replace(started, launching=Launching.RUNNING, since_at=NOW, message="")
    assert taken(of_worker(Phase.RUNNING), started).workers[WORKER.name] == running
    assert taken(of_worker(Phase.RUNNING, handle="9"), started).workers[WORKER.name] == replace(
        running, handle="9"
    )
    assert taken(of_worker(Phase.RUNNING, handle="9"), WORKER).workers[WORKER.name] is WORKER


@pytest.mark.parametrize("launching", Launching)
def test_the_handle_of_a_worker_that_was_lost_is_taken_from_what_is_seen(
    launching: Launching,
) -> None:
    nameless = replace(WORKER, launching=launching, handle="")
    found = taken(of_worker(Phase.QUEUED, handle="9"), nameless).workers[WORKER.name]
    assert found == (nameless if launching is Launching.INTENDED else replace(nameless, handle="9"))
    assert (
        taken(of_worker(Phase.QUEUED, handle="9"), replace(nameless, handle="8"))
        .workers[WORKER.name]
        .handle
        == "8"
    )
    assert taken(of_worker(Phase.QUEUED), nameless).workers[WORKER.name] == nameless


def test_a_worker_that_is_put_back_into_the_queue() -> None:
    unconnected = replace(WORKER, connected=False)
    known = taken(of_worker(Phase.QUEUED), unconnected)
    assert known.workers[WORKER.name] == replace(
        unconnected, launching=Launching.STARTED, since_at=NOW
    )
    assert told(known) == [("WORKER_REQUEUED", "it was put back into the queue", "default-0")]
    for other in (WORKER, replace(unconnected, launching=Launching.STARTED)):
        known = taken(of_worker(Phase.QUEUED), other)
        assert (known.workers[WORKER.name], told(known)) == (other, [])


@pytest.mark.parametrize(
    ("connected_at", "code", "message", "event"),
    [
        (15, 0, "", ("WORKER_CLOSED", "its process ended.", "default-0")),
        (15, 1, "", ("WORKER_LOST", "its process ended with code 1.", "default-0")),
        (15, -9, "", ("WORKER_LOST", "its process ended by signal 9.", "default-0")),
        (
            15,
            1,
            "failed with code 1 (x)",
            ("WORKER_LOST", "its process ended. failed with code 1 (x)", "default-0"),
        ),
        (15, None, "killed", ("WORKER_LOST", "its process ended. killed", "default-0")),
        (
            0,
            0,
            "no module dask",
            ("WORKER_EXITED", "its process ended before it connected. no module dask", "default-0"),
        ),
        (0, None, "", ("WORKER_EXITED", "its process ended before it connected.", "default-0")),
    ],
)
@pytest.mark.parametrize("phase", [Phase.EXITED, Phase.GONE])
def test_a_worker_that_ended(
    phase: Phase, connected_at: int, code: int | None, message: str, event: tuple[str, str, str]
) -> None:
    worker = replace(WORKER, connected=bool(connected_at), connected_at=connected_at)
    known = taken(of_worker(phase, exit_code=code, message=message), worker)
    assert told(known) == [event]
    status = GroupStatus(desired=1, next_sequence=1, lost_at=NOW)
    failed = replace(status, failures=1, failure=f"default-0: {event[1]}", retry_at=NOW + 1_000)
    assert known.cluster.groups["default"] == (status if connected_at else failed)
    leaving = replace(worker, launching=Launching.LEAVING, connected=False, since_at=NOW)
    assert known.workers == ({} if phase is Phase.GONE else {WORKER.name: leaving})


def test_a_worker_that_ends_while_its_cluster_stops_is_no_loss() -> None:
    stopping = replace(ACTIVE, state=State.STOPPING, stop=STOP)
    for phase in (Phase.EXITED, Phase.GONE):
        known = taken(of_worker(phase, exit_code=1), WORKER, cluster=stopping)
        assert (told(known), known.cluster) == ([], stopping)
        assert [one.launching for one in known.workers.values()] == (
            [Launching.LEAVING] if phase is Phase.EXITED else []
        )


@pytest.mark.parametrize("launching", [Launching.STOPPING, Launching.LEAVING])
def test_a_worker_that_was_to_go_is_no_loss(launching: Launching) -> None:
    going = replace(WORKER, launching=launching, connected=False)
    for phase in (Phase.QUEUED, Phase.RUNNING, Phase.EXITED):
        known = taken(of_worker(phase), going)
        assert (known.workers, told(known), known.cluster) == ({WORKER.name: going}, [], ACTIVE)
    known = taken(of_worker(Phase.GONE), going)
    assert (known.workers, told(known), known.cluster) == ({}, [], ACTIVE)
    assert taken(of_worker(Phase.GONE, presumed=True), going).workers == {WORKER.name: going}


@pytest.mark.parametrize("phase", Phase)
def test_a_worker_that_was_not_started_yet_is_not_seen(phase: Phase) -> None:
    intended = replace(WORKER, launching=Launching.INTENDED, connected=False, connected_at=0)
    known = taken(of_worker(phase), intended)
    assert (known.workers, told(known), known.cluster) == ({WORKER.name: intended}, [], ACTIVE)


def test_what_is_only_presumed_of_a_worker() -> None:
    missing = of_worker(Phase.GONE, presumed=True)
    assert taken(missing, WORKER).workers == {WORKER.name: WORKER}  # its scheduler knows better
    left = replace(WORKER, connected=False)
    for worker, agent in ((left, True), (WORKER, False)):
        known = taken(replace(missing, agent_connected=agent), worker)
        assert known.workers == {
            WORKER.name: replace(left, launching=Launching.LEAVING, since_at=NOW)
        }
        assert [event.reason for event in known.events] == ["WORKER_LOST"]
    certain = taken(of_worker(Phase.GONE), WORKER)
    assert certain.workers == {}
