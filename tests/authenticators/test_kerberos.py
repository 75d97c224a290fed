"""Kerberos against a real KDC: every promise of an authenticator, and the traps of the library."""

from __future__ import annotations

import asyncio
import base64
import pathlib
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.authenticators import kerberos as authenticators
from gateway.authenticators import keytab as keytabs
from gateway.authenticators.conformance import Conformance, Source
from gateway.authenticators.contract import (
    AuthenticatorUnavailable,
    Credentials,
    Sessions,
    SignInRefused,
)
from gateway.authenticators.kerberos import KerberosAuthenticator
from gateway.client.calls import kerberos as client
from gateway.configfile import ConfigurationError
from gateway.server.core.user_names import rule_of
from gateway.server.security.sources import Part, Sources
from gateway.server.store.memory import MemoryStore
from tests.parts import program
from tests.parts.kerberos import REALM, Realm, realm

__all__ = ["realm"]

CANNOT = {
    "add": "",
    "change": "Kerberos tells neither groups nor who is an admin",
    "remove": "who a ticket was given to is not asked about again",
    "renew": "the keytab alone judges a token",
    "ending": "Kerberos tells no end of an account",
    "outage": "the keytab alone judges a token: no KDC is asked",
    "hang": "the keytab alone judges a token: no KDC is asked",
    "slow": "the keytab alone judges a token: no KDC is asked",
    "lies": "the keytab alone judges a token: no KDC is asked",
    "impostor": "Kerberos cannot be asked about users",
    "asked_by_name": "Kerberos cannot be asked about users",
    "names": "a token that is wrong names nobody",
    "passwords": "a token is sent, no password",
    "letter_case": "a token names its user in the realm's own letters",
    "stamps": "Kerberos tells not when a password was changed",
}


def token_of(realm: Realm, user: str, service: str = "HTTP@localhost") -> bytes:
    """Return a new token of a user."""
    made = client.handshake(service, ccache=realm.cache(user), timeout_s=60)
    return base64.b64decode(made.header.partition(" ")[2])


def sent(token: bytes) -> Credentials:
    """Return a token as it is sent."""
    return Credentials("negotiate", base64.b64encode(token).decode(), "192.0.2.1")


def made(realm: Realm, **settings: Any) -> KerberosAuthenticator:
    """Return an authenticator over the realm; users are called as the realm calls them."""
    found = KerberosAuthenticator(
        **{
            "keytab": str(realm.keytab),
            "replay_cache": str(realm.directory / "replays"),
            "admins": {f"bob@{REALM}"},
            "groups": {f"alice@{REALM}": ["physics"]},
            **settings,
        }
    )
    found.why_not = lambda name: ""
    return found


def sources(realm: Realm, **settings: Any) -> Sources:
    """Return an authenticator as the server has it."""
    return Sources([Part("kerberos", made(realm, **settings), rule_of(f"{{user}}@{REALM}"))])


@pytest.fixture
async def kerberos(realm: Realm) -> AsyncIterator[KerberosAuthenticator]:
    """An authenticator."""
    found = made(realm)
    await found.open()
    yield found
    await found.close()


class TestKerberos(Conformance):
    """The suite, over a real realm."""

    @pytest.fixture
    async def source(self, realm: Realm) -> AsyncIterator[Source]:
        people: dict[str, dict[str, Any]] = {"groups": {}, "admins": {}}

        async def add(user: str, *, admin: bool, groups: Any) -> None:
            people["groups"][f"{user}@{REALM}"] = list(groups)
            if admin:
                people["admins"][f"{user}@{REALM}"] = True
            if user == "carol":
                await asyncio.to_thread(_added, realm, user)
            authenticator = source.authenticator
            assert isinstance(authenticator, Sources)
            own: Any = authenticator.members[0]
            own.groups, own.admins = people["groups"], set(people["admins"])

        async def show(user: str) -> Credentials:
            return sent(await asyncio.to_thread(token_of, realm, user))

        async def wrong(user: str) -> Credentials:
            token = await asyncio.to_thread(token_of, realm, "alice", "HTTP@127.0.0.1")
            return sent(token[:-8] + bytes(8))

        async def expired(user: str) -> Credentials:
            return sent(await asyncio.to_thread(faked, realm, "+6m"))

        async def off_by(user: str, seconds: float) -> Credentials:
            # by a clock that is further behind the own ticket is not valid yet, and nothing is sent
            return sent(await asyncio.to_thread(faked, realm, f"{max(seconds, -240):+.0f}s"))

        async def replayed(user: str) -> Credentials:
            used = await show(user)
            assert await source.authenticator.authenticate(used) is not None
            return used

        async def again() -> Sources:
            return sources(realm)

        source = Source(
            sources(realm),
            again=again,
            add=add,
            show=show,
            wrong=wrong,
            expired=expired,
            replayed=replayed,
            off_by=off_by,
            odd=None,
            asked_by_name=False,
            names=False,
            passwords=False,
            letter_case=False,
            stamps=False,
            cannot={**CANNOT, "odd": "the realm's own names are told, to the letter"},
        )
        await source.open()
        yield source
        await source.close()


def _added(realm: Realm, user: str) -> None:
    try:
        realm.admin(f"addprinc -pw {user}-password {user}")
    except AssertionError as error:
        assert "already exists" in str(error)  # noqa: PT017


FAKED = """
import base64, sys
from gateway.client.calls import kerberos
print(kerberos.handshake("HTTP@localhost", ccache=sys.argv[1], timeout_s=60).header)
"""


def faked(realm: Realm, offset: str, *, asked: bool = True) -> bytes:
    """Return a token that is made by a client whose clock is off, with a ticket that it has, or for
    which it has yet to ask; AssertionError with its words if it makes none."""
    cache = realm.cache("alice")
    if asked:
        client.handshake("HTTP@localhost", ccache=cache, timeout_s=60)  # which gets the ticket
    return base64.b64decode(_by_a_clock(realm, offset, FAKED, cache).partition(" ")[2])


JUDGED = """
import asyncio, sys
from gateway.authenticators.contract import Credentials, SignInRefused
from gateway.authenticators.kerberos import KerberosAuthenticator

async def main():
    one = KerberosAuthenticator(keytab=sys.argv[1], replay_cache=sys.argv[2])
    one.why_not = lambda name: ""
    await one.open()
    try:
        print((await one.authenticate(Credentials("negotiate", sys.argv[3], "192.0.2.1"))).user)
    except SignInRefused as error:
        print(error.why)
    finally:
        await one.close()

asyncio.run(main())
"""


async def judged(realm: Realm, offset: str) -> str:
    """Return what a gateway whose clock is off says of a new token of alice's."""
    token = base64.b64encode(await asyncio.to_thread(token_of, realm, "alice")).decode()
    words = (str(realm.keytab), str(realm.directory / "replays"), token)
    return await asyncio.to_thread(_by_a_clock, realm, offset, JUDGED, *words)


def _by_a_clock(realm: Realm, offset: str, code: str, *words: str) -> str:
    """Return what a program says whose clock is off; AssertionError if it fails."""
    done = subprocess.run(
        [program("faketime", "make parts"), "-f", offset, sys.executable, "-c", code, *words],
        env=realm.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def why(authenticator: KerberosAuthenticator, token: bytes) -> str:
    """Return why a token is refused."""
    with pytest.raises(SignInRefused) as caught:
        await authenticator.authenticate(sent(token))
    return caught.value.why


async def test_a_ticket_says_who_it_is_and_the_gateway_proves_itself(
    realm: Realm, kerberos: KerberosAuthenticator
) -> None:
    shake = await asyncio.to_thread(
        client.handshake, "HTTP@localhost", ccache=realm.cache("alice"), timeout_s=60
    )
    told = await kerberos.authenticate(sent(base64.b64decode(shake.header.partition(" ")[2])))
    assert told is not None
    assert (told.user, told.admin, told.groups) == (f"alice@{REALM}", False, ("physics",))
    shake.verify(told.reply)
    assert kerberos.sessions is Sessions.ADVISED


async def test_a_gateway_that_does_not_prove_itself_is_not_believed(realm: Realm) -> None:
    from gateway.client.calls import errors

    shake = client.handshake("HTTP@localhost", ccache=realm.cache("alice"), timeout_s=60)
    other = base64.b64encode(b"\x60\x00" + bytes(60)).decode()
    for reply in ("", "Negotiate", "Negotiate !", f"Negotiate {other}", "Basic x"):
        with pytest.raises(errors.NotProved, match="does not prove that it is HTTP@localhost"):
            shake.verify(reply)


async def test_a_token_is_good_once(realm: Realm, kerberos: KerberosAuthenticator) -> None:
    token = token_of(realm, "alice")
    assert await kerberos.authenticate(sent(token)) is not None
    assert "used before" in await why(kerberos, token)


async def test_a_token_is_good_once_in_all_servers_of_a_database(
    realm: Realm, tmp_path: pathlib.Path
) -> None:
    store, token = MemoryStore(), token_of(realm, "alice")
    await store.open()
    servers = [sources(realm, replay_cache=str(tmp_path / f"replays-{n}")) for n in range(2)]
    for one in servers:
        one.keep_in(store)
        await one.open()
    try:
        told = await servers[0].authenticate(sent(token))
        assert told is not None
        assert told.user == "alice"
        with pytest.raises(SignInRefused, match="used before"):
            await servers[1].authenticate(sent(token))
    finally:
        for one in servers:
            await one.close()
        await store.close()


def test_a_token_is_known_again_however_it_is_wrapped(realm: Realm) -> None:
    token = token_of(realm, "alice")
    at = token.index(bytes.fromhex("06092a864886f7120102020100"))
    bare = token[at:]
    assert authenticators._proof(token) == authenticators._proof(bare)
    assert authenticators._proof(token) == authenticators._proof(bare + b"more")
    assert authenticators._proof(token) != authenticators._proof(token_of(realm, "alice"))


@pytest.mark.parametrize("offset", ["+4m", "-4m"])
async def test_clocks_that_are_a_little_apart_are_not_minded(
    realm: Realm, kerberos: KerberosAuthenticator, offset: str
) -> None:
    token = await asyncio.to_thread(faked, realm, offset)
    assert await kerberos.authenticate(sent(token)) is not None
    assert (await judged(realm, offset)).startswith("alice@")


async def test_a_client_whose_clock_is_six_minutes_off_is_told_so(
    realm: Realm, kerberos: KerberosAuthenticator
) -> None:
    token = await asyncio.to_thread(faked, realm, "+6m")
    assert "the clocks of client and gateway are more than five" in await why(kerberos, token)
    # its own library makes no token by a ticket that it takes for one of later
    with pytest.raises(AssertionError, match="this machine's clock is behind the KDC's"):
        await asyncio.to_thread(faked, realm, "-6m")


@pytest.mark.parametrize("offset", ["+6m", "-6m"])
async def test_a_client_whose_ticket_it_has_yet_to_ask_for_is_told_too(
    realm: Realm, offset: str
) -> None:
    words = "the clocks of this machine and the KDC or gateway are too far apart"
    with pytest.raises(AssertionError, match=words):
        await asyncio.to_thread(faked, realm, offset, asked=False)


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        ("+6m", "the clocks of client and gateway are more than five minutes apart"),
        ("-6m", "the ticket is not valid yet: the gateway's clock is behind the KDC's"),
    ],
)
async def test_a_gateway_whose_clock_is_six_minutes_off_says_so(
    realm: Realm, offset: str, words: str
) -> None:
    assert await judged(realm, offset) == words


async def test_a_token_for_another_service_is_refused(
    realm: Realm, kerberos: KerberosAuthenticator
) -> None:
    other = made(realm, hostnames=["localhost"], replay_cache=str(realm.directory / "other"))
    await other.open()
    try:
        assert "another service" in await why(other, token_of(realm, "alice", "HTTP@127.0.0.1"))
    finally:
        await other.close()
    _added_service(realm, "ftp/localhost")
    assert "service" in await why(kerberos, token_of(realm, "alice", "ftp@localhost"))


def _added_service(realm: Realm, service: str) -> None:
    realm.admin(f"addprinc -randkey {service}")


NTLM = b"NTLMSSP\x00\x01\x00\x00\x00" + bytes(24)


@pytest.mark.parametrize(
    "damaged",
    [
        lambda token: NTLM,
        lambda token: b"\x60\x06\x06\x04" + bytes(4),
        lambda token: token[: len(token) // 2],
        lambda token: token[:-1] + bytes([token[-1] ^ 1]),
        lambda token: token[:40] + b"\xff" * 20 + token[60:],
        lambda token: b"\x00" * 2000,
    ],
    ids=["ntlm", "other-mechanism", "half", "last-bit", "middle", "zeros"],
)
async def test_what_is_no_token_of_ours_proves_nothing(
    realm: Realm, kerberos: KerberosAuthenticator, damaged: Callable[[bytes], bytes]
) -> None:
    assert await why(kerberos, damaged(token_of(realm, "alice")))


@pytest.mark.parametrize("value", ["", "!", "====", "A" * 20_000, "\udcff"])
async def test_what_is_no_base64_proves_nothing(
    kerberos: KerberosAuthenticator, value: str
) -> None:
    assert await kerberos.authenticate(Credentials("negotiate", value, "192.0.2.1")) is None


async def test_a_replay_cache_that_cannot_be_written_is_an_outage_and_no_refusal(
    realm: Realm, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "there").mkdir()
    found = made(realm, replay_cache=str(tmp_path / "there" / "replays"))
    await found.open()
    (tmp_path / "there").rmdir()
    try:
        with pytest.raises(AuthenticatorUnavailable, match="replay cache"):
            await found.authenticate(sent(token_of(realm, "alice")))
    finally:
        await found.close()


async def test_a_keytab_that_is_gone_is_an_outage(realm: Realm, tmp_path: pathlib.Path) -> None:
    keytab = tmp_path / "http.keytab"
    keytab.write_bytes(realm.keytab.read_bytes())
    keytab.chmod(0o600)
    found = made(realm, keytab=str(keytab))
    await found.open()
    keytab.unlink()
    try:
        with pytest.raises(AuthenticatorUnavailable, match="keytab"):
            await found.authenticate(sent(token_of(realm, "alice")))
    finally:
        await found.close()


def test_a_keytab_tells_its_principals(realm: Realm) -> None:
    told = keytabs.principals(realm.keytab.read_bytes())
    assert told == [f"HTTP/localhost@{REALM}", f"HTTP/127.0.0.1@{REALM}"]


def test_check_config_tells_what_is_wrong_with_the_keytab(
    realm: Realm, tmp_path: pathlib.Path
) -> None:
    def problems(**settings: Any) -> str:
        return "\n".join(made(realm, **settings).problems())

    assert problems() == ""
    assert "No such file" in problems(keytab=str(tmp_path / "none"))
    (tmp_path / "text").write_text("no keytab")
    assert "it is no keytab" in problems(keytab=str(tmp_path / "text"))
    (tmp_path / "cut").write_bytes(realm.keytab.read_bytes()[:60])
    assert "damaged" in problems(keytab=str(tmp_path / "cut"))
    (tmp_path / "open").write_bytes(realm.keytab.read_bytes())
    (tmp_path / "open").chmod(0o644)
    assert "others can read it" in problems(keytab=str(tmp_path / "open"))
    assert "has no key of HTTP/dask.example.org" in problems(hostnames=["dask.example.org"])
    assert "has no key of ftp/" in problems(service_name="ftp")
    assert "'alice' has no realm" in problems(admins={"alice"})
    assert "in no directory that there is" in problems(replay_cache="/nowhere/replays")
    plain = KerberosAuthenticator(keytab=str(realm.keytab))
    assert f"set c.DaskGateway.user_name = '{{user}}@{REALM}'" in "\n".join(plain.problems())


async def test_without_a_keytab_nobody_begins(tmp_path: pathlib.Path, realm: Realm) -> None:
    with pytest.raises(ConfigurationError, match=r"c\.KerberosAuthenticator\.keytab"):
        await made(realm, keytab=str(tmp_path / "none")).open()


async def test_many_at_a_time_are_judged_and_none_is_taken_twice(
    realm: Realm, kerberos: KerberosAuthenticator
) -> None:
    tokens = [await asyncio.to_thread(token_of, realm, "alice") for _ in range(8)]
    told = await asyncio.gather(
        *(kerberos.authenticate(sent(token)) for token in tokens * 2), return_exceptions=True
    )
    assert sum(getattr(one, "user", "") == f"alice@{REALM}" for one in told) == len(tokens)
    assert sum(isinstance(one, SignInRefused) for one in told) == len(tokens)


def test_the_replay_cache_is_closed_to_others(realm: Realm) -> None:
    path = realm.directory / "replays"
    if path.exists():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
