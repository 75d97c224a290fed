"""What an attacker is and does: a user of the local backend, where root runs processes as users."""

from __future__ import annotations

import asyncio
import pwd

from gateway.backends.contract import (
    Instance,
    Launch,
    Role,
    Started,
    Target,
)
from tests.backends.test_local import UID, Room
from tests.parts import as_account

ATTACKER, VICTIM = "games", "news"  # of every Debian
SHOWS = ("/bin/sh", "-c", "echo stands in $(pwd -P); cat secret; echo told; exec sleep 600")


def launch(
    name: str = "default-0", argv: tuple[str, ...] = SHOWS, user: str = ATTACKER, **fields: object
) -> Launch:
    """Return a launch of the attacker's."""
    return Launch(Instance(UID, Role.WORKER, name), user, argv, **fields)  # type: ignore[arg-type]


def words(user: str) -> list[str]:
    """Return the words that run a command as a user."""
    entry = pwd.getpwnam(user)
    return as_account(entry.pw_uid, entry.pw_gid)


async def begin(room: Room) -> None:
    """Start one of the attacker's, and wait until it has told what it sees."""
    outcomes = await room.backend.start([launch()])
    assert [type(one) for one in outcomes.values()] == [Started], outcomes
    await log_until(room, "default-0", "told")


async def log_until(room: Room, name: str, text: str) -> str:
    """Follow a log until it has a text."""
    shown = ""
    async with asyncio.timeout(60):
        async for piece in room.backend.logs(Target(launch(name).instance), follow=True):
            shown += piece
            if text in shown:
                return shown
    raise AssertionError(f"{name} ended, or was not started; its log: {shown!r}")


async def ended(room: Room, name: str = "default-0") -> None:
    """End a process, which must not have ended by itself: one that ends at once may be over before
    it is looked at, and then it never was started, and nothing is told of it."""
    await room.backend.stop([Target(launch(name).instance)])
    await room.gone(launch(name).instance)
