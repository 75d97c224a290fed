"""One user without a token keeps nobody else's jobs from being listed and started, and is not taken for one without jobs."""

from __future__ import annotations

import pathlib
from collections.abc import Collection, Sequence

import pytest

from gateway.backends.batch.system import Job
from gateway.backends.contract import BackendUnavailable, Instance, Launch, Phase, Role, Started, Target
from gateway.backends.slurm_rest import NoToken, SlurmRest, Tokens
from tests.backends.pretend import PretendBackend, PretendSystem

ALICE, BOB = "c" + "a" * 20, "c" + "b" * 20


class Room(PretendSystem):
    """A machine room where some users' jobs cannot be listed."""

    hidden: Collection[str] = ()

    async def jobs(self, users: Collection[str]) -> Sequence[Job]:
        """List jobs of those who are not hidden."""
        return [job for job in await super().jobs(users) if job.user not in self.hidden]


class Backend(PretendBackend):
    """Each user's jobs are the user's."""

    def unlisted(self) -> dict[str, str]:
        """Return who is hidden."""
        return {user: f"no token for {user}" for user in getattr(self.room, "hidden", ())}

    def accounts(self) -> Collection[str]:
        """Return whose jobs are listed."""
        return ("alice", "bob")


def launch(uid: str, user: str) -> Launch:
    """Return the launch of a scheduler."""
    return Launch(Instance(uid, Role.SCHEDULER, "scheduler", 0), user, ("sleep", "60"))


class Asked(SlurmRest):
    """A slurmrestd that gives each user who has a token one job."""

    async def _jobs(self, user: str) -> list[Job]:
        if user == "gone":
            raise NoToken("no token for gone")
        if user == "down":
            raise BackendUnavailable("slurmrestd does not answer")
        return [Job(f"1{user}", "x", user, Phase.RUNNING)]


async def test_listings_go_on_without_who_has_no_token_and_an_outage_is_still_one() -> None:
    rest = Asked("http://x", "v0.0.38", Tokens([], 60, 1.0, None), 1.0, listing_user="", job={})  # type: ignore[arg-type]
    assert [job.user for job in await rest.jobs(["alice", "gone"])] == ["alice"]
    assert rest.unlisted == {"gone": "no token for gone"}
    await rest.jobs(["alice"])
    assert rest.unlisted == {}
    with pytest.raises(BackendUnavailable, match="does not answer"):
        await rest.jobs(["alice", "down", "gone"])
    with pytest.raises(BackendUnavailable, match="no token for gone"):
        await rest.jobs(["gone"])


async def test_a_version_that_slurmrestd_does_not_have_is_told_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = SlurmRest("http://x", "v0.0.99", Tokens([], 60, 1.0, None), 1.0, listing_user="", job={})  # type: ignore[arg-type]

    async def nowhere(*_: object) -> tuple[int, str]:
        return 404, ""

    monkeypatch.setattr(rest, "_call", nowhere)
    with pytest.raises(BackendUnavailable, match=r"http://x has no API v0\.0\.99; see c\.SlurmBackend\.rest_version"):
        await rest.jobs(["alice"])


async def test_who_is_not_listed_is_neither_told_as_gone_nor_started_twice_and_others_are_started(tmp_path: pathlib.Path) -> None:
    room = Room()
    backend = Backend(room, root=str(tmp_path), absent_grace_s=0.0, first_look_s=0.0)
    await backend.open(lambda seen: None)
    backend.who.account = lambda user: user  # type: ignore[method-assign]
    (started,) = (await backend.start([launch(BOB, "bob")])).values()
    assert isinstance(started, Started)
    room.hidden = ("bob",)
    backend.ledger.submitted.clear()  # as after a restart
    target = Target(Instance(BOB, Role.SCHEDULER, "scheduler", 0), started.handle, "bob")
    await backend.listing(0.0)
    assert await backend.observations([target]) == {}
    with pytest.raises(BackendUnavailable, match="no token for bob"):
        await backend.start([launch(BOB, "bob")])
    assert list((await backend.start([launch(ALICE, "alice")])).values())
    assert room.submissions == 2
    room.hidden = ()
    again = await backend.start([launch(BOB, "bob")])
    assert (list(again.values()), room.submissions) == ([started], 2)
    await backend.close()
    await room.close()
