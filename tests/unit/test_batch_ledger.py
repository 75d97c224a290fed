"""The ledger of a batch system's jobs: what is missing is not gone."""

from __future__ import annotations

import pytest

from gateway.backends.batch import sight
from gateway.backends.batch.ledger import Ledger, Listing, note
from gateway.backends.batch.sight import sights
from gateway.backends.batch.system import Job
from gateway.backends.contract import (
    Instance,
    Observation,
    Phase,
    Role,
    Target,
)
from tests.unit.batch_jobs import UID, job

# The ledger: what is missing is not gone

WORKER = Instance(UID, Role.WORKER, "default-0")
NAMED = f"dgw1-{UID}-w-default-0"


def listing(at: float, *jobs: Job) -> Listing:
    """Return a listing."""
    return Listing(at, sights("dgw1", jobs))


def test_what_is_missing_from_listings_is_gone_only_after_the_grace() -> None:
    ledger = Ledger(absent_grace_s=300)
    target = Target(WORKER, "7")
    ledger.listed(listing(10, job(NAMED)))
    assert ledger.judge([target])[0][WORKER].phase is Phase.RUNNING
    for at in (20, 310):
        ledger.listed(listing(at))
        known, absent = ledger.judge([target])
        assert not known
        assert ledger.give_up(absent, {}, "nobody knows it") == {}
    ledger.listed(listing(315, job(NAMED)))  # it was only not listed for a while
    assert ledger.judge([target])[0][WORKER].phase is Phase.RUNNING
    ledger.listed(listing(320))
    assert ledger.give_up(ledger.judge([target])[1], {}, "nobody knows it") == {}
    ledger.listed(listing(620))
    gone = ledger.give_up(ledger.judge([target])[1], {}, "nobody knows it")
    assert (gone[WORKER].phase, gone[WORKER].message, gone[WORKER].presumed) == (
        Phase.GONE,
        "nobody knows it",
        True,
    )
    ledger.listed(listing(630, job(NAMED)))  # even then it may come back
    assert ledger.judge([target])[0][WORKER].phase is Phase.RUNNING
    ledger.listed(listing(1000))
    assert not ledger.give_up(ledger.judge([target])[1], {}, "nobody knows it")
    ended = ledger.give_up(ledger.judge([target])[1], {WORKER: 990}, "nobody knows it")[WORKER]
    assert not ended.presumed
    assert ledger.judge([target])[0][WORKER] == ended


def test_an_earlier_job_of_the_name_says_nothing_of_the_one_that_is_missed() -> None:
    ledger = Ledger(absent_grace_s=2)
    target = Target(WORKER, "9")
    for at in (10.0, 11.0, 13.0):
        ledger.listed(listing(at, job(NAMED, Phase.GONE, "7", message="its job failed")))
        gone = ledger.give_up(ledger.judge([target])[1], {}, "nobody knows it")
    assert gone[WORKER].message == "nobody knows it"


def test_what_was_asked_to_end_and_is_listed_no_more_is_gone_at_once() -> None:
    ledger = Ledger(absent_grace_s=300)
    ledger.listed(listing(20))
    target = Target(WORKER, "7/0")
    absent = ledger.judge([target])[1]
    assert ledger.give_up(absent, {WORKER: 21}, "") == {}  # the listing is older than the asking
    assert ledger.give_up(absent, {WORKER: 19}, "")[WORKER].phase is Phase.GONE


@pytest.mark.parametrize("how", ["its scheduler saw it leave", "its end could not be asked for"])
def test_what_must_have_ended_is_gone_after_two_listings_that_lack_it(how: str) -> None:
    ledger = Ledger(absent_grace_s=300)
    target = Target(WORKER, "7", left=how == "its scheduler saw it leave")
    unseen = {} if target.left else {WORKER: 1.0}
    ledger.listed(listing(10, job(NAMED)))
    for at in (20, 20, 20):  # one listing, however often it is looked at
        ledger.listed(listing(at))
        assert ledger.give_up(ledger.judge([target])[1], {}, "", unseen) == {}
    ledger.listed(Listing(25, sights("dgw1", []), sure=False))
    assert ledger.give_up(ledger.judge([target])[1], {}, "", unseen) == {}
    ledger.listed(listing(28, job(NAMED)))  # it was there all the time
    for at in (30, 40):
        ledger.listed(listing(at))
        gone = ledger.give_up(ledger.judge([target])[1], {}, "", unseen)
        assert bool(gone) is (at == 40)
    assert (gone[WORKER].phase, gone[WORKER].presumed) == (Phase.GONE, False)


def test_elements_of_an_array_that_ended_as_a_whole_are_gone() -> None:
    ledger = Ledger(absent_grace_s=300)
    ledger.listed(listing(20, job(NAMED, Phase.GONE, "7", message="its job was cancelled")))
    other = Instance(UID, Role.WORKER, "default-5")
    assert ledger.judge([Target(other, "7/5")])[0][other].message == "its job was cancelled"


def test_a_submission_is_not_missed_before_a_later_listing() -> None:
    ledger = Ledger(absent_grace_s=300)
    ledger.listed(listing(10))
    ledger.accept(WORKER, "7", 11)
    assert ledger.judge([Target(WORKER, "7")]) == ({}, [])
    assert ledger.existing(WORKER) == "7"
    ledger.listed(listing(12))
    assert ledger.existing(WORKER) == "7"  # it is not submitted again because a listing lacks it
    assert ledger.judge([Target(WORKER, "7")])[1]


def test_after_an_unanswered_submission_it_is_looked_before_another() -> None:
    ledger = Ledger(absent_grace_s=300)
    assert ledger.needs_listing([WORKER])
    ledger.listed(listing(10))
    assert not ledger.needs_listing([WORKER])
    ledger.doubt([WORKER], 11)
    assert ledger.needs_listing([WORKER])
    ledger.listed(listing(12, job(NAMED)))
    assert not ledger.needs_listing([WORKER])
    assert ledger.existing(WORKER) == "7"


def test_what_was_asked_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.backends.batch.ledger.MAX_KEPT", 3)
    workers = [Instance(UID, Role.WORKER, f"default-{number}") for number in range(4)]
    kept: dict[Instance, float] = {}
    note(kept, workers[:3], 1.0)
    note(kept, [workers[0], workers[3]], 2.0)
    assert kept == {workers[2]: 1.0, workers[0]: 2.0, workers[3]: 2.0}


def test_what_is_remembered_of_a_cluster_can_be_forgotten() -> None:
    ledger = Ledger(absent_grace_s=300)
    ledger.accept(WORKER, "7", 1)
    ledger.doubt([WORKER], 1)
    ledger.remember_end(Observation(WORKER, Phase.GONE))
    ledger.forget(UID)
    assert [ledger.submitted, ledger.uncertain, ledger.ended, ledger.absent] == [{}, {}, {}, {}]
    assert sight.parse_handle("123[].server/4") == ("123[].server", 4)
    assert sight.parse_handle("123/²") == ("123/²", None)
