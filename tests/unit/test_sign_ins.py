"""Guesses are slowed; nobody is locked out by what others do elsewhere."""

from __future__ import annotations

import pytest

from gateway.server.core import sign_ins
from gateway.server.core.sign_ins import ADDRESS, NAME, PAIR, SPOTLESS_S, Leniency, SignIns

HERE, THERE = "192.0.2.1", "198.51.100.9"


def guessed(signs: SignIns, address: str, name: str, seconds: float, now: float = 0.0) -> int:
    """Return how many guesses are heard of who tries again the moment that one is allowed to."""
    end, heard = now + seconds, 0
    while (wait_s := signs.wait_s(address, name, now)) + now < end:
        now += wait_s
        signs.failed(address, name, now)
        heard += 1
    return heard


def test_guessing_one_name_from_one_address_is_slow() -> None:
    assert PAIR.free < guessed(SignIns(), HERE, "alice", 3600) < 100


def test_guessing_many_names_from_one_address_is_slow_for_who_waits_for_answers() -> None:
    signs, now, heard = SignIns(), 0.0, 0
    while now < 3600:
        assert signs.wait_s(HERE, f"user{heard}", now) == 0.0
        signs.failed(HERE, f"user{heard}", now)
        now += signs.late_s(HERE, f"user{heard}", now)
        heard += 1
    assert heard < 800


def test_a_name_that_others_guess_elsewhere_signs_in_from_where_nothing_bad_is_known() -> None:
    signs = SignIns()
    for number in range(2000):
        signs.failed(f"10.0.{number // 250}.{number % 250}", "alice", 1.0)
    assert signs.wait_s(HERE, "alice", 1.0) == 0.0
    for number in range(5):
        signs.failed(THERE, f"other{number}", 1.0)
    assert signs.wait_s(THERE, "alice", 1.0) > 0.0  # an address that has failed itself waits


def test_who_has_signed_in_from_an_address_is_kept_out_neither_by_guesses_elsewhere_nor_by_neighbours() -> (  # noqa: E501
    None
):
    signs = SignIns()
    signs.succeeded(HERE, "alice")
    for number in range(1000):
        signs.failed(THERE, "alice", 1.0)
        signs.failed(HERE, f"x{number}", 1.0)
    assert signs.late_s(HERE, "bob", 1.0) == ADDRESS.most_s
    # who is right is answered at once, whatever the neighbours do
    assert signs.wait_s(HERE, "bob", 1.0) == 0.0
    assert signs.familiar(HERE, "alice")
    assert (signs.wait_s(HERE, "alice", 1.0), signs.late_s(HERE, "alice", 1.0)) == (0.0, 0.0)


def test_an_address_with_a_history_is_no_way_to_guess_without_end() -> None:
    signs = SignIns()
    signs.succeeded(HERE, "alice")
    assert guessed(signs, HERE, "alice", 3600) < 100
    # and alice's own mistakes are not held against bob
    assert signs.late_s(HERE, "bob", 3600.0) == 0.0


def test_success_clears_what_failed_and_time_does_too() -> None:
    signs = SignIns()
    for _ in range(PAIR.free + 3):
        signs.failed(HERE, "alice", 1.0)
    assert signs.wait_s(HERE, "alice", 1.0) == pytest.approx(PAIR.first_s * 8)
    signs.succeeded(HERE, "alice")
    assert signs.wait_s(HERE, "alice", 1.0) == 0.0
    for _ in range(PAIR.free + 3):
        signs.failed(THERE, "alice", 1.0)
    assert signs.wait_s(THERE, "alice", 1.0 + 20 * PAIR.back_s) == 0.0


def test_nobody_waits_longer_than_the_longest_time() -> None:
    signs = SignIns()
    for _ in range(10_000):
        signs.failed(HERE, "alice", 1.0)
    assert signs.wait_s(HERE, "alice", 1.0) <= max(PAIR.most_s, NAME.most_s)
    assert signs.late_s(HERE, "bob", 1.0) <= ADDRESS.most_s


def test_memory_is_bounded_whatever_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_ins, "MOST_KEPT", 100)
    signs = SignIns()
    for number in range(3000):
        signs.failed(f"10.0.0.{number}", f"{number}" * 1000, 1.0)
        signs.succeeded(f"10.1.0.{number}", f"{number}" * 1000)
    assert signs.kept <= 400
    assert max(len(key) for key in signs._good) < 100


def test_a_clock_that_goes_back_lets_nobody_in_earlier_nor_fails() -> None:
    signs = SignIns()
    for _ in range(20):
        signs.failed(HERE, "alice", 100.0)
    assert signs.wait_s(HERE, "alice", 50.0) > 0


def test_the_familiar_wait_before_the_spotless_and_these_before_all_others() -> None:
    signs = SignIns()
    signs.succeeded(HERE, "alice")
    signs.failed(HERE, "bob", 100.0)
    late = 100.0 + SPOTLESS_S
    assert [signs.lane(HERE, name, late) for name in ("alice", "bob")] == [0, 2]
    assert signs.lane(THERE, "alice", 100.0) == 1  # of which nothing is known
    assert signs.lane(HERE, "bob", late + 0.001) == 1  # of which nothing bad is known any more


def test_how_many_mistakes_are_free_and_how_long_one_waits_is_as_it_is_documented() -> None:
    assert Leniency(free=5, back_s=60.0, first_s=1.0, most_s=60.0) == PAIR
    assert Leniency(free=20, back_s=6.0, first_s=0.1, most_s=5.0) == ADDRESS
    assert Leniency(free=20, back_s=6.0, first_s=1.0, most_s=30.0) == NAME


@pytest.mark.parametrize(("after_s", "wait_s"), [(0, 8), (59, 0), (60, 0), (120, 0)])
def test_a_mistake_comes_back_after_its_time_and_no_earlier(after_s: float, wait_s: float) -> None:
    signs = SignIns()
    for _ in range(PAIR.free + 3):
        signs.failed(HERE, "alice", 0.0)
    assert signs.wait_s(HERE, "alice", after_s) == pytest.approx(wait_s)
    signs.failed(HERE, "alice", after_s)
    waits = signs.wait_s(HERE, "alice", after_s)
    assert waits == pytest.approx(2 ** (4 - after_s / 60))
