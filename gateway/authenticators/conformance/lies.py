"""Tests of sources that answer, and not as they should: late, with what nobody could mean, or of
somebody else. And of clocks that differ."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.authenticators.conformance.source import ALICE, BOB, NOBODY, Source
from gateway.authenticators.contract import AuthenticatorUnavailable, SignInRefused
from gateway.backends.conformance.stall import MAX_STALL_S, longest_stall
from gateway.server.core.model import Principal

OFF_S = 330.0  # a clock that is off by five minutes, and a little


class Lies:
    """Answers that are late, wrong or another's."""

    async def test_a_source_that_is_slow_is_waited_for(self, source: Source) -> None:
        slow = source.given("slow", source.slow)
        new, wrong = await source.show(BOB), await source.wrong(ALICE)
        async with slow(), longest_stall() as worst:
            told = await source.sign_in(new)
            assert told is not None, f"the source answers late, and {BOB} is kept out"
            assert told.user == BOB
            assert await source.sign_in(wrong) is None
            if source.asked_by_name:
                assert await source.identity(ALICE) is not None, (
                    f"the source answers late, and {ALICE} is said to be nobody"
                )
                assert await source.identity(NOBODY) is None
        assert worst[0] < MAX_STALL_S, f"the event loop stood still for {worst[0]:.2f} s meanwhile"

    async def test_what_nobody_could_mean_is_an_outage_and_lets_nobody_in(
        self, source: Source
    ) -> None:
        lies = source.given("lies", source.lies)
        assert lies, "Source.lies is empty"
        new = await source.show(BOB)
        asked: dict[str, Callable[[], Awaitable[Principal | None]]] = {
            f"{BOB} signs in": lambda: source.sign_in(new)
        }
        if source.asked_by_name:
            asked[f"{BOB} is asked about by name"] = lambda: source.identity(BOB)
        wrong = list[str]()
        for lie, during in lies.items():
            async with during(), longest_stall() as worst:
                wrong += [
                    f"the source tells {lie}; {what}{found}"
                    for what, ask in asked.items()
                    if (found := await _believed(ask))
                ]
            if worst[0] >= MAX_STALL_S:
                wrong.append(
                    f"the source tells {lie}; the event loop stood still: {worst[0]:.2f} s"
                )
        assert not wrong, "\n".join(wrong)

        async def back() -> bool:
            try:
                return await source.sign_in(new) is not None
            except AuthenticatorUnavailable:
                return False

        await source.until(back, "the source tells what is right again, and nobody is let in")

    async def test_who_is_asked_about_is_never_another(self, source: Source) -> None:
        impostor = source.given("impostor", source.impostor)
        async with impostor():
            for user in (ALICE, NOBODY):
                try:
                    told = await source.identity(user)
                except AuthenticatorUnavailable:
                    continue
                assert told is None, (
                    f"asked about {user} the source tells of {BOB}, and that is taken for"
                    f" {told.user!r}, admin {told.admin}"
                )

    async def test_who_is_kept_out_for_a_clock_is_told_so(self, source: Source) -> None:
        off_by = source.given("off_by", source.off_by)
        for seconds in (OFF_S, -OFF_S):
            credentials, why, told = await off_by(ALICE, seconds), "", None
            try:
                told = await source.done(
                    source.authenticator.authenticate(credentials), "authenticate"
                )
            except SignInRefused as error:
                why = error.why
            if told is None:
                assert "clock" in why or "expired" in why, (
                    f"the clock is off by {seconds:g} s, and what is told is {why!r}"
                )
            else:
                assert told.user == ALICE
        await source.right(ALICE)

    async def test_what_is_shown_twice_at_once_is_good_as_often_as_one_after_the_other(
        self, source: Source
    ) -> None:
        shown = await source.show(ALICE)
        at_once = await asyncio.gather(*(source.sign_in(shown) for _ in range(4)))
        good = [one.user for one in at_once if one is not None]
        again = await source.sign_in(shown)
        wanted = [ALICE] * (1 if again is None else 4)
        assert good == wanted, (
            f"shown four times at once, credentials let in {len(good)} times and not {len(wanted)}"
        )


async def _believed(ask: Callable[[], Awaitable[Principal | None]]) -> str:
    """Return what came of a question, empty if it cannot be told."""
    try:
        told = await ask()
    except AuthenticatorUnavailable:
        return ""
    except AssertionError as error:
        return f": {error}"
    return f", and is {'nobody' if told is None else repr(told)[:200]}"
