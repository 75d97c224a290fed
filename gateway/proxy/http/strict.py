"""Which requests are refused although a parser can read them: what two readers could read in two
ways. Pure (RFC 9112 §3.2, §6.1, §11.2; RFC 9110 §5.3).

The parser itself (llhttp, in its strict mode) refuses bare LF, folded lines, two lengths, a length
beside chunks, and the like.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_HEADERS = 100
MAX_LINE_BYTES = 8190  # of the request line, and of one header
MAX_HEAD_BYTES = 64 * 1024  # of all headers together
_HOST = re.compile(rb"([A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def violation(
    target: str, version: tuple[int, int], headers: Sequence[tuple[bytes, bytes]]
) -> str | None:
    """Return what is wrong with a request's head, None if nothing is."""
    if version not in ((1, 0), (1, 1)):
        return "the version must be HTTP/1.1"
    if not target.startswith("/"):
        return "the request's target must be a path"
    if len(headers) > MAX_HEADERS:
        return f"there are more than {MAX_HEADERS} headers"
    if sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
        return f"the headers have more than {MAX_HEAD_BYTES} bytes"
    hosts = [value for name, value in headers if name.lower() == b"host"]
    if (
        len(hosts) > 1
        or (not hosts and version == (1, 1))
        or any(not _HOST.fullmatch(host) for host in hosts)
    ):
        return "there must be one Host header with a host or host:port"
    if sum(name.lower() == b"authorization" for name, _ in headers) > 1:
        return "there is more than one Authorization header"
    codings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
    if codings and (version != (1, 1) or codings[0].lower() != b"chunked" or len(codings) > 1):
        return "the only Transfer-Encoding is chunked, in HTTP/1.1"
    return None
