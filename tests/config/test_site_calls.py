"""What a site's own functions may look like, how long they may take, and which of their errors are
words for users."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway.options import Refused
from gateway.server.boot import site_calls


class OfTheSite(Exception):
    """An exception that a site made."""


def _raise(error: BaseException) -> Callable[[], object]:
    def work() -> object:
        raise error

    return work


class Answering:
    """An object that is called."""

    def __call__(self, value: object) -> object:
        return value

    async def later(self, value: object) -> object:
        return value


async def _later(value: object) -> object:
    await asyncio.sleep(0)
    return value


@pytest.mark.parametrize(
    "function",
    [lambda value: value, _later, Answering(), Answering().later, lambda value: _later(value)],
)
async def test_sync_and_async_ones_answer_alike(function: Callable[..., Any]) -> None:
    assert await site_calls.call(function, 7, deadline_s=60) == 7


async def test_a_sync_one_holds_up_nobody() -> None:
    go = threading.Event()
    waiting = asyncio.create_task(site_calls.call(go.wait, deadline_s=60))
    await asyncio.sleep(0)  # the loop turns while it waits
    go.set()
    assert await waiting is True


async def test_one_that_never_answers_ends_at_its_deadline() -> None:
    forever = threading.Event()

    async def never() -> None:
        await asyncio.Event().wait()

    try:
        for function in (forever.wait, never):
            with pytest.raises(site_calls.TooLate):
                await site_calls.call(function, deadline_s=0.05)
        # more of them than there are threads: the last wait for a turn, and no longer either
        late = [
            site_calls.call(forever.wait, deadline_s=0.2) for _ in range(site_calls.AT_A_TIME + 2)
        ]
        found = await asyncio.gather(*late, return_exceptions=True)
        assert [type(one) for one in found] == [site_calls.TooLate] * len(late)
    finally:
        forever.set()


async def test_a_timeout_of_its_own_is_its_own() -> None:
    with pytest.raises(TimeoutError, match="the directory"):
        await site_calls.call(_raise(TimeoutError("the directory")), deadline_s=60)


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (_raise(Refused("no hours left")), "no hours left"),
        (_raise(Refused()), "the site's rules refuse it"),
        (_raise(ValueError("no hours left")), "no hours left"),
        (_raise(RuntimeError("no hours left")), "no hours left"),
        (_raise(PermissionError("not for\nguests")), "not for guests"),
        (_raise(Exception("no hours left")), "no hours left"),
        # what it does wrong
        (_raise(ValueError()), ""),
        (_raise(KeyError("alice")), ""),
        (_raise(TypeError("no")), ""),
        (_raise(PermissionError(13, "Permission denied")), ""),
        (_raise(OSError("no")), ""),
        (_raise(OfTheSite("no")), ""),
        (_raise(NotImplementedError("no")), ""),
        (lambda: int("many"), ""),
        (lambda: dict[str, str]()["alice"], ""),
        (lambda: json.loads("{"), ""),
        (lambda: b"\xff".decode(), ""),
        (lambda: os.stat("/nowhere"), ""),
        (lambda: 1 / 0, ""),
    ],
)
async def test_what_it_says_is_told_from_what_it_does_wrong(
    work: Callable[[], object], words: str
) -> None:
    calling = asyncio.ensure_future(site_calls.call(work, deadline_s=60))
    await asyncio.wait([calling])
    raised = calling.exception()
    assert isinstance(raised, Exception)
    assert site_calls.said(raised) == words


@pytest.mark.parametrize(
    ("function", "wants"),
    [
        (lambda values: 0, False),
        (lambda values, user: 0, True),
        (lambda values, who: 0, True),
        (lambda values, hours=3: 0, False),
        (lambda values, user=None: 0, True),
        (lambda values, principal=None: 0, True),
        (lambda *both: 0, True),
        (lambda values, *more: 0, True),
        (lambda values, **more: 0, False),
        (dict, False),
    ],
)
def test_who_takes_two_gets_the_user(function: Callable[..., Any], wants: bool) -> None:
    assert site_calls.wants_user(function) is wants
