"""Where an account's files are: templates of directories, filled in."""

from __future__ import annotations

import pwd
import re
from collections.abc import Awaitable

from gateway.backends.batch.system import SubmitRefused
from gateway.backends.contract import BackendUnavailable


def filled(template: str, *, account: str, uid: str, root: str) -> str:
    """Return a directory; empty if the template is. SubmitRefused if it needs a home and this machine does not know the account."""
    try:
        home = pwd.getpwnam(account).pw_dir if "{home}" in template else ""
    except KeyError:
        raise SubmitRefused(f"this machine has no user {account!r}", permanent=True) from None
    for name, value in {"user": account, "uid": uid, "home": home, "root": root}.items():
        template = template.replace("{" + name + "}", value)
    return template


def problems(template: str) -> list[str]:
    """Return what is wrong with a template."""
    unknown = sorted(set(re.findall(r"\{[^{}]*\}", template)) - {"{user}", "{uid}", "{home}", "{root}"})
    return [f"{word} is replaced by nothing; there are {{user}}, {{uid}}, {{home}} and {{root}}" for word in unknown]


async def told(work: Awaitable[None]) -> None:
    """Do what touches files; BackendUnavailable names the file that stood in the way."""
    try:
        await work
    except OSError as error:
        raise BackendUnavailable(f"{error.filename}: {error.strerror}") from None
