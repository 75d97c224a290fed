"""What slurmrestd tells of some users and not of others, and what it does not have."""

from __future__ import annotations

import pytest

from gateway.backends.batch.system import Job
from gateway.backends.contract import BackendUnavailable, Phase
from gateway.backends.slurm.rest import NoToken, SlurmRest, Tokens


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
    listed = await rest.jobs(["alice", "gone"])
    assert [job.user for job in listed.jobs] == ["alice"]
    assert listed.untold == {"gone": "no token for gone"}
    assert (await rest.jobs(["alice"])).untold == {}
    with pytest.raises(BackendUnavailable, match="does not answer"):
        await rest.jobs(["alice", "down", "gone"])
    with pytest.raises(BackendUnavailable, match="no token for gone"):
        await rest.jobs(["gone"])


async def test_a_version_that_slurmrestd_does_not_have_is_told_with_its_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rest = SlurmRest("http://x", "v0.0.99", Tokens([], 60, 1.0, None), 1.0, listing_user="", job={})  # type: ignore[arg-type]

    async def nowhere(*_: object) -> tuple[int, str]:
        return 404, ""

    monkeypatch.setattr(rest, "_call", nowhere)
    with pytest.raises(
        BackendUnavailable,
        match=r"http://x has no API v0\.0\.99; see c\.SlurmBackend\.rest_version",
    ):
        await rest.jobs(["alice"])
