"""Where a page of a list begins and ends: sizes within bounds, and tokens that say where to go
on."""

from __future__ import annotations

import base64
import binascii
import json

from gateway.server.core.errors import FieldInvalid, Violation
from gateway.server.core.model import Cluster

DEFAULT_PAGE = 50
MAX_PAGE = 500  # of events and tokens
MAX_CLUSTERS_PAGE = 1000
# gRPC clients refuse a message of more than 4 MiB unless told otherwise
MAX_PAGE_BYTES = 3 * 1024 * 1024
MAX_TOKEN_TEXT = 64  # of a text in a page token, which is a uid or an id


def checked_page_size(size: int, most: int = MAX_PAGE) -> int:
    """Return a page's size within its bounds."""
    if size < 0:
        raise FieldInvalid([Violation("page_size", "must be 0 for the default, or more")])
    return min(size or DEFAULT_PAGE, most)


def encode_token(contents: object) -> str:
    """Return a page token; it says where to go on and permits nothing."""
    return base64.urlsafe_b64encode(json.dumps(contents).encode()).decode()


def decode_token(text: str) -> list[object]:
    """Return what a page token says; FieldInvalid if it is not one."""
    try:
        contents = (
            json.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
            if len(text) < 4096
            else None
        )
    except (ValueError, binascii.Error, RecursionError):
        contents = None
    if not isinstance(contents, list) or not all(_storable(item) for item in contents):
        raise FieldInvalid(
            [Violation("page_token", "must be next_page_token of the previous answer")]
        )
    return contents


def _storable(item: object) -> bool:
    """Whether a database can compare with it: numbers of 64 bits, plain texts; what is nested is
    compared here only."""
    if isinstance(item, int):
        return -(2**63) <= item < 2**63
    return not isinstance(item, str) or (
        len(item) <= MAX_TOKEN_TEXT and item.isascii() and item.isprintable()
    )


def write_place(last: Cluster, query: object) -> str:
    """Return the token of the page behind a cluster, for the same query."""
    return encode_token([last.created_revision, last.uid, query])


def read_place(text: str, query: object) -> tuple[int, str] | None:
    """Return behind which cluster a page begins, by created_revision and uid; None for the first
    page. FieldInvalid if the token is another query's."""
    if not text:
        return None
    contents = decode_token(text)
    if (
        len(contents) != 3
        or contents[2] != query
        or not isinstance(contents[0], int)
        or not isinstance(contents[1], str)
    ):
        raise FieldInvalid(
            [
                Violation(
                    "page_token",
                    "belongs to another query; all else must be as in the previous call",
                )
            ]
        )
    return contents[0], contents[1]
