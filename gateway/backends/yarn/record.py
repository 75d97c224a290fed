"""What is kept of each application before it is submitted, for the next run too: its key, the
credentials of its master, and what its services are."""

from __future__ import annotations

import base64
import json
import logging
import pathlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from gateway.backends.yarn.shape import Shape, Size
from gateway.files import read_kept, write_kept
from gateway.wire import is_uid

logger = logging.getLogger(__name__)

_FILE = re.compile(r"(c[a-z2-7]{20})-([0-9a-f]{16})\.json")
KEY_SUFFIX = ".key"
TAG = re.compile(r"[a-z][a-z0-9]{0,30}")


@dataclass(frozen=True, slots=True)
class Record:
    """One application of one cluster."""

    uid: str
    nonce: str  # tells it from other applications of its cluster, also before it has an id
    key: bytes  # that launches are sealed with
    certificate: str  # of its master, PEM; and the key
    private: str
    shape: Shape
    sizes: Mapping[str, Size]
    scheduler: bool  # whether it begins with a scheduler
    application: str = ""  # its id, once it is known

    def security(self) -> dict[str, str]:
        """Return by what its master is spoken to."""
        return {"certificate": self.certificate, "key": self.private}


def new(
    uid: str,
    security: Mapping[str, str],
    shape: Shape,
    sizes: Mapping[str, Size],
    scheduler: bool,
) -> Record:
    """Return a record of what is to be submitted."""
    return Record(
        uid,
        secrets.token_hex(8),
        secrets.token_bytes(32),
        security["certificate"],
        security["key"],
        shape,
        sizes,
        scheduler,
    )


class Records:
    """Those in a directory."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self.by_nonce: dict[str, Record] = {}

    def open(self) -> None:
        """Read all; what is broken is passed over. OSError if the directory cannot be had."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._directory.iterdir():
            if path.suffix == KEY_SUFFIX:  # the gateway was killed while it submitted
                path.unlink(missing_ok=True)
            elif _FILE.fullmatch(path.name):
                try:
                    found = _parse(read_kept(path) or b"")
                except (OSError, ValueError, KeyError, TypeError) as error:
                    logger.warning("%s is passed over: %s", path, error)
                    continue
                self.by_nonce[found.nonce] = found

    def keep(self, record: Record) -> None:
        """Keep a record. OSError if that cannot be."""
        text = json.dumps({**asdict(record), "key": base64.b64encode(record.key).decode()}).encode()
        write_kept(self._path(record), text)
        self.by_nonce[record.nonce] = record

    def named(self, record: Record, application: str) -> Record:
        """Keep the id of an application; return the record with it."""
        known = replace(record, application=application)
        self.keep(known)
        return known

    def forget(self, uid: str) -> None:
        """Remove the records of a cluster."""
        for record in self.of(uid):
            self.drop(record)

    def drop(self, record: Record) -> None:
        """Remove the record of one application."""
        self._path(record).unlink(missing_ok=True)
        self.by_nonce.pop(record.nonce, None)

    def of(self, uid: str) -> list[Record]:
        """Return the records of a cluster."""
        return [record for record in self.by_nonce.values() if record.uid == uid]

    def key_path(self, record: Record) -> pathlib.Path:
        """Return where the key of an application lies while it is submitted."""
        return self._path(record).with_suffix(KEY_SUFFIX)

    def _path(self, record: Record) -> pathlib.Path:
        return self._directory / f"{record.uid}-{record.nonce}.json"


def _parse(raw: bytes) -> Record:
    said = json.loads(raw)
    shape = said["shape"] | {name: tuple(said["shape"][name]) for name in ("tags", "setup")}
    found = Record(
        **{
            **said,
            "key": base64.b64decode(said["key"]),
            "shape": Shape(**shape),
            "sizes": {name: Size(**size) for name, size in said["sizes"].items()},
        }
    )
    if not is_uid(found.uid) or not re.fullmatch(r"[0-9a-f]{16}", found.nonce):
        raise ValueError("it names no cluster")
    return found


def kept_tag(path: pathlib.Path) -> str:
    """Return the tag of this gateway's applications, made if there is none yet. ValueError if the
    file holds none: applications may run under one nobody knows now."""
    content = read_kept(path)
    if content is None:
        content = f"dgw{secrets.token_hex(6)}".encode()
        write_kept(path, content)
    tag = content.decode(errors="replace").strip()
    if not TAG.fullmatch(tag):
        raise ValueError(
            f"{path} holds no tag, which must match {TAG.pattern}: write into it what"
            f" this gateway's applications are tagged with, or remove it if there are none"
        )
    return tag
