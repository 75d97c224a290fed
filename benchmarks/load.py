"""How many calls a second a server answers: h2load (C, Debian's nghttp2-client) on both sides, as
HTTP/2 or as HTTP/1.1.

The same program with as many calls in flight, which needs about a tenth of a core: neither side
waits for its client. HTTP/1.1 needs a connection for each call in flight; gRPC has them share one,
as the channel of a client does, unless a Call says otherwise. What comes back is checked by its
size, because h2load counts an error of gRPC, which is in the trailers, as a success.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from benchmarks import machine

SECONDS = 3
_DONE = re.compile(r"(\d+) total, \d+ started, (\d+) done, (\d+) succeeded")
_DATA = re.compile(r"\((\d+)\) data")
_RATE = re.compile(r"finished in [\d.]+m?s, ([\d.]+) req/s")


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one run."""

    rate: float  # calls answered a second
    cpu_us: float  # CPU time of the server's process for each


@dataclass(frozen=True, slots=True)
class Call:
    """What is called: h2load's words, the server's process, and what an answer is."""

    words: Sequence[str]
    pid: int
    in_flight: int
    answer_bytes: int
    calls: int = 1  # how many such calls one whole answer takes
    connections: int = 0  # 0: one for each call in flight
    core: str = ""  # which the load comes from; any, if empty


class UnexpectedAnswers(Exception):
    """The server answered something else than it should."""


def framed(message: Message) -> bytes:
    """Return a message as gRPC sends it (length-prefixed, uncompressed)."""
    raw = message.SerializeToString()
    return b"\0" + struct.pack(">I", len(raw)) + raw


def grpc_words(
    directory: pathlib.Path, listener: str, method: str, request: Message, authorization: str
) -> list[str]:
    """Return h2load's words for a unary gRPC call over a server's socket, `unix:/path`."""
    body = directory / f"{method.rpartition('/')[2]}.body"
    body.write_bytes(framed(request))
    headers = ["content-type: application/grpc", "te: trailers", f"authorization: {authorization}"]
    return [
        "-B",
        listener,
        "-d",
        str(body),
        *[word for header in headers for word in ("-H", header)],
        f"http://localhost{method}",
    ]


def rest_words(port: int, path: str, cookie: str) -> list[str]:
    """Return h2load's words for a GET over HTTP/1.1."""
    return ["--h1", "-H", f"cookie: {cookie}", f"http://127.0.0.1:{port}{path}"]


def run(what: Call) -> Run:
    """Load a server for SECONDS; what is answered must have the right size."""
    program = shutil.which("h2load")
    if program is None:
        raise FileNotFoundError("h2load is missing: apt-get install nghttp2-client")
    before = machine.cpu_s([what.pid])
    connections = what.connections or what.in_flight
    call = [
        *(["taskset", "-c", what.core] if what.core else []),
        program,
        "-t1",
        f"-c{connections}",
        f"-m{what.in_flight // connections}",
        f"-D{SECONDS}",
        *what.words,
    ]
    told = subprocess.run(
        call, capture_output=True, text=True, timeout=SECONDS + 60, check=True
    ).stdout
    spent = machine.cpu_s([what.pid]) - before
    done, data, rate = _DONE.search(told), _DATA.search(told), _RATE.search(told)
    if done is None or data is None or rate is None:
        raise UnexpectedAnswers(told)
    answered, succeeded = int(done[2]), int(done[3])
    if (
        succeeded < answered
        or abs(int(data[1]) - answered * what.answer_bytes) > 2 * what.in_flight * what.answer_bytes
    ):
        raise UnexpectedAnswers(
            f"{answered} calls, {succeeded} succeeded, {data[1]} bytes where {what.answer_bytes}"
            f" each were expected"
        )
    return Run(float(rate[1]), spent / max(1, answered) * 1e6)
