"""The conformance suite notices what it is there for: each broken authenticator fails by the test
that is meant for it, and a sound one passes all."""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.authenticators.conformance import OPTIONAL, Conformance, Source
from gateway.authenticators.conformance.source import TRAITS
from tests.authenticators.broken import BROKEN, Broken
from tests.authenticators.pretend import PretendAuthenticator, source_of

TESTS = [name for name in dir(Conformance) if name.startswith("test_")]
ONE_OF_ITS_OWN = {
    "test_what_it_cannot_do_is_said": "it is the Source that is wrong then: see below",
}
CLOSE_S = 0.2


@asynccontextmanager
async def opened(kind: type[PretendAuthenticator]) -> AsyncIterator[Source]:
    """A source for an authenticator of a kind, which leaves nothing behind however broken it is."""
    before = asyncio.all_tasks()
    source, add_odd = source_of(kind, deadline_s=2.0, fresh_s=0.3, look_s=0.05)
    await source.open()
    await add_odd()
    try:
        yield source
    finally:
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await source.authenticator.close()
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken[1].__name__)
async def test_a_broken_authenticator_fails_by_the_test_that_is_meant_to_notice_it(
    broken: Broken,
) -> None:
    test, kind = broken
    async with opened(kind) as source:
        with pytest.raises(AssertionError) as caught:
            await getattr(Conformance(), test)(source)
    assert str(caught.value), "the test does not say what is wrong"


class TestSound(Conformance):
    """The one that the broken ones are made of, with as little patience: so they fail for what is
    broken in them."""

    @pytest.fixture
    async def source(self) -> AsyncIterator[Source]:
        async with opened(PretendAuthenticator) as source:
            yield source


def test_each_test_of_the_suite_has_a_broken_authenticator_that_it_notices() -> None:
    assert {test for test, _ in BROKEN} | ONE_OF_ITS_OWN.keys() == set(TESTS)
    assert len({kind.__name__ for _, kind in BROKEN}) == len(BROKEN)


def _missing_without_a_word(source: Source) -> None:
    source.outage = None


def _given_and_denied(source: Source) -> None:
    source.cannot = {"outage": "it is never away, or so it is said"}


def _no_reason(source: Source) -> None:
    source.hang, source.cannot = None, {"hang": "no"}


def _trait_without_a_word(source: Source) -> None:
    source.letter_case = False


def _too_patient(source: Source) -> None:
    source.fresh_s = 3600.0


@pytest.mark.parametrize(
    "wrong",
    [_missing_without_a_word, _given_and_denied, _no_reason, _trait_without_a_word, _too_patient],
)
async def test_a_source_that_does_not_say_what_it_cannot_do_fails(
    wrong: Callable[[Source], None],
) -> None:
    async with opened(PretendAuthenticator) as source:
        await Conformance().test_what_it_cannot_do_is_said(source)
        wrong(source)
        with pytest.raises(AssertionError):
            await Conformance().test_what_it_cannot_do_is_said(source)


async def test_what_a_source_cannot_do_is_skipped_with_its_reason_and_never_passed_in_silence() -> (
    None
):
    async with opened(PretendAuthenticator) as source:
        for what in (*OPTIONAL, *TRAITS):
            setattr(source, what, False if what in TRAITS else None)
        with pytest.raises(
            AssertionError, match=r"Source\.outage is not given, and Source\.cannot does not say"
        ):
            await Conformance().test_an_outage_is_no_verdict(source)
        source.cannot = {"outage": "it asks nobody who could be away"}
        with pytest.raises(unittest.SkipTest, match="outage: it asks nobody who could be away"):
            await Conformance().test_an_outage_is_no_verdict(source)
