"""What a batch backend remembers between listings: submissions not listed yet, uncertain ones,
ends, and who is absent since when.

Nothing here must survive a restart: names of jobs say everything anew. No I/O; instants are the
loop's clock in seconds. Everything is bounded: by MAX_KEPT, or by the instances that are asked
about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.backends.batch.sight import Sight, Sights, parse_handle
from gateway.backends.contract import Instance, Observation, Phase, Target

MAX_KEPT = 100_000  # instances in each of the maps
# listings that lack what must have ended, until it counts as gone: one alone may have been made
# just before it was listed
LOOKS = 2


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission that the batch system has accepted."""

    handle: str
    at: float


@dataclass(frozen=True, slots=True)
class Listing:
    """What the batch system listed, and when it was asked."""

    asked_at: float
    sights: Sights
    # accounts whose jobs could not be listed, with why
    untold: Mapping[str, str] = field(default_factory=dict)
    sure: bool = True  # whether what it lacks was looked for where it would be


@dataclass(slots=True)
class Absence:
    """Since when an instance has been missing from listings, and how many of those that are sure
    have lacked it."""

    since: float
    asked_at: float = float("-inf")  # of the last listing that was counted
    looks: int = 0


NEVER = Listing(float("-inf"), Sights())


@dataclass(slots=True)
class Ledger:
    """The memory."""

    absent_grace_s: float
    listing: Listing = NEVER
    submitted: dict[Instance, Submission] = field(default_factory=dict)  # until listed
    # submissions whose outcome nobody knows, by when that was learnt
    uncertain: dict[Instance, float] = field(default_factory=dict)
    # learnt from accounting, or listed as ended
    ended: dict[Instance, Observation] = field(default_factory=dict)
    absent: dict[Instance, Absence] = field(default_factory=dict)

    def listed(self, listing: Listing) -> None:
        """Take in a listing."""
        self.listing = listing
        seen = listing.sights.by_instance
        for instance, submission in list(self.submitted.items()):
            sight = seen.get(instance)
            listed = sight is not None and (
                sight.live or sight.job.id == parse_handle(submission.handle)[0]
            )
            if submission.at < listing.asked_at and (
                listed or submission.at + self.absent_grace_s < listing.asked_at
            ):
                del self.submitted[instance]
        # An ended job of the same name may be listed long after: it says nothing of the one that is
        # missed.
        for instance in [
            instance for instance in self.absent if instance in seen and seen[instance].live
        ]:
            del self.absent[instance]

    def needs_listing(self, instances: Iterable[Instance]) -> bool:
        """Whether it must be looked whether one of these exists already: before anything else, and
        after an uncertain submission."""
        return self.listing is NEVER or any(
            self.uncertain.get(instance, float("-inf")) >= self.listing.asked_at
            for instance in instances
        )

    def existing(self, instance: Instance) -> str | None:
        """Return the handle of a living job of an instance, None if there is none."""
        submission = self.submitted.get(instance)
        if submission is not None:
            return submission.handle
        sight = self.listing.sights.by_instance.get(instance)
        return sight.observation.handle if sight is not None and sight.live else None

    def accept(self, instance: Instance, handle: str, now: float) -> None:
        """Note an accepted submission."""
        self.submitted[instance] = Submission(handle, now)
        self.uncertain.pop(instance, None)
        self.ended.pop(instance, None)
        self.absent.pop(instance, None)
        _bound(self.submitted)

    def doubt(self, instances: Iterable[Instance], now: float) -> None:
        """Note submissions that were not answered."""
        for instance in instances:
            self.uncertain[instance] = now
        _bound(self.uncertain)

    def judge(self, targets: Sequence[Target]) -> tuple[dict[Instance, Observation], list[Target]]:
        """Return what is known of targets, and those that are absent. What was submitted after the
        listing is in neither."""
        known: dict[Instance, Observation] = {}
        absent: list[Target] = []
        for target in targets:
            sight = self.listing.sights.by_instance.get(target.instance)
            submission = self.submitted.get(target.instance)
            if (
                submission is not None
                and submission.at >= self.listing.asked_at
                and (sight is None or not sight.live)
            ):
                continue  # too young to be listed; what is listed as ended is an earlier job
            if submission is not None and sight is None:
                # it may have ended before it was ever listed
                absent.append(replace(target, handle=target.handle or submission.handle))
            elif sight is not None and (sight.live or _same(target, sight)):
                known[target.instance] = (
                    sight.observation if sight.live else self._end(sight.observation)
                )
            elif target.instance in self.ended:
                known[target.instance] = self.ended[target.instance]
            elif (job := self.listing.sights.ended.get(parse_handle(target.handle)[0])) is not None:
                known[target.instance] = self._end(
                    Observation(
                        target.instance,
                        Phase.GONE,
                        target.handle,
                        message=job.message,
                        user=job.user,
                    )
                )
            else:
                absent.append(target)
        return known, absent

    def _end(self, observation: Observation) -> Observation:
        """Return an end as it was first told, with what has been found out about it since."""
        told = self.ended.get(observation.instance)
        if told is None or told.handle != observation.handle:
            self.remember_end(observation)
        return self.ended[observation.instance]

    def remember_end(self, observation: Observation) -> None:
        """Note how an instance ended: listings forget it before long."""
        self.ended[observation.instance] = observation
        self.absent.pop(observation.instance, None)
        self.submitted.pop(observation.instance, None)
        _bound(self.ended)

    def give_up(
        self,
        targets: Sequence[Target],
        stopped: Mapping[Instance, float],
        words: str,
        unseen: Collection[Instance] = (),
    ) -> dict[Instance, Observation]:
        """Return those of the absent that have been so for too long, as gone.

        Gone at once is what was asked to end before the listing: elements that never ran leave no
        trace. Gone after LOOKS listings is what its scheduler has seen leave, and what was to be
        asked to end and was `unseen` then already. So is at once what has no handle: it was never
        accepted, or is found by the sweep if it was. What else is missing is only presumed to be
        gone, after a long while: it is told again with every look, until it has been asked or is
        seen again.
        """
        gone: dict[Instance, Observation] = {}
        now = self.listing.asked_at
        for target in targets:
            absence = self._absence(target.instance)
            ended = absence.looks >= LOOKS and (target.left or target.instance in unseen)
            if stopped.get(target.instance, float("inf")) < now or ended:
                why = (
                    "its scheduler saw it leave, and the batch system lists its job no more"
                    if target.left and ended
                    else ""
                )
                gone[target.instance] = Observation(
                    target.instance, Phase.GONE, target.handle, message=why
                )
                self.remember_end(gone[target.instance])
            elif not target.handle or now - absence.since >= self.absent_grace_s:
                gone[target.instance] = Observation(
                    target.instance, Phase.GONE, target.handle, message=words, presumed=True
                )
        _bound(self.absent)
        return gone

    def _absence(self, instance: Instance) -> Absence:
        """Return for how long an instance has been missing, the present listing counted once."""
        now = self.listing.asked_at
        absence = self.absent.setdefault(instance, Absence(now))
        if self.listing.sure and absence.asked_at < now:
            absence.asked_at, absence.looks = now, absence.looks + 1
        return absence

    def as_of_now(
        self, known: Mapping[Instance, Observation], targets: Sequence[Target]
    ) -> dict[Instance, Observation]:
        """Return what still holds: while accounting and logs were asked a newer listing may have
        been taken in, and told by others."""
        newest, _ = self.judge(targets)
        living = {
            instance: seen for instance, seen in newest.items() if seen.phase is not Phase.GONE
        }
        return {
            i: living.get(i, seen)
            for i, seen in known.items()
            if i in living or seen.phase is Phase.GONE
        }

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a cluster."""
        for kept in (self.submitted, self.uncertain, self.ended, self.absent):
            for instance in [instance for instance in kept if instance.uid == uid]:
                del kept[instance]


def _same(target: Target, sight: Sight) -> bool:
    """Whether a handle means this very job: an instance may have had an earlier one."""
    return not target.handle or parse_handle(target.handle)[0] == sight.job.id


def _bound(kept: dict[Instance, Any]) -> None:  # the oldest go first
    while len(kept) > MAX_KEPT:
        del kept[next(iter(kept))]


def note(kept: dict[Instance, float], instances: Iterable[Instance], now: float) -> None:
    """Note when something was asked of instances. What was noted longest ago goes first."""
    for instance in instances:
        kept.pop(instance, None)
        kept[instance] = now
    _bound(kept)
