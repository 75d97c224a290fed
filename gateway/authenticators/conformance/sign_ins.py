"""Tests of signing in: who shows what is right is let in under the right name, and nobody else is,
however it is spelt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

from gateway.authenticators.conformance.source import (
    ALICE,
    BOB,
    NOBODY,
    OPTIONAL,
    TRAITS,
    Source,
    basic,
)

OTHER_SCHEMES = ("basic", "bearer", "negotiate", "digest", "")
HUGE = 16 * 1024  # letters; the gateway hands on no more
SAMPLES = 40  # of how long a refusal takes
TELLS_S, TELLS_PART = 0.005, 0.4  # what a caller can measure from afar


class SignIns:
    """`authenticate` and `remembered`."""

    async def test_what_it_cannot_do_is_said(self, source: Source) -> None:
        for what in (*OPTIONAL, *TRAITS):
            value = getattr(source, what)
            lacks = value is None or value is False
            assert lacks == (what in source.cannot), (
                f"Source.{what} is given, or Source.cannot says why not: one of the two"
            )
            assert not lacks or len(source.cannot[what]) > 10, (
                f"Source.cannot[{what!r}] gives no reason"
            )
        assert 0 <= source.fresh_s <= 60, "Source.fresh_s: a change is told within a minute"

    async def test_it_names_the_schemes_that_it_reads(self, source: Source) -> None:
        schemes, at_a_time = source.authenticator.schemes, source.authenticator.at_a_time
        assert isinstance(schemes, tuple), "schemes are a tuple: ('basic',)"
        assert schemes, "an authenticator with no scheme is never asked"
        assert all(one == one.lower().strip() and one for one in schemes), (
            f"{schemes}: schemes are written in lower case"
        )
        assert (await source.show(ALICE)).scheme in schemes, (
            f"users send another scheme than {', '.join(schemes)}"
        )
        assert at_a_time >= 1, "at_a_time: nobody would ever have a turn"

    async def test_right_credentials_tell_who_somebody_is(self, source: Source) -> None:
        alice, bob = await source.right(ALICE), await source.right(BOB)
        for told, admin, groups in ((alice, False, ("physics",)), (bob, True, ())):
            assert (told.admin, told.groups) == (admin, groups), (
                f"{told.user} has admin {admin} and groups {groups} in the source, and is told with"
                f" {told.admin} and {told.groups}"
            )
        assert await source.right(ALICE) == alice, "a second sign-in tells something else"

    async def test_many_who_sign_in_at_a_time_are_told_apart(self, source: Source) -> None:
        sent = [await source.show(user) for user in (ALICE, BOB, ALICE, BOB)]
        sent += [await source.wrong(user) for user in (ALICE, BOB)]
        told = await asyncio.gather(*(source.sign_in(one) for one in sent))
        names = [None if one is None else one.user for one in told]
        assert names == [ALICE, BOB, ALICE, BOB, None, None], f"they are mixed up: {names}"

    async def test_wrong_credentials_let_nobody_in(self, source: Source) -> None:
        await source.refused(await source.wrong(ALICE), "with wrong credentials")
        await source.right(ALICE)
        await source.refused(await source.wrong(ALICE), "with wrong ones, after right ones")
        await source.refused(await source.wrong(BOB), "as an admin with wrong credentials")

    async def test_a_user_there_is_none_of_is_kept_out(self, source: Source) -> None:
        source.need("names")
        await source.refused(await source.wrong(NOBODY), "whom nobody knows")

    async def test_another_users_password_lets_nobody_in(self, source: Source) -> None:
        password = await source.password(ALICE)
        for user in (NOBODY, BOB, ""):
            await source.refused(basic(user, password), "with another user's password")

    async def test_an_empty_secret_lets_nobody_in(self, source: Source) -> None:
        right = await source.show(ALICE)
        await source.refused(replace(right, value=""), "with nothing at all")
        for user in (ALICE, NOBODY, "") if source.passwords else ():
            await source.refused(basic(user, ""), "with an empty password")

    async def test_what_is_malformed_lets_nobody_in(self, source: Source) -> None:
        right = await source.show(ALICE)
        for value, why in malformed(right.value):
            await source.refused(replace(right, value=value), f"with {why}")

    async def test_a_password_is_taken_to_the_letter(self, source: Source) -> None:
        password = await source.password(ALICE)
        for other, why in _almost(password):
            await source.refused(basic(ALICE, other), f"with {why}")
        for name in (f" {ALICE}", f"{ALICE} ", f"{ALICE}\0", f"{ALICE}\n"):
            told = await source.told(basic(name, password))
            assert told is None, f"{name!r} is let in as {told.user!r}"

    async def test_a_name_in_other_letters_is_another_name(self, source: Source) -> None:
        source.need("letter_case")
        for name in (ALICE.upper(), ALICE.title()) if source.passwords else ():
            told = await source.told(basic(name, await source.password(ALICE)))
            assert told is None, f"{name!r} is let in as {told.user!r}"
            await source.refused(basic(name, "guess-of-somebody"), f"as {name!r} with a guess")
        if source.asked_by_name:
            assert await source.identity(ALICE.upper()) is None, (
                f"{ALICE.upper()} is taken for {ALICE}"
            )

    async def test_a_name_of_the_source_is_never_cut_or_changed(self, source: Source) -> None:
        odd = source.given("odd", source.odd)
        told = await source.told(await source.show(odd))
        assert told is None or told.user == odd, (
            f"{odd!r} is let in as {told.user!r}, which may be somebody else"
        )

    async def test_schemes_that_it_does_not_name_let_nobody_in(self, source: Source) -> None:
        right = await source.show(ALICE)
        for scheme in OTHER_SCHEMES:
            if scheme not in source.authenticator.schemes:
                await source.refused(
                    replace(right, scheme=scheme), f"by the scheme {scheme!r}, which it names not"
                )

    async def test_where_it_comes_from_makes_nobody_somebody_else(self, source: Source) -> None:
        for peer in ("127.0.0.1", "2001:db8::", ""):
            told = await source.sign_in(replace(await source.show(ALICE), peer=peer))
            assert told is not None, f"{ALICE} is kept out from {peer!r}"
            assert told.user == ALICE
            await source.refused(
                replace(await source.wrong(ALICE), peer=peer), f"with wrong ones from {peer!r}"
            )

    async def test_a_refusal_takes_as_long_for_an_unknown_user_as_for_a_wrong_secret(
        self, source: Source
    ) -> None:
        source.need("names")
        known, unknown = float("inf"), float("inf")
        for number in range(SAMPLES):
            known = min(known, await _refusal_s(source, ALICE))
            unknown = min(unknown, await _refusal_s(source, f"{NOBODY}-{number}"))
            differ_s = abs(known - unknown)
            if number >= 4 and differ_s <= max(TELLS_S, TELLS_PART * max(known, unknown)):
                return
        raise AssertionError(
            f"a wrong secret is refused after {known * 1000:.1f} ms, a user there is none of after"
            f" {unknown * 1000:.1f} ms: so it can be found out who there is"
        )


async def _refusal_s(source: Source, user: str) -> float:
    """Return for how many seconds somebody waits for a refusal."""
    credentials = await source.wrong(user)
    began_at = time.perf_counter()
    told = await source.sign_in(credentials)
    assert told is None
    return time.perf_counter() - began_at


def malformed(right: str) -> Iterator[tuple[str, str]]:
    """Yield what is almost right, or nothing at all, each with what it is."""
    yield " ", "a blank"
    yield "\0", "NUL"
    yield "é\udcff", "letters that are none"
    yield "{}", "an empty object"
    yield "*", "a star"
    yield "=" * 4, "padding"
    yield "A" * HUGE, f"{HUGE} letters"
    yield right + "\0", "right ones and NUL"
    yield right + "A" * 8, "right ones and more"
    yield right[: len(right) // 2], "half of the right ones"
    yield right[1:], "right ones without their first letter"
    yield right.swapcase(), "right ones in other letters"


def _almost(password: str) -> Iterator[tuple[str, str]]:
    """Yield passwords that are almost right, each with what it is."""
    yield password[:8] if len(password) > 8 else password[:7], "the first letters of a password"
    yield password + "x", "a password and one letter more"
    yield password + "\0", "a password and NUL"
    yield password + " ", "a password and a blank"
    yield " " + password, "a blank and a password"
    yield password.swapcase(), "a password in other letters"
    yield password + "x" * 5000, "a password and 5,000 letters more"
    yield "*", "a star for a password"
