"""Slurm by slurmrestd, as each user: a JWT of the user's own from the site's command. API v0.0.36
to v0.0.38, and later by its number.

https://slurm.schedmd.com/rest_api.html. The gateway's account needs no rights at all; it needs only
the tokens.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from gateway.backends.batch import commands
from gateway.backends.batch.identity import checked_account
from gateway.backends.batch.system import (
    Cancel,
    Job,
    Listed,
    Order,
    SubmitRefused,
    answered,
    raise_first,
)
from gateway.backends.contract import BackendUnavailable
from gateway.backends.slurm import states as slurm_states
from gateway.backends.slurm import words as slurm_words

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

MAX_REQUESTS = 8  # at a time
MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_TOKENS = 10_000


class NoToken(BackendUnavailable):
    """There is no token of one user, or slurmrestd does not accept it: nothing can be asked as that
    user, which is no outage."""


class Tokens:
    """JWTs by user, from a command of the site: words in which {user} and {lifespan_s} are
    replaced; it prints the token last."""

    def __init__(
        self, words: Sequence[str], lifespan_s: int, timeout_s: float, run: commands.Run
    ) -> None:
        self._words, self._lifespan_s, self._timeout_s, self._run = (
            words,
            lifespan_s,
            timeout_s,
            run,
        )
        self._kept: dict[str, tuple[str, float]] = {}

    async def of(self, user: str) -> str:
        """Return a token that is good for a while yet."""
        kept, until = self._kept.get(user, ("", 0.0))
        if until > time.monotonic():
            return kept
        known = {"user": checked_account(user), "lifespan_s": str(self._lifespan_s)}
        words = [
            word.replace("{user}", known["user"]).replace("{lifespan_s}", known["lifespan_s"])
            for word in self._words
        ]
        answer = await self._run(words, deadline_s=self._timeout_s)
        token = (
            answer.out.strip().rpartition("\n")[2].rpartition("=")[2] if answer.code == 0 else ""
        )
        if token.count(".") != 2 or not token.isascii() or not token.isprintable():
            raise NoToken(
                f"c.SlurmBackend.token_command gave no token for {user}:"
                f" {answer.complaint if answer.err.strip() else 'it printed none'}"
            )
        while len(self._kept) >= MAX_TOKENS:
            del self._kept[next(iter(self._kept))]
        self._kept[user] = (token, time.monotonic() + self._lifespan_s / 2)
        return token

    def forget(self, user: str) -> None:
        """Drop a token that was refused."""
        self._kept.pop(user, None)


class SlurmRest:
    """A batch_system.BatchSystem."""

    def __init__(
        self,
        url: str,
        version: str,
        tokens: Tokens,
        timeout_s: float,
        *,
        listing_user: str,
        job: Mapping[str, object],
    ) -> None:
        self._url, self._version, self._tokens, self._timeout_s = (
            url.rstrip("/"),
            version,
            tokens,
            timeout_s,
        )
        self._listing_user, self._job = listing_user, job
        self._permits = asyncio.Semaphore(MAX_REQUESTS)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()

    async def _call(
        self, user: str, method: str, path: str, body: object = None
    ) -> tuple[int, str]:
        """Return status and text of an answer; BackendUnavailable if there is none."""
        import aiohttp

        if self._session is None:
            connector: aiohttp.BaseConnector | None = None
            base = self._url
            if self._url.startswith("unix:"):
                connector, base = (
                    aiohttp.UnixConnector(self._url.removeprefix("unix:")),
                    "http://localhost",
                )
            self._session, self._base = aiohttp.ClientSession(connector=connector), base
        headers = {"X-SLURM-USER-NAME": user, "X-SLURM-USER-TOKEN": await self._tokens.of(user)}
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        try:
            async with (
                self._permits,
                self._session.request(
                    method, self._base + path, json=body, headers=headers, timeout=timeout
                ) as got,
            ):
                raw = bytearray()
                async for piece in got.content.iter_any():
                    raw += piece
                    if len(raw) > MAX_ANSWER_BYTES:
                        raise BackendUnavailable(
                            f"slurmrestd wrote more than {MAX_ANSWER_BYTES // 2**20} MiB"
                        )
                text = raw.decode(errors="replace")
                if got.status in (401, 403) or (
                    "uthentication" in text[:500] and got.status >= 400
                ):
                    self._tokens.forget(user)
                    raise NoToken(f"slurmrestd does not accept the token of {user}")
                return got.status, text
        except TimeoutError:
            raise BackendUnavailable(
                f"slurmrestd did not answer within {self._timeout_s:g} s"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnavailable(
                f"slurmrestd at {self._url}: {error or type(error).__name__}"
            ) from None

    async def submit(self, order: Order) -> str:
        """One request."""
        body = slurm_words.submit_body(
            order, self._version, "/usr/local/bin:/usr/bin:/bin", self._job
        )
        status, text = await self._call(
            order.user, "POST", f"/slurm/{self._version}/job/submit", body
        )
        answer = _object(text)
        job_id = slurm_states.number(answer.get("job_id"))
        if job_id:
            return str(job_id)
        complaint = _errors(answer)
        if (status >= 500 and not complaint) or slurm_states.UNREACHABLE.search(complaint):
            raise BackendUnavailable(f"slurmrestd: {complaint or f'status {status}'}")
        message, hopeless = slurm_states.refusal(
            complaint or f"slurmrestd answered with status {status}"
        )
        raise SubmitRefused(f"Slurm refused the job: {message}", permanent=hopeless)

    async def cancel(self, cancels: Sequence[Cancel]) -> None:
        """One request for a job or an element: the API has no other way."""
        asked = (
            self._cancel(cancel.user, target) for cancel in cancels for target in _targets(cancel)
        )
        raise_first(await asyncio.gather(*asked, return_exceptions=True))

    async def _cancel(self, user: str, target: str) -> None:
        status, text = await self._call(user, "DELETE", f"/slurm/{self._version}/job/{target}")
        complaint = _errors(_object(text))
        if (
            complaint
            and "nvalid job id" not in complaint
            and "already complet" not in complaint.lower()
        ):
            raise BackendUnavailable(f"slurmrestd: cancelling {target}: {complaint}")
        if status >= 500 and not complaint:
            raise BackendUnavailable(f"slurmrestd: cancelling {target}: status {status}")

    async def jobs(self, users: Collection[str]) -> Listed:
        """One request with the listing user's token, or else one a user with their own."""
        wanted = set(users)
        askers = [self._listing_user] if self._listing_user and users else sorted(users)
        lists, untold = answered(
            askers,
            await asyncio.gather(*(self._jobs(user) for user in askers), return_exceptions=True),
            NoToken,
        )
        jobs = {
            (job.id, job.indices): job for found in lists for job in found if job.user in wanted
        }
        return Listed(list(jobs.values()), untold)

    async def _jobs(self, user: str) -> list[Job]:
        status, text = await self._call(user, "GET", f"/slurm/{self._version}/jobs")
        if status == 404:
            raise BackendUnavailable(
                f"slurmrestd at {self._url} has no API {self._version}; see"
                f" c.SlurmBackend.rest_version"
            )
        if status != 200:
            raise BackendUnavailable(
                f"slurmrestd: listing jobs: {_errors(_object(text)) or f'status {status}'}"
            )
        found = await asyncio.to_thread(slurm_states.jobs_of_json, text, "slurmrestd")
        return [job for job, _, _ in found]

    async def ended(self, ids: Collection[str], users: Collection[str]) -> Sequence[Job]:
        """Return nothing: what slurmrestd lists no more is gone after a while."""
        return []


def _targets(cancel: Cancel) -> list[str]:
    return (
        [f"{cancel.id}_{index}" for run in cancel.indices for index in run]
        if cancel.indices
        else [cancel.id]
    )


def _object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _errors(answer: Mapping[str, object]) -> str:
    """Return what slurmrestd complains of, in one line."""
    errors = answer.get("errors")
    if not isinstance(errors, list):
        return ""
    said = [
        str(one.get("error") or one.get("description") or one)
        for one in errors
        if isinstance(one, dict)
    ]
    return "; ".join(dict.fromkeys(said))[: commands.MAX_WORDS_BYTES]
