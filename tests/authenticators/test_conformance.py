"""The authenticator that comes with the gateway keeps the promise: passwords in the configuration,
and in a file. So does what the server makes of several."""

from __future__ import annotations

import pathlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from gateway.authenticators.conformance import Conformance, Source
from gateway.authenticators.conformance.source import basic
from gateway.authenticators.contract import Credentials
from gateway.authenticators.password import PasswordAuthenticator, hash_password
from gateway.server.core.user_names import rule_of
from gateway.server.security.sources import Part, Sources
from tests.authenticators.pretend import Directory, PretendAuthenticator, source_of

CANNOT = {
    "expired": "a password of the configuration has no end",
    "replayed": "a password is sent with every call",
    "ending": "the configuration knows no end of an account",
    "odd": "a name that is none is refused when the configuration is read",
    "hang": "a file is read, and no network is asked",
    "slow": "a file is read, and no network is asked",
    "lies": "what is wrong in the file is an outage, as `outage` has it, and nobody else is asked",
    "impostor": "users are found in a table by their names",
    "off_by": "a password has no time in it",
}


def sources(*directories: Directory) -> Sources:
    """Return an authenticator as the server has it, over one or more of the pretended ones."""
    parts = [
        Part(f"directory-{number}", PretendAuthenticator(directory), rule_of(""))
        for number, directory in enumerate(directories)
    ]
    return Sources(parts, same_people=True)


class TestOneOfTheSites(Conformance):
    """What the server makes of one authenticator."""

    others = 0  # directories beside it, in which there is nobody

    @pytest.fixture
    async def source(self) -> AsyncIterator[Source]:
        source, add_odd = source_of(PretendAuthenticator)
        mine = source.authenticator
        assert isinstance(mine, PretendAuthenticator)
        directories = [mine.directory, *(Directory() for _ in range(self.others))]

        async def again() -> Sources:
            return sources(*directories)

        source.authenticator, source.again = await again(), again
        await source.open()
        await add_odd()
        yield source
        await source.close()


class TestSeveralOfTheSites(TestOneOfTheSites):
    """What the server makes of several."""

    others = 2


class Passwords:
    """Users with passwords, as an administrator would change them."""

    def __init__(self, write: Callable[[dict[str, str]], None] | None = None) -> None:
        self.words: dict[str, str] = {}
        self.hashes: dict[str, str] = {}
        self.admins: set[str] = set()
        self.groups: dict[str, list[str]] = {}
        self.made: list[PasswordAuthenticator] = []
        self.write = write
        self.path = ""

    def make(self) -> PasswordAuthenticator:
        """Return one more authenticator."""
        made = PasswordAuthenticator(users_file=self.path)
        self.made.append(made)
        self.tell()
        return made

    def tell(self) -> None:
        """Let the configuration be what it is to be now."""
        if self.write is not None:
            self.write(self.hashes)
        for made in self.made:
            made.admins, made.groups = self.admins.copy(), dict(self.groups)
            if self.write is None:
                made.users = dict(self.hashes)

    async def change(self, user: str, *, admin: bool, groups: Sequence[str]) -> None:
        """Add somebody, or change who is there."""
        if user not in self.words:
            await self.renew(user)
        self.admins = self.admins | {user} if admin else self.admins - {user}
        self.groups[user] = list(groups)
        self.tell()

    async def renew(self, user: str) -> None:
        """Give somebody another password."""
        self.words[user] = f"Secret-{secrets.token_hex(6)}"
        self.hashes[user] = hash_password(self.words[user])
        self.tell()

    async def remove(self, user: str) -> None:
        """Remove somebody."""
        del self.hashes[user]
        self.tell()

    async def show(self, user: str) -> Credentials:
        """Return what somebody sends."""
        return basic(user, self.words[user])

    async def wrong(self, user: str) -> Credentials:
        """Return what somebody sends who guesses."""
        return basic(user, f"guess-{secrets.token_hex(6)}")

    def source(self, **given: object) -> Source:
        """Return them as the suite takes them."""

        async def again() -> PasswordAuthenticator:
            return self.make()

        return Source(
            self.make(),
            again=again,
            add=self.change,
            show=self.show,
            wrong=self.wrong,
            change=self.change,
            remove=self.remove,
            renew=self.renew,
            **given,  # type: ignore[arg-type]
        )


class TestPasswordsInTheConfiguration(Conformance):
    """c.PasswordAuthenticator.users."""

    @pytest.fixture
    async def source(self) -> AsyncIterator[Source]:
        cannot = {**CANNOT, "outage": "the configuration is in memory"}
        source = Passwords().source(cannot=cannot)
        await source.open()
        yield source
        await source.close()


class TestPasswordsInAFile(Conformance):
    """c.PasswordAuthenticator.users_file."""

    @pytest.fixture
    async def source(self, tmp_path: pathlib.Path) -> AsyncIterator[Source]:
        path = tmp_path / "users"

        def write(hashes: dict[str, str]) -> None:
            new = tmp_path / "users.new"
            new.write_text("# users\n" + "".join(f"{u}:{h}\n" for u, h in hashes.items()))
            new.chmod(0o600)
            new.replace(path)

        @asynccontextmanager
        async def outage() -> AsyncIterator[None]:
            path.write_text("no user at all\n")
            try:
                yield
            finally:
                passwords.tell()

        passwords = Passwords(write)
        write({})
        passwords.path = str(path)
        source = passwords.source(cannot=CANNOT, outage=outage)
        await source.open()
        yield source
        await source.close()
