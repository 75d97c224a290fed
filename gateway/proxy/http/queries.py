"""What stands behind the `?` of an address: every parameter is known, and given once, or refused
by its name. Calls that only read may be asked in it (connectrpc.com/docs/protocol, "Unary-Get")."""

from __future__ import annotations

import base64
import difflib
import gzip
import io
import re
from collections.abc import Collection

from google.protobuf.duration_pb2 import Duration
from multidict import MultiMapping

DURATION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?s?")
MAX_SHOWN = 64  # characters of a name
ENCODINGS = {"json": "application/json", "proto": "application/proto"}
OF_CALLS = ("connect", "encoding", "message", "base64", "compression")


class WrongParameter(Exception):
    """A parameter is wrong; its text says what would be right."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words)
        self.name = name[:MAX_SHOWN]


def check(query: MultiMapping[str], known: Collection[str], repeated: Collection[str] = ()) -> None:
    """Raise WrongParameter for one that is not known, or that is given twice and may not be."""
    for name in query:
        if name not in known:
            near = difflib.get_close_matches(name[:MAX_SHOWN], known, n=1)
            words = f"is not known; did you mean {near[0]}?" if near else "is not known"
            right = f"; known are {', '.join(known)}" if known else "; there are none here"
            raise WrongParameter(name, words if near else words + right)
        if name not in repeated and len(query.getall(name)) > 1:
            raise WrongParameter(name, "must be given once")


def truth(query: MultiMapping[str], name: str) -> bool:
    """Return a parameter that is true or false; false if it is not given."""
    text = query.get(name, "false").lower()
    if text not in ("1", "0", "true", "false", "yes", "no"):
        raise WrongParameter(name, "must be true or false")
    return text in ("1", "true", "yes")


def duration(query: MultiMapping[str], name: str) -> Duration | None:
    """Return a duration, such as `30s`; None if it is not given."""
    text = query.get(name)
    if text is None:
        return None
    if not DURATION.fullmatch(text):
        raise WrongParameter(name, "must be seconds, such as 30s or 1.5s")
    told = Duration()
    told.FromNanoseconds(round(float(text.removesuffix("s")) * 1e9))
    return told


def asked(query: MultiMapping[str], most_json: int, most: int) -> tuple[str, bytes]:
    """Return content type and message of a call that is asked by GET; WrongParameter says what is
    wrong. `most_json`, `most`: bytes that a message may have as JSON, and as protobuf."""
    check(query, OF_CALLS)
    if query.get("connect", "v1") != "v1":
        raise WrongParameter("connect", "must be v1")
    kind = ENCODINGS.get(query.get("encoding", ""))
    if kind is None:
        raise WrongParameter("encoding", "must be json or proto")
    if "message" not in query:
        raise WrongParameter("message", "is missing; the least is {} as JSON")
    message = query["message"].encode(errors="surrogateescape")
    if query.get("base64", "0") not in ("0", "1"):
        raise WrongParameter("base64", "must be 1, or absent")
    if query.get("base64") == "1":
        try:
            padded = message.rstrip(b"=") + b"=" * (-len(message.rstrip(b"=")) % 4)
            message = base64.b64decode(padded, altchars=b"-_", validate=True)
        except ValueError:
            raise WrongParameter("message", "must be base64, URL-safe") from None
    limit = most_json if kind == ENCODINGS["json"] else most
    if query.get("compression", "identity") == "gzip":
        try:
            with gzip.open(io.BytesIO(message)) as unpacked:
                message = unpacked.read(limit + 1)
        except (OSError, EOFError):
            raise WrongParameter("message", "must be gzip") from None
    elif query.get("compression", "identity") != "identity":
        raise WrongParameter("compression", "must be gzip or identity")
    if len(message) > limit:
        raise WrongParameter("message", f"must have at most {limit} bytes")
    return kind, message
