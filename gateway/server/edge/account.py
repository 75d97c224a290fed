"""As whom the edge runs that a server started as root: an account of its own, which owns nothing
else on the machine."""

from __future__ import annotations

import grp
import hashlib
import logging
import os
import pathlib
import pwd
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.configfile import ConfigurationError
from gateway.networks import parse_address
from gateway.wire import decimal

logger = logging.getLogger(__name__)

USUAL = "daskgateway"
# Of these systemd gives services numbers that have no account (systemd.io/UIDS-GIDS): nobody is
# given one of them for good.
UNNAMED = range(61184, 65520)


@dataclass(frozen=True, slots=True)
class Account:
    """User and group, by number."""

    uid: int
    gid: int
    name: str = ""  # empty: a number that no account has

    def rights(self, addresses: Iterable[str]) -> tuple[int, int, bool]:
        """Return uid, gid, and whether one of these (host:port) is below 1024, which takes a
        right."""
        ports = (place[1] for text in addresses if (place := parse_address(text)) is not None)
        return self.uid, self.gid, any(0 < port < first_open_port() for port in ports)


def configured_account(wished: str) -> Account | None:
    """Return the account of c.Proxy.user; None if it is this process's own, which is not root.
    ConfigurationError if it cannot be it."""
    if os.geteuid() == 0:
        return _named(wished)
    if wished not in (_name(os.geteuid()), str(os.geteuid())):
        raise ConfigurationError(
            f"c.Proxy.user: only root can run the edge as another user, such as {wished!r}"
        )
    return None


def edge_account(wished: str, state_dir: pathlib.Path, own: pathlib.Path) -> Account | None:
    """Return the account of the edge; None if it is the server's own, which is not root.
    ConfigurationError if there is none.

    `wished` is what is configured. Without it `daskgateway` is taken, and where there is none, an
    unused number: the owner of the directory `own`, if an earlier run gave it to one, else one that
    follows from the state directory, so that two gateways have two.
    """
    if wished or os.geteuid() != 0:
        return configured_account(wished) if wished else None
    try:
        return _named(USUAL)
    except ConfigurationError:
        pass
    earlier = own.stat().st_uid if own.is_dir() else 0
    digest = int.from_bytes(hashlib.sha256(str(state_dir).encode()).digest()[:8], "big")
    uid = unused(UNNAMED, earlier, digest, _users_now())
    if not _can_become(uid):
        logger.warning(
            "the edge runs as the server does: in this user namespace there is no other account"
            " for it (user_namespaces(7))"
        )
        return None
    return Account(uid, uid)


def unused(numbers: range, earlier: int, digest: int, users_now: Iterable[int]) -> int:
    """Return the earlier number if it is still nobody's, else the first free one from the digest's
    on. ConfigurationError if none is."""
    if earlier in numbers and not _taken(earlier):
        return earlier
    busy = set(users_now)
    first = digest % len(numbers)
    for offset in range(len(numbers)):
        number = numbers[(first + offset) % len(numbers)]
        if number not in busy and not _taken(number):
            return number
    raise ConfigurationError(
        f"c.Proxy.user: every number from {numbers[0]} to {numbers[-1]} is taken; name an account"
    )


def _can_become(number: int) -> bool:
    """Whether a process here can be this user and group: in a user namespace there may be none but
    one, whose root is no root outside."""
    try:
        if pathlib.Path("/proc/self/setgroups").read_text().strip() != "allow":
            return False
        return all(
            maps(pathlib.Path(f"/proc/self/{name}").read_text(), number)
            for name in ("uid_map", "gid_map")
        )
    except OSError:  # a system without user namespaces
        return True


def maps(text: str, number: int) -> bool:
    """Whether a map (first here, first outside, length, a line each) has a number."""
    ranges = [[int(word) for word in line.split()] for line in text.splitlines()]
    return any(here <= number < here + length for here, _, length in ranges)


def first_open_port() -> int:
    """Return from which port on everybody may bind (ip(7))."""
    try:
        return int(pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def _named(name: str) -> Account:
    number = decimal(name, 10)
    try:
        entry = pwd.getpwuid(number) if number is not None else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise ConfigurationError(
            f"c.Proxy.user: this machine has no user {name!r}; `useradd --system --no-create-home"
            f" {USUAL}` makes one"
        ) from None
    if not entry.pw_uid or not entry.pw_gid:
        raise ConfigurationError(
            f"c.Proxy.user: {name!r} has root's rights, which the edge is to give up"
        )
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _taken(number: int) -> bool:
    """Whether a user or a group has the number."""
    for look_up in (pwd.getpwuid, grp.getgrgid):
        try:
            look_up(number)
        except KeyError:
            continue
        return True
    return False


def _users_now() -> Iterable[int]:
    """Return as whom processes run now: a service may have a number that no account has."""
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                yield entry.stat().st_uid
            except OSError:  # it has ended
                continue
