"""Which principals a keytab holds keys of: the file's format, version 2, as MIT krb5 documents it.
Keys themselves are passed over."""

from __future__ import annotations

import struct

MAX_BYTES = 4 * 1024 * 1024
_MAGIC = b"\x05\x02"


def principals(content: bytes) -> list[str]:
    """Return the principals of a keytab, such as HTTP/host@REALM, each once; ValueError if the
    content is no keytab."""
    if content[:2] != _MAGIC:
        raise ValueError("it is no keytab")
    found: dict[str, None] = {}
    at = 2
    try:
        while at < len(content):
            (size,) = struct.unpack_from(">i", content, at)
            at += 4
            if at + abs(size) > len(content):
                raise ValueError("it is a keytab that is damaged")
            if size > 0:  # otherwise a hole, where an entry was
                found[_principal(content[at : at + size])] = None
            elif size == 0:
                break
            at += abs(size)
    except (struct.error, UnicodeDecodeError):
        raise ValueError("it is a keytab that is damaged") from None
    return list(found)


def _principal(entry: bytes) -> str:
    (count,) = struct.unpack_from(">H", entry)
    at, texts = 2, []
    for _ in range(count + 1):
        (length,) = struct.unpack_from(">H", entry, at)
        text = entry[at + 2 : at + 2 + length]
        if len(text) != length:
            raise ValueError("it is a keytab that is damaged")
        texts.append(text.decode())
        at += 2 + length
    realm, *parts = texts
    return f"{'/'.join(parts)}@{realm}"
