"""Fair shares: whose turn it is, whatever is asked in whatever order."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from gateway.fair import Bucket, FairPool
from gateway.turns import Crowded, Turns


class Crowd:
    """Many who ask; notes whose turn came."""

    def __init__(self, pool: FairPool) -> None:
        self.pool, self.served = pool, list[str]()

    def ask(self, key: str, count: int = 1) -> list[bool]:
        """Ask so often."""
        return [self.pool.ask(key, lambda: self.served.append(key), 1.0) for _ in range(count)]


def test_who_asks_for_one_does_not_wait_for_those_who_ask_for_a_thousand() -> None:
    pool = FairPool(2, 2, most_waiting=1000)
    crowd = Crowd(pool)
    crowd.ask("greedy", 1000)
    crowd.ask("modest")
    assert crowd.served == ["greedy"] * 2
    pool.give_back("greedy", 1.0)
    pool.give_back("greedy", 1.0)
    assert "modest" in crowd.served[2:4]


def test_places_go_round_and_not_to_who_asked_most() -> None:
    pool = FairPool(1, 1, most_waiting=100)
    crowd = Crowd(pool)
    for key, count in (("a", 20), ("b", 5), ("c", 1)):
        crowd.ask(key, count)
    for _ in range(6):
        pool.give_back(crowd.served[-1], 1.0)
    assert Counter(crowd.served[:7]) == {"a": 3, "b": 3, "c": 1}


def test_nobody_has_more_than_a_share_although_there_is_room() -> None:
    pool = FairPool(10, 3, most_waiting=100)
    crowd = Crowd(pool)
    crowd.ask("a", 9)
    assert (pool.taken, pool.waiting, pool.held_by("a"), pool.wanted_by("a")) == (3, 6, 3, 6)
    crowd.ask("b")
    assert crowd.served[-1] == "b"


def test_too_many_of_one_key_are_turned_away_and_others_are_not() -> None:
    pool = FairPool(1, 1, most_waiting=2)
    crowd = Crowd(pool)
    assert crowd.ask("a", 4) == [True, True, True, False]
    assert crowd.ask("b") == [True]


def test_what_is_allowed_over_time_is_given_in_time() -> None:
    pool = FairPool(100, 100, most_waiting=100, bucket=Bucket(10.0, 2.0))
    crowd = Crowd(pool)
    crowd.ask("a", 5)
    assert len(crowd.served) == 2
    wait_s = pool.pump(1.0)
    assert wait_s is not None
    assert wait_s == pytest.approx(0.1, abs=0.01)
    assert pool.pump(1.0 + wait_s + 0.001) == pytest.approx(0.1, abs=0.002)
    assert len(crowd.served) == 3


def test_whatever_happens_nothing_is_lost_or_given_twice() -> None:
    for seed in range(300):
        dice = random.Random(seed)
        total, each = dice.randint(1, 6), dice.randint(1, 4)
        pool = FairPool(total, each, most_waiting=5)
        held: Counter[str] = Counter()
        waiting: list[tuple[str, object]] = []

        def ask(
            key: str,
            pool: FairPool = pool,
            held: Counter[str] = held,
            waiting: list[tuple[str, object]] = waiting,
        ) -> None:
            def grant() -> None:
                held[key] += 1
                waiting[:] = [pair for pair in waiting if pair[1] is not grant]

            waiting.append((key, grant))
            if not pool.ask(key, grant, 1.0):
                waiting[:] = [pair for pair in waiting if pair[1] is not grant]

        for _ in range(200):
            key = dice.choice("abcd")
            step = dice.random()
            if step < 0.5:
                ask(key)
            elif step < 0.9 and held[key]:
                held[key] -= 1
                pool.give_back(key, 1.0)
            elif waiting:
                pair = dice.choice(waiting)
                assert pool.withdraw(pair[0], pair[1])  # type: ignore[arg-type]
                waiting.remove(pair)
            assert sum(held.values()) == pool.taken <= total
            assert len(waiting) == pool.waiting
            assert all(count <= each for count in held.values())
            for key in "abcd":  # nobody waits who could be served
                wants = any(pair[0] == key for pair in waiting)
                assert not (wants and pool.taken < total and held[key] < each)
        assert len(pool._shares) <= 4


async def test_a_turn_that_is_waited_for_and_given_up_is_not_lost() -> None:
    turns = Turns(FairPool(1, 1, most_waiting=3))
    await turns.take("a")
    waiting = [asyncio.ensure_future(turns.take("b")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    turns.give_back("a")  # in the same breath: the place goes to one that is about to end
    await asyncio.wait(waiting)
    assert waiting[0].cancelled()
    assert not waiting[1].cancelled()
    turns.give_back("b")
    assert (turns.pool.taken, turns.pool.waiting) == (0, 0)


async def test_beyond_so_many_waiting_one_is_told_at_once() -> None:
    turns = Turns(FairPool(1, 1, most_waiting=1))
    await turns.take("a")
    waiting = asyncio.ensure_future(turns.take("a"))
    await asyncio.sleep(0)
    with pytest.raises(Crowded):
        await turns.take("a")
    turns.give_back("a")
    await waiting
    turns.give_back("a")


async def test_time_alone_gives_turns_too() -> None:
    turns = Turns(FairPool(10, 10, most_waiting=10, bucket=Bucket(200.0, 1.0)))
    async with asyncio.timeout(20):
        for _ in range(5):
            async with turns.turn("a"):
                pass
    turns.close()
