"""Where an account's files are: templates of directories, filled in."""

from __future__ import annotations

import asyncio
import logging
import pwd
import re
import time
from collections.abc import Awaitable

from gateway.backends.batch.identity import Identity
from gateway.backends.batch.system import SubmitRefused
from gateway.backends.contract import BackendUnavailable

logger = logging.getLogger(__name__)

HOME_S = 300.0  # a home is known for, until it is looked up anew
MAX_HOMES = 10_000
_homes: dict[str, tuple[str, float]] = {}  # by account: its home, and until when that is believed


async def filled(template: str, *, account: str, uid: str, root: str) -> str:
    """Return a directory; empty if the template is. SubmitRefused if it needs a home and this
    machine does not know the account."""
    home = await _home(account) if "{home}" in template else ""
    for name, value in {"user": account, "uid": uid, "home": home, "root": root}.items():
        template = template.replace("{" + name + "}", value)
    return template


async def removable(who: Identity, account: str, directory: str, mine: str) -> list[str]:
    """Return what of a directory is one cluster's: all of it, or where clusters share it, what in
    it begins with `mine`."""
    if not mine:
        return [directory]
    return [
        f"{directory}/{name}"
        for name in await who.entries(account, directory)
        if name.startswith(mine)
    ]


async def remove(who: Identity, account: str, directory: str, mine: str) -> None:
    """Remove what of a directory is one cluster's."""
    for path in await removable(who, account, directory, mine):
        await who.remove(account, path)


async def _home(account: str) -> str:
    """Return an account's home, looked up in a thread: where accounts are a directory service's, it
    may take its time to answer."""
    home, until = _homes.get(account, ("", 0.0))
    if until > time.monotonic():
        return home
    try:
        home = (await asyncio.to_thread(pwd.getpwnam, account)).pw_dir
    except KeyError:
        raise SubmitRefused(f"this machine has no user {account!r}", permanent=True) from None
    _homes.pop(account, None)
    while len(_homes) >= MAX_HOMES:
        del _homes[next(iter(_homes))]
    _homes[account] = (home, time.monotonic() + HOME_S)
    return home


def problems(template: str) -> list[str]:
    """Return what is wrong with a template."""
    unknown = sorted(
        set(re.findall(r"\{[^{}]*\}", template)) - {"{user}", "{uid}", "{home}", "{root}"}
    )
    return [
        f"{word} is replaced by nothing; there are {{user}}, {{uid}}, {{home}} and {{root}}"
        for word in unknown
    ]


async def told(work: Awaitable[None]) -> None:
    """Remove files; BackendUnavailable names the file that stood in the way. Those of an account
    that is gone are left to the site."""
    try:
        await work
    except OSError as error:
        raise BackendUnavailable(f"{error.filename}: {error.strerror}") from None
    except SubmitRefused as error:
        logger.warning("files of a cluster that has ended are left to the site: %s", error)
