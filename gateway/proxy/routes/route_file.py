"""How known routes lie on disk. Read with doubt: an entry that cannot be used is passed over, and
the others hold. Pure.

{"ticket_keys": [base64], "routes": [[uid, owner, cluster id, [host, port] of the scheduler, [host,
port] of the dashboard or null, local]]}

`local` is missing in what an older edge wrote, and then false.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MAX_BYTES = 64 * 2**20  # 10,000 clusters are 2 MB
KEY_BYTES = 32  # of an Ed25519 public key
MAX_NAME = 255  # characters of a host, an owner, a cluster's uid or name

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class KeptRoute:
    """One cluster's addresses, as it told them."""

    uid: str
    owner: str
    cluster_id: str
    scheduler: Place
    dashboard: Place | None
    local: bool = False  # whether its backend runs on the server's machine


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file holds."""

    ticket_keys: tuple[bytes, ...]
    routes: tuple[KeptRoute, ...]
    broken: int  # entries that cannot be used


def dump(ticket_keys: Iterable[bytes], routes: Iterable[KeptRoute]) -> bytes:
    """Return the file's content."""
    entries = [
        [route.uid, route.owner, route.cluster_id, route.scheduler, route.dashboard, route.local]
        for route in routes
    ]
    return json.dumps(
        {"ticket_keys": [base64.b64encode(key).decode() for key in ticket_keys], "routes": entries}
    ).encode()


def load(content: bytes) -> Kept:
    """Return what a file holds; ValueError if it is none of ours."""
    try:
        told = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(told, Mapping):
        raise ValueError("it is no object")
    keys, entries = told.get("ticket_keys"), told.get("routes")
    if not isinstance(keys, list) or not isinstance(entries, list):
        raise ValueError("it holds no ticket_keys and routes")
    good_keys = [key for key in map(_key, keys) if key is not None]
    routes = [route for route in map(_route, entries) if route is not None]
    return Kept(
        tuple(good_keys), tuple(routes), len(keys) + len(entries) - len(good_keys) - len(routes)
    )


def _key(told: object) -> bytes | None:
    try:
        key = base64.b64decode(told, validate=True) if isinstance(told, str) else b""
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES else None


def _route(told: object) -> KeptRoute | None:
    if not isinstance(told, list) or len(told) not in (5, 6):
        return None
    uid, owner, cluster_id, scheduler, dashboard, local = [*told, False][:6]
    there, panel = _place(scheduler), _place(dashboard)
    if (
        not (uid and _name(uid) and _name(owner) and _name(cluster_id))
        or there is None
        or type(local) is not bool
    ):
        return None
    return (
        None
        if dashboard is not None and panel is None
        else KeptRoute(uid, owner, cluster_id, there, panel, local)
    )


def _name(told: object) -> bool:
    return isinstance(told, str) and len(told) <= MAX_NAME


def _place(told: object) -> Place | None:
    if not isinstance(told, Sequence) or isinstance(told, str) or len(told) != 2:
        return None
    host, port = told
    return (host, port) if host and _name(host) and type(port) is int and 0 < port < 65536 else None
