"""Wrong passwords, many at a time: who is right gets in meanwhile, and who guesses is slowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.authenticators import password
from gateway.authenticators.contract import Authenticator, Credentials
from gateway.authenticators.password import PasswordAuthenticator, hash_password
from gateway.server.core.errors import SignInsSlowed
from gateway.server.core.model import Principal
from gateway.server.core.sign_ins import ADDRESS, PAIR
from gateway.server.security import sign_in
from gateway.server.security.sign_in import SignInDesk
from gateway.wire import basic_credentials
from tests.waiting import comes

HERE, THERE = "192.0.2.1", "198.51.100.9"


class Clock:
    """Stands still until told otherwise."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Sleep:
    """Notes how long was to be slept, and sleeps as long as `awake` is not set."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.awake = asyncio.Event()
        self.awake.set()

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.awake.wait()


@pytest.fixture
async def desk() -> AsyncIterator[SignInDesk]:
    authenticator = PasswordAuthenticator(
        users={"alice": hash_password("wonderland"), "bob": hash_password("builder")}
    )
    await authenticator.open()
    yield SignInDesk(authenticator, Clock(), Sleep())
    await authenticator.close()


def basic(user: str, secret: str, peer: str = HERE) -> Credentials:
    """Return what a caller sends."""
    return Credentials("basic", basic_credentials(user, secret).partition(" ")[2], peer)


async def guesses(desk: SignInDesk, count: int, user: str = "", peer: str = HERE) -> list[object]:
    """Guess so often at a time; return what came of it."""
    tries = [
        desk.sign_in(basic(user or f"nobody{number}", "guess", peer)) for number in range(count)
    ]
    return list(await asyncio.gather(*tries, return_exceptions=True))


def waiting(desk: SignInDesk) -> int:
    """Return how many wait for their turn."""
    return sum(lane.pool.waiting for lane in desk._lanes)


async def crowd(desk: SignInDesk, addresses: int, user: str) -> list[object]:
    """Guess from so many addresses, ten times each."""
    return [
        one
        for found in await asyncio.gather(
            *(guesses(desk, 10, user, f"10.0.{n // 250}.{n % 250}") for n in range(addresses))
        )
        for one in found
    ]


@pytest.mark.parametrize("guessed", ["", "alice", "bob"])
async def test_however_many_addresses_guess_who_signed_in_before_waits_for_none_of_them(
    desk: SignInDesk, guessed: str
) -> None:
    assert await desk.sign_in(basic("alice", "wonderland")) is not None
    authenticator = desk._authenticator
    assert isinstance(authenticator, PasswordAuthenticator)
    authenticator._right.clear()
    checked = Checked(authenticator)
    guessing = asyncio.ensure_future(crowd(desk, 200, guessed))
    await comes(lambda: waiting(desk) > 1000)
    before = checked.count
    assert await desk.sign_in(basic("alice", "wonderland")) is not None
    assert checked.count - before < 12
    guessing.cancel()


@pytest.mark.parametrize("guessed", ["", "alice", "bob"])
async def test_somebody_new_waits_for_one_guess_of_each_address_and_not_for_all_they_make(
    desk: SignInDesk, guessed: str
) -> None:
    authenticator = desk._authenticator
    checked = Checked(authenticator)
    guessing = asyncio.ensure_future(crowd(desk, 30, guessed))
    await comes(lambda: checked.count > 100)
    clock = desk._clock
    assert isinstance(clock, Clock)
    clock.now += 40.0  # what was slowed may be tried again
    guessing = asyncio.ensure_future(crowd(desk, 30, guessed))
    await comes(lambda: waiting(desk) > 50)
    before = checked.count
    assert await desk.sign_in(basic("alice", "wonderland")) is not None
    assert checked.count - before < 12
    guessing.cancel()


class Checked:
    """Counts what an authenticator is asked, and lets it take a moment."""

    def __init__(self, authenticator: Authenticator) -> None:
        self.count = 0
        self._authenticate = authenticator.authenticate
        authenticator.authenticate = self.authenticate  # type: ignore[method-assign]

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Answer."""
        self.count += 1
        await asyncio.sleep(0.001)
        return (
            Principal("alice") if credentials.value == basic("alice", "wonderland").value else None
        )


@pytest.mark.parametrize("guessed", ["", "bob"])
@pytest.mark.parametrize("peer", [HERE, THERE])
async def test_seventy_wrong_passwords_at_a_time_keep_nobody_from_signing_in(
    desk: SignInDesk, guessed: str, peer: str
) -> None:
    guessing = asyncio.ensure_future(guesses(desk, 70, guessed, peer))
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        found = await desk.sign_in(basic("alice", "wonderland"))
    assert found is not None
    assert found.user == "alice"
    if peer == THERE or guessed:  # at the same address many names are waited for
        assert not guessing.done()
    told = await guessing
    assert all(one is None or isinstance(one, SignInsSlowed) for one in told)
    again = await desk.sign_in(basic("alice", "wonderland"))
    assert again == found


async def test_who_guesses_is_told_when_to_come_back(desk: SignInDesk) -> None:
    for _ in range(PAIR.free + 1):
        await desk.sign_in(basic("alice", "guess"))
    with pytest.raises(SignInsSlowed) as slowed:
        await desk.sign_in(basic("alice", "wonderland"))  # the right one too: it may be a guess
    assert slowed.value.retry_after_s == pytest.approx(PAIR.first_s * 2)
    assert HERE in str(slowed.value)
    elsewhere = await desk.sign_in(basic("alice", "wonderland", THERE))
    assert elsewhere is not None
    clock = desk._clock
    assert isinstance(clock, Clock)
    clock.now += 2.1
    assert await desk.sign_in(basic("alice", "wonderland")) is not None


async def test_where_many_have_failed_refusals_come_late_and_right_passwords_do_not(
    desk: SignInDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = password.check_password
    monkeypatch.setattr(
        password, "check_password", lambda text, stored: text != "guess" and check(text, stored)
    )
    sleep = desk._sleep
    assert isinstance(sleep, Sleep)
    for _ in range(4):
        await guesses(desk, 12)
    assert len(sleep.slept) == 48 - ADDRESS.free
    assert max(sleep.slept) == ADDRESS.most_s
    sleep.slept.clear()
    assert await desk.sign_in(basic("bob", "builder")) is not None
    assert sleep.slept == []
    await guesses(desk, 1, peer=THERE)
    assert sleep.slept == []


async def test_of_one_address_so_many_refusals_come_late_at_a_time(
    desk: SignInDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(password, "check_password", lambda *_: False)
    monkeypatch.setattr(sign_in, "LATE", 10)
    for number in range(ADDRESS.free + 1):
        desk._signs.failed(HERE, f"x{number}", 1000.0)
    sleep = desk._sleep
    assert isinstance(sleep, Sleep)
    sleep.awake.clear()
    late = [
        asyncio.ensure_future(desk.sign_in(basic(f"n{number}", "guess"))) for number in range(10)
    ]
    await comes(lambda: len(sleep.slept) == 10)
    with pytest.raises(SignInsSlowed):
        await desk.sign_in(basic("another", "guess"))
    assert await desk.sign_in(basic("another", "guess", THERE)) is None
    sleep.awake.set()
    await asyncio.gather(*late)
    assert not desk._late


async def test_who_signed_in_from_an_address_before_waits_for_none_of_the_strangers_there(
    desk: SignInDesk,
) -> None:
    assert await desk.sign_in(basic("alice", "wonderland")) is not None
    authenticator = desk._authenticator
    assert isinstance(authenticator, PasswordAuthenticator)
    authenticator._right.clear()  # it is forgotten that the password was right
    guessing = asyncio.ensure_future(guesses(desk, 60))
    await comes(lambda: waiting(desk) > 50)
    assert await desk.sign_in(basic("alice", "wonderland")) is not None
    assert waiting(desk) > 40
    await guessing


async def test_one_name_at_one_address_waits_in_small_numbers(desk: SignInDesk) -> None:
    told = await guesses(desk, 70, "alice")
    assert sum(isinstance(one, SignInsSlowed) for one in told) > 50


async def test_a_cancelled_sign_in_leaves_no_place_taken(desk: SignInDesk) -> None:
    tries = [
        asyncio.ensure_future(desk.sign_in(basic(f"n{number}", "guess"))) for number in range(20)
    ]
    await asyncio.sleep(0)
    for one in tries[::2]:
        one.cancel()
    await asyncio.gather(*tries, return_exceptions=True)
    assert (sum(lane.pool.taken for lane in (*desk._lanes, desk._turns)), waiting(desk)) == (0, 0)


async def test_any_authenticator_is_asked_about_so_many_at_a_time() -> None:
    from gateway.authenticators.contract import Authenticator

    class Counting(Authenticator):
        schemes, at_a_time = ("negotiate",), 3
        now = most = 0

        async def authenticate(self, credentials: Credentials) -> Principal | None:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            return Principal("a")

    counting = Counting()
    desk = SignInDesk(counting)
    found = await asyncio.gather(
        *(desk.sign_in(Credentials("negotiate", f"{n}", f"10.0.0.{n}")) for n in range(50))
    )
    assert (len(found), counting.most) == (50, 3)
