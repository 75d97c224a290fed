"""How many guesses are free and how long the next one waits: exact, for a name at an address, for
an address, and for a name anywhere."""

from __future__ import annotations

import pytest

from gateway.server.core.sign_ins import SignIns

HERE, THERE = "192.0.2.1", "198.51.100.9"


def failed(*guesses: tuple[str, str, int], now: float = 0.0) -> SignIns:
    """Return what is remembered once guesses have failed: address, name, and how often, all at one
    instant."""
    signs = SignIns()
    for address, name, count in guesses:
        for _ in range(count):
            signs.failed(address, name, now)
    return signs


@pytest.mark.parametrize(
    ("count", "wait_s"),
    [(0, 0), (5, 0), (6, 2), (7, 4), (8, 8), (9, 16), (10, 32), (11, 60), (40, 60)],
)
def test_a_name_at_one_address(count: int, wait_s: float) -> None:
    signs = failed((HERE, "alice", count))
    assert signs.wait_s(HERE, "alice", 0.0) == wait_s
    assert signs.wait_s(HERE, "alice", float(wait_s)) == 0.0
    known = SignIns()
    known.succeeded(HERE, "alice")
    for _ in range(count):
        known.failed(HERE, "alice", 0.0)
    assert known.wait_s(HERE, "alice", 0.0) == wait_s


@pytest.mark.parametrize(
    ("count", "late_s"), [(20, 0), (21, 0.2), (22, 0.4), (25, 3.2), (26, 5), (99, 5)]
)
def test_an_address(count: int, late_s: float) -> None:
    signs = failed(*((HERE, f"user{number}", 1) for number in range(count)))
    assert signs.late_s(HERE, "new", 0.0) == signs.late_s(HERE, "", 0.0) == pytest.approx(late_s)
    assert signs.wait_s(HERE, "new", 0.0) == signs.late_s(THERE, "new", 0.0) == 0.0


@pytest.mark.parametrize(
    ("count", "wait_s"), [(20, 0), (21, 2), (22, 4), (24, 16), (25, 30), (99, 30)]
)
def test_a_name_anywhere(count: int, wait_s: float) -> None:
    guesses = [(f"10.0.0.{number}", "alice", 1) for number in range(count)]
    # so few that nothing bad is known of the address
    assert failed(*guesses, (HERE, "bob", 3)).wait_s(HERE, "alice", 0.0) == 0.0
    assert failed(*guesses, (HERE, "bob", 4)).wait_s(HERE, "alice", 0.0) == wait_s
    # that is nobody's name
    assert (
        failed(*((address, "", 1) for address, _, _ in guesses), (HERE, "bob", 4)).wait_s(
            HERE, "", 0.0
        )
        == 0.0
    )


def test_failures_come_back_one_a_minute() -> None:
    for at, waits in ((60.0, False), (59.9, True)):
        signs = failed((HERE, "alice", 5))
        signs.failed(HERE, "alice", at)
        assert (signs.wait_s(HERE, "alice", at) > 0.0) is waits
    many = failed((HERE, "alice", 1_000))
    # of however many, no more than 25 were counted, and 20 have come back
    many.failed(HERE, "alice", 1_200.0)
    assert many.wait_s(HERE, "alice", 1_200.0) == 2.0


def test_what_is_kept_and_what_is_forgotten() -> None:
    signs = failed((HERE, "alice", 3), (THERE, "alice", 1), (HERE, "", 1))
    assert signs.kept == 3 + 2 + 1  # pairs, addresses, names
    signs.succeeded(HERE, "alice")
    assert signs.kept == 2 + 2 + 1 + 1
    signs.failed(HERE, "alice", 0.0)  # one's own mistake
    assert signs.kept == 3 + 2 + 1 + 1
    assert signs.familiar(HERE, "alice")
    assert not signs.familiar(THERE, "alice")


def test_the_first_64_letters_of_a_name_are_looked_at() -> None:
    signs = failed((HERE, "x" * 64 + "a", 6))
    assert signs.wait_s(HERE, "x" * 64 + "b", 0.0) == signs.wait_s(HERE, "x" * 64, 0.0) == 2.0
    assert signs.wait_s(HERE, "x" * 63 + "b", 0.0) == signs.wait_s(HERE, "x" * 63, 0.0) == 0.0
    signs.succeeded(HERE, "x" * 64 + "a")
    assert signs.familiar(HERE, "x" * 64 + "b")
    assert not signs.familiar(HERE, "x" * 63)


def test_of_ten_thousand_who_was_touched_longest_ago_is_forgotten_first() -> None:
    signs = failed((HERE, "first", 7), (HERE, "second", 7), (HERE, "first", 1))
    signs.succeeded(THERE, "first")
    signs.succeeded(THERE, "second")
    signs.succeeded(THERE, "first")
    for number in range(9_998):
        signs.failed(f"10.{number}", "", 0.0)
        signs.succeeded(f"11.{number}", "")
    assert (signs.wait_s(HERE, "first", 0.0), signs.wait_s(HERE, "second", 0.0)) == (8.0, 4.0)
    assert signs.familiar(THERE, "first")
    assert signs.familiar(THERE, "second")
    signs.failed("12.0", "", 0.0)
    signs.succeeded("12.0", "x")
    assert (signs.wait_s(HERE, "first", 0.0), signs.wait_s(HERE, "second", 0.0)) == (8.0, 0.0)
    assert signs.familiar(THERE, "first")
    assert not signs.familiar(THERE, "second")
