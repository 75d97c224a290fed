"""What a batch backend keeps in its root for its next run: the tag of its jobs, and as whom each
cluster runs."""

from __future__ import annotations

import logging
import pathlib
import re
import secrets

from gateway.backends.batch import names
from gateway.files import read_kept, write_kept
from gateway.wire import is_uid

logger = logging.getLogger(__name__)

# what an account's name can be on one machine or another
_ACCOUNT = re.compile(r"[^\s\x00-\x1f\x7f\ufffd]{1,255}")


def kept_tag(path: pathlib.Path) -> str:
    """Return the tag that a file holds, made if there is no file. ValueError if it holds none: jobs
    may run under one nobody knows now."""
    content = read_kept(path)
    if content is None:
        content = f"dgw{secrets.token_hex(3)}".encode()
        write_kept(path, content)
    tag = content.decode(errors="replace").strip()
    if not names.TAG.fullmatch(tag):
        raise ValueError(
            f"{path} holds no tag, which must match {names.TAG.pattern}: write into it what the"
            f" names of this gateway's jobs begin with,"
            " or remove it if there are no jobs of it"
        )
    return tag


def kept_owners(directory: pathlib.Path) -> dict[str, str]:
    """Return as whom each cluster (uid) runs; what is broken is passed over. OSError if the
    directory cannot be read."""
    found = {}
    for path in directory.iterdir():
        try:
            account = (read_kept(path) or b"").decode(errors="replace").strip()
        except OSError as error:
            account = str(error.strerror or error)
        if is_uid(path.name) and _ACCOUNT.fullmatch(account):
            found[path.name] = account
        else:
            logger.warning("%s does not name an account (%.100r) and is passed over", path, account)
    return found


def keep_owner(directory: pathlib.Path, uid: str, account: str) -> None:
    """Keep as whom a cluster runs. OSError if that cannot be."""
    write_kept(directory / uid, account.encode())
