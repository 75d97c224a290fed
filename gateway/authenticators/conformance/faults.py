"""Tests of what goes wrong around an authenticator: a source that is away or hangs, calls that are
given up, and a loop that must turn meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from gateway.authenticators.conformance.source import ALICE, BOB, NOBODY, Source
from gateway.authenticators.contract import AuthenticatorUnavailable
from gateway.backends.conformance.stall import MAX_STALL_S, longest_stall
from gateway.server.core.model import Principal

SETTLE_S = 2.0  # until a task that was told to end has ended


class Faults:
    """Outages, calls that are given up, and beginning and end."""

    async def test_an_outage_is_no_verdict(self, source: Source) -> None:
        await self._away(source, source.given("outage", source.outage))

    async def test_a_source_that_hangs_is_an_outage(self, source: Source) -> None:
        await self._away(source, source.given("hang", source.hang))

    async def _away(
        self, source: Source, away: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        """Ask while the source does not answer: of nobody may be said that there is none such."""
        await source.right(ALICE)
        known, new = await source.show(ALICE), await source.show(BOB)
        wrong = await source.wrong(BOB)
        async with away():
            asked: dict[str, Callable[[], Awaitable[Principal | None]]] = {
                f"{ALICE}, who signed in before": lambda: source.sign_in(known),
                f"{BOB}, who did not": lambda: source.sign_in(new),
            }
            if source.asked_by_name:
                asked[f"{ALICE} by name"] = lambda: source.identity(ALICE)
                asked[f"{BOB} by name"] = lambda: source.identity(BOB)
            for who, ask in asked.items():
                assert await _answer(ask) != "nobody", (
                    f"the source does not answer, and {who}, is said to be nobody"
                )
            told = await _answer(lambda: source.sign_in(wrong))
            assert told != "somebody", "while the source does not answer anybody is let in"
            if source.asked_by_name:
                told = await _answer(lambda: source.identity(NOBODY))
                assert told != "somebody", "while the source does not answer there is everybody"

        async def back() -> bool:
            return await _answer(lambda: source.sign_in(new)) == "somebody"

        await source.until(back, "the source answers again, and nobody is let in")
        await source.refused(wrong, "with wrong credentials, after an outage")

    async def test_an_outage_does_not_keep_it_from_closing(self, source: Source) -> None:
        away = source.outage or source.given("hang", source.hang)
        another = await source.again()
        await source.done(another.open(), "open")
        async with away():
            await source.done(another.close(), "close")

    async def test_calls_that_are_given_up_leave_no_place_taken(self, source: Source) -> None:
        for number in range(2 * source.authenticator.at_a_time + 2):
            credentials = await source.wrong(ALICE)
            call = asyncio.ensure_future(source.authenticator.authenticate(credentials))
            for _ in range(number % 4 + 1):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        await source.right(BOB)
        await source.refused(await source.wrong(ALICE), "with wrong credentials")

    async def test_no_call_holds_up_the_event_loop(self, source: Source) -> None:
        another = await source.again()

        async def remembered() -> None:
            source.authenticator.remembered(right)

        async def identity() -> None:
            if source.asked_by_name:
                await source.identity(ALICE)
                await source.identity(NOBODY)

        right, new, wrong = [
            await say(user)
            for say, user in ((source.show, ALICE), (source.show, BOB), (source.wrong, ALICE))
        ]
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "open": lambda: source.done(another.open(), "open"),
            "authenticate": lambda: source.done(another.authenticate(new), "authenticate"),
            "authenticate with wrong credentials": lambda: source.sign_in(wrong),
            "remembered": remembered,
            "identity": identity,
            "close": lambda: source.done(another.close(), "close"),
        }
        for name, call in calls.items():
            async with longest_stall() as worst:
                await call()
            assert worst[0] < MAX_STALL_S, (
                f"{name}: the event loop stood still for {worst[0]:.2f} s"
            )

    async def test_it_opens_and_closes_as_often_as_it_is_asked_to(self, source: Source) -> None:
        for _ in range(2):
            another = await source.again()
            await source.done(another.open(), "open")
            await source.sign_in(await source.wrong(ALICE), another)
            await source.done(another.close(), "close")
            await source.done(another.close(), "close, a second time")
        await source.right(ALICE)

    async def test_nothing_of_it_goes_on_after_it_was_closed(self, source: Source) -> None:
        before = asyncio.all_tasks()
        another = await source.again()
        await source.done(another.open(), "open")
        await source.sign_in(await source.show(ALICE), another)
        await source.done(another.close(), "close")
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if left:
            await asyncio.wait(left, timeout=SETTLE_S)
        left = {task for task in left if not task.done()}
        for task in left:
            task.cancel()
        assert not left, f"after close this goes on: {', '.join(map(repr, left))}"


async def _answer(ask: Callable[[], Awaitable[Principal | None]]) -> str:
    """Return what came of a question, in a word."""
    try:
        return "somebody" if await ask() is not None else "nobody"
    except AuthenticatorUnavailable:
        return "cannot be told"
