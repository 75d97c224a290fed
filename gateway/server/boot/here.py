"""Whether this machine, as it is now, lets the server start as it is configured: its directories,
database, keys and ports. Looks, changes nothing, asks no other machine."""

from __future__ import annotations

import os
import pathlib
import resource
import socket
import sqlite3
import stat
import urllib.parse
from collections.abc import Collection, Iterator

from gateway import checks
from gateway.checks import named
from gateway.configfile import ConfigurationError
from gateway.proxy import settings as proxy_settings
from gateway.server.boot.listening import SOCKET_NAME
from gateway.server.boot.settings import Settings, database_path, descriptors_wanted
from gateway.server.edge.record import RECORD, read_record, runs
from gateway.server.keeping import belongings
from gateway.server.security.secrets import Keyring
from gateway.server.store import tables

HEADER = b"SQLite format 3\0"


def problems(found: Settings, told: Collection[str] = ()) -> list[str]:
    """Return what keeps the server from starting here and now, one line each. `told`: what is known
    to be wrong already; of those settings is said no more than whose their files are."""
    settled = {line.partition(": ")[0] for line in told}
    state_dir = None
    more = [*_descriptors(found)]
    if not settled & {"c.DaskGateway.state_dir", "c.DaskGateway.database"}:
        state_dir = pathlib.Path(found.server.state_dir).expanduser().absolute()
        more += belongings.kept(found)
        more += _keys(state_dir)
        more += named("c.DaskGateway.database", _database(database_path(found.server)))
    more += [line for line in _ports(found, state_dir) if line.partition(": ")[0] not in settled]
    return list(dict.fromkeys([*belongings.named(found), *more]))


def _keys(state_dir: pathlib.Path) -> Iterator[str]:
    if (state_dir / "encryption.key").exists():
        try:
            Keyring.load(state_dir / "encryption.key")
        except ConfigurationError as error:
            yield f"c.DaskGateway.state_dir: {error}"


def _database(path: pathlib.Path) -> str:
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return f"{path}: it is no file"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{path}: this account may not read and write it"
    if not status.st_size:
        return ""
    with path.open("rb") as file:
        if file.read(len(HEADER)) != HEADER:
            return f"{path}: it is no SQLite database; name another file"
    return _schema(path)


def _schema(path: pathlib.Path) -> str:
    """What is wrong with what a database holds, as far as its file alone tells, without the log of
    changes beside it."""
    url = f"file:{urllib.parse.quote(str(path))}?mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(url, uri=True)
        try:
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            if "meta" not in names:
                log = path.with_name(path.name + "-wal")
                unknown = not names or (log.exists() and log.stat().st_size > 0)
                strange = f"{path}: it holds tables of another program; name another file"
                return "" if unknown else strange
            row = connection.execute(
                "SELECT value FROM meta WHERE key = 'schema_version'"
            ).fetchone()
        finally:
            connection.close()
    except sqlite3.Error:  # a server may be writing to it at this moment: who opens it tells
        return ""
    version = int(row[0]) if row is not None and bytes(row[0]).isdigit() else None
    if version is not None and version > tables.SCHEMA_VERSION:
        return (
            f"{path}: the database has schema version {version}, newer than this program's"
            f" {tables.SCHEMA_VERSION}; install the newer program"
        )
    return ""


def _descriptors(found: Settings) -> Iterator[str]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = 2**20 if hard == resource.RLIM_INFINITY else hard
    wanted = [descriptors_wanted(found.server)]
    wanted += [proxy_settings.descriptors_wanted(found.proxy)] if found.server.start_proxy else []
    for demand in wanted:
        try:
            demand.fitting(limit)
        except ConfigurationError as error:
            yield f"{demand.setting}: {error}"


def _ports(found: Settings, state_dir: pathlib.Path | None) -> Iterator[str]:
    """Yield why an address cannot be listened on. What this gateway's own processes hold, which run
    still, is theirs."""
    server, proxy = found.server, found.proxy
    running = state_dir is not None and is_running(state_dir)
    places = [("c.DaskGateway.address", server.address, running)]
    if server.start_proxy:
        record = read_record(state_dir / RECORD) if state_dir is not None else None
        held = running or (record is not None and runs(record))
        places += [("c.Proxy.address", proxy.address, held)]
        if proxy.admin_address:
            places += [("c.Proxy.admin_address", proxy.admin_address, held)]
    seen: dict[int, tuple[str, str]] = {}
    for setting, text, ours in places:
        place = checks.parts(text)
        if place is None:
            continue
        if place[1] and place[1] in seen and _overlap(place[0], seen[place[1]][1]):
            yield f"{setting}: {text} is taken by {seen[place[1]][0]}; name another port"
            continue
        seen[place[1]] = (setting, place[0])
        yield from named(setting, checks.listenable(*place, ours=ours))


def _overlap(one: str, other: str) -> bool:
    return one == other or one in checks.EVERYWHERE or other in checks.EVERYWHERE


def is_running(state_dir: pathlib.Path) -> bool:
    """Whether a server runs that has this state directory."""
    try:
        directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.settimeout(1.0)
            trial.connect(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
    except TimeoutError:  # its queue of new connections is full
        return True
    except OSError:
        return False
    finally:
        os.close(directory)
    return True
