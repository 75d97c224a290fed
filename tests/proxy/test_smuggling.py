"""Requests that two readers could read in two ways: refused with 400, the connection closed,
nothing of them seen by a dashboard."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.proxy.served import UID, Served, a_dashboard, raw, serving, ticket

SMUGGLED = b"GET /clusters/%b/smuggled HTTP/1.1\r\nHost: a\r\n\r\n" % UID.encode()


def post(*headers: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """Return a POST with these header lines."""
    return (
        b"\r\n".join([b"POST TARGET HTTP/" + version, b"Host: a", b"COOKIE", *headers, b"", b""])
        + body
    )


def get(*headers: bytes) -> bytes:
    """Return a GET with these header lines."""
    return b"\r\n".join([b"GET TARGET HTTP/1.1", b"Host: a", b"COOKIE", *headers, b"", b""])


CHUNKED = b"Transfer-Encoding: chunked"
CORPUS = {
    "length beside chunks": post(b"Content-Length: 6", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED),
    "chunks beside length": post(CHUNKED, b"Content-Length: 6", body=b"0\r\n\r\n" + SMUGGLED),
    "two lengths": post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"),
    "two lengths alike": post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "a list of lengths": post(b"Content-Length: 5, 5", body=b"hello"),
    "a length with a sign": post(b"Content-Length: +5", body=b"hello"),
    "a negative length": post(b"Content-Length: -5", body=b"hello"),
    "a hexadecimal length": post(b"Content-Length: 0x5", body=b"hello"),
    "a length with an underscore": post(b"Content-Length: 1_0", body=b"hellohello"),
    "a length beyond all bounds": post(
        b"Content-Length: 99999999999999999999999999", body=b"hello"
    ),
    "an empty length": post(b"Content-Length: ", body=b"hello"),
    "two callers": get(b"Authorization: Bearer a", b"authorization: Bearer b"),
    "one caller twice": get(b"Authorization: Bearer a", b"Authorization: Bearer a"),
    "a folded header": get(b"X-A: b\r\n c"),
    "a folded coding": post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a space before the first header": b"GET TARGET HTTP/1.1\r\n Host: a\r\nHost:"
    b" b\r\nCOOKIE\r\n\r\n",
    "bare LF everywhere": b"GET TARGET HTTP/1.1\nHost: a\nCOOKIE\n\n",
    "bare LF between headers": get(b"X-A: b\nX-C: d"),
    "bare CR between headers": get(b"X-A: b\rX-C: d"),
    "a space before the colon": get(b"X-A : b"),
    "a space before the coding's colon": post(
        b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "NUL in a value": get(b"X-A: b\x00c"),
    "NUL in a name": get(b"X\x00A: b"),
    "a control character in a value": get(b"X-A: b\x01c"),
    "NUL in the target": b"GET TARGET\x00 HTTP/1.1\r\nHost: a\r\nCOOKIE\r\n\r\n",
    "a space in the target": b"GET TARGET x HTTP/1.1\r\nHost: a\r\nCOOKIE\r\n\r\n",
    "a header without a colon": get(b"X-A"),
    "a header without a name": get(b": b"),
    "a name that is not ASCII": get(b"X\xc3\xa9: b"),
    "coding identity": post(b"Transfer-Encoding: identity", body=b"hello"),
    "an unknown coding": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunked not last": post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n" + SMUGGLED),
    "gzip before chunked": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunked twice": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n" + SMUGGLED),
    "chunked twice in one": post(
        b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "chunked behind a vertical tab": post(
        b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n" + SMUGGLED),
    "chunks in HTTP/1.0": post(CHUNKED, body=b"0\r\n\r\n", version=b"1.0"),
    "a negative chunk": post(CHUNKED, body=b"-1\r\n\r\n0\r\n\r\n" + SMUGGLED),
    "a chunk's size with 0x": post(CHUNKED, body=b"0x1\r\na\r\n0\r\n\r\n"),
    "a chunk's size beyond all bounds": post(CHUNKED, body=b"ffffffffffffffffff\r\na\r\n0\r\n\r\n"),
    "a chunk's size ended by LF": post(CHUNKED, body=b"1\na\r\n0\r\n\r\n"),
    "a chunk longer than its size": post(CHUNKED, body=b"1\r\nab\r\n0\r\n\r\n"),
    "LF in a chunk's extension": post(CHUNKED, body=b"1;a=\nb\r\na\r\n0\r\n\r\n" + SMUGGLED),
    "a space behind a chunk's size": post(CHUNKED, body=b"1 \r\na\r\n0\r\n\r\n"),
    "a chunk without a size": post(CHUNKED, body=b"\r\na\r\n0\r\n\r\n"),
    "a length in the trailers": post(CHUNKED, body=b"1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "a malformed trailer": post(CHUNKED, body=b"1\r\na\r\n0\r\nX : 5\r\n\r\n"),
    "no host": b"GET TARGET HTTP/1.1\r\nCOOKIE\r\n\r\n",
    "two hosts": get(b"Host: b"),
    "a host with a space": b"GET TARGET HTTP/1.1\r\nHost: a b\r\nCOOKIE\r\n\r\n",
    "a host with a user": b"GET TARGET HTTP/1.1\r\nHost: u@a\r\nCOOKIE\r\n\r\n",
    "a host with a path": b"GET TARGET HTTP/1.1\r\nHost: a/b\r\nCOOKIE\r\n\r\n",
    "a whole address as target": b"GET http://aTARGET HTTP/1.1\r\nHost: a\r\nCOOKIE\r\n\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET TARGET\r\n\r\n",
    "HTTP/1.2": b"GET TARGET HTTP/1.2\r\nHost: a\r\nCOOKIE\r\n\r\n",
    "HTTP/3.0": b"GET TARGET HTTP/3.0\r\nHost: a\r\nCOOKIE\r\n\r\n",
    "rubbish behind the version": b"GET TARGET HTTP/1.1x\r\nHost: a\r\nCOOKIE\r\n\r\n",
    "tabs for spaces": b"GET\tTARGET\tHTTP/1.1\r\nHost: a\r\nCOOKIE\r\n\r\n",
    "a method that is no token": b"G(T TARGET HTTP/1.1\r\nHost: a\r\nCOOKIE\r\n\r\n",
    "too many headers": get(*(b"X-%d: 1" % number for number in range(200))),
    "too long a header": get(b"X-A: " + b"a" * 9000),
    "too long a target": b"GET TARGET?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\nCOOKIE\r\n\r\n",
    "too large a head": get(*(b"X-%d: %b" % (number, b"a" * 8000) for number in range(20))),
}

# These do not even begin like HTTP, and are closed upon without words; what HTTP/0.9 is answered
# has no status.
WORDLESS = ("CONNECT", "tabs for spaces", "a method that is no token")


@pytest.fixture
async def served(tmp_path: pathlib.Path) -> AsyncIterator[Served]:
    """An edge with a dashboard that answers everything."""

    async def anything(request: web.Request) -> web.Response:
        return web.Response(
            text=f"dashboard {request.method} {request.raw_path} {len(await request.read())}"
        )

    async with serving(tmp_path) as made:
        async with a_dashboard(made, [web.route("*", "/{path:.*}", anything)]):
            yield made


async def session(served: Served) -> bytes:
    """Return a Cookie header that the edge lets in."""
    answer = await raw(
        served.port,
        b"GET /clusters/%b/x?ticket=%b HTTP/1.0\r\nHost: a\r\n\r\n"
        % (UID.encode(), ticket().encode()),
    )
    line = next(line for line in answer.split(b"\r\n") if line.startswith(b"Set-Cookie: "))
    return b"Cookie: " + line.partition(b": ")[2].partition(b";")[0]


@pytest.mark.parametrize(
    "target", ["/clusters/UID/status", "/daskgateway.v1.ClusterService/ListClusters"]
)
async def test_every_ambiguous_request_is_refused(served: Served, target: str) -> None:
    cookie = await session(served)
    wrong = []

    async def refused(name: str, request: bytes) -> None:
        sent = request.replace(b"TARGET", target.replace("UID", UID).encode()).replace(
            b"COOKIE", cookie
        )
        answer = await raw(served.port, sent + SMUGGLED)
        statuses = [
            line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.")
        ]
        if name in WORDLESS:
            good = answer == b""
        else:
            good = statuses == [b"400"] or (
                name == "HTTP/0.9" and answer == b"the version must be HTTP/1.1\n"
            )
        if not good:
            wrong.append(f"{name}: {answer!r}")

    await asyncio.gather(*(refused(name, request) for name, request in CORPUS.items()))
    assert wrong == []
    assert [request.raw_path for request in served.seen] == []


async def test_a_good_request_with_the_same_cookie_is_served(served: Served) -> None:
    """What the test above refuses, it refuses for what is wrong with it."""
    cookie = await session(served)
    sent = post(CHUNKED, b"Connection: close", body=b"1;ext=1\r\na\r\n0\r\nX-Trailer: 1\r\n\r\n")
    answer = await raw(
        served.port,
        sent.replace(b"TARGET", b"/clusters/%b/a" % UID.encode()).replace(b"COOKIE", cookie),
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"dashboard POST /a 1")


async def test_a_chunk_that_goes_wrong_later_reaches_no_dashboard(served: Served) -> None:
    cookie = await session(served)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    sent = (
        post(CHUNKED, body=b"1\r\na\r\n")
        .replace(b"TARGET", b"/clusters/%b/a" % UID.encode())
        .replace(b"COOKIE", cookie)
    )
    writer.write(sent)
    await writer.drain()
    waiting = asyncio.ensure_future(reader.read(100))
    # the head was taken; the body is awaited
    assert not (await asyncio.wait([waiting], timeout=0.2))[0]
    writer.write(b"zz\r\n" + SMUGGLED)
    assert (await waiting).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert served.seen == []


async def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    cookie = await session(served)
    one = b"GET /clusters/%b/%%b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (UID.encode(), cookie)
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answer = await raw(served.port, one % b"1" + one % b"2" + last % b"3")
    assert [answer.find(b"GET /%d 0" % number) > 0 for number in (1, 2, 3)] == [True] * 3
    assert answer.find(b"GET /1 0") < answer.find(b"GET /2 0") < answer.find(b"GET /3 0")
