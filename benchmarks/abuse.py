"""What floods do to a user who works: every kind of them, some seconds each, beside gets, lists,
creates and a watch through the edge.

`python -m benchmarks.abuse [SECONDS [FLOOD...]]`. Server and edge as anybody runs them, with TLS
and the no-op backend; the attacker is a process of its own that writes to plain sockets
(`abuse_floods.py`), once as nobody in particular, once as a user. Measured are that user's calls
and events, the server's memory, and what is left when the flood is over.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks import abuse_doors, machine, processes
from benchmarks.abuse_floods import CONNECTIONS, FLOODS
from benchmarks.figures import last_line
from benchmarks.our_agents import agent_tokens
from benchmarks.ours import AUTHORIZATION, PASSWORD, OurGateway
from gateway.wire import basic_credentials

SECONDS = 30.0
WARM_S = 1.0  # of each flood once beforehand: threads and buffers that stay are there by then
QUIET_S = 10.0  # without a flood, for comparison
SETTLE_S = 30.0
SAMPLE_S = 0.2
GUESTS, INSIDER = 1000, "mallory"
WANTED_P99_MS, WANTED_RSS_MB = 100.0, 300.0


@dataclass(slots=True)
class Held:
    """What server and edge hold."""

    numbers: dict[str, float]

    def beyond(self, before: Held) -> dict[str, float]:
        """Return what is more than before."""
        return {
            name: value - before.numbers[name]
            for name, value in self.numbers.items()
            if value > before.numbers[name]
        }


class Room:
    """The gateway, the user who works, and the attacker's cluster."""

    def __init__(self, directory: pathlib.Path, *, doors: bool) -> None:
        """`doors`: whether people can sign in in every way that there is."""
        self.ca, key = certificate(directory)
        self._providers: subprocess.Popen[str] | None = None
        (admin,) = processes.free_ports(1)
        self._metrics = f"http://127.0.0.1:{admin}/metrics"
        extra = (
            f"c.Proxy.tls_cert, c.Proxy.tls_key = {str(self.ca)!r}, {str(key)!r}\n"
            f"c.Proxy.admin_address = '127.0.0.1:{admin}'\n"
            f"c.DaskGateway.max_clusters_per_user, c.DaskGateway.max_creates_per_minute = 100, 60\n"
        )
        if doors:
            http, ldap = processes.free_ports(2)
            words = [sys.executable, "-m", "benchmarks.abuse_doors", str(http), str(ldap)]
            self._providers = processes.start(
                words, directory / "providers.log", cwd=processes.ROOT
            )
            processes.read_line(self._providers, 60)
            extra += abuse_doors.configuration(directory, http, ldap, "https://x")
        people = [INSIDER, *(f"guest{number}" for number in range(GUESTS))]
        self.gateway = OurGateway(directory / "ours", noop=True, users=people, extra=extra)
        self.gateway.start()
        self.user = self._start_user(directory)
        self.insider = basic_credentials(INSIDER, PASSWORD)
        self.uid = self._cluster()
        self.token = agent_tokens(self.gateway.state_dir)[self.uid]

    def _start_user(self, directory: pathlib.Path) -> subprocess.Popen[str]:
        words = [
            sys.executable,
            "-m",
            "benchmarks.abuse_user",
            str(self.gateway.edge_port),
            str(self.ca),
            AUTHORIZATION,
            PASSWORD,
        ]
        process = processes.start(words, directory / "user.log", cwd=processes.ROOT)
        if processes.read_line(process, 60).strip() != "ready":
            raise RuntimeError((directory / "user.log").read_text()[-2000:])
        return process

    def _cluster(self) -> str:
        import ssl

        headers = {"Authorization": self.insider, "Content-Type": "application/json"}
        url = f"https://127.0.0.1:{self.gateway.edge_port}/daskgateway.v1.ClusterService/CreateCluster"
        request = urllib.request.Request(url, data=b"{}", headers=headers)
        with urllib.request.urlopen(
            request, timeout=30, context=ssl.create_default_context(cafile=str(self.ca))
        ) as answer:
            return str(json.load(answer)["uid"])

    @property
    def server(self) -> int:
        """The server's pid."""
        assert self.gateway.process is not None
        return self.gateway.process.pid

    def pids(self) -> list[int]:
        """Return the server's pid and the edge's."""
        edge = json.loads((self.gateway.state_dir / "edge.json").read_text())["pid"]
        return [self.server, int(edge)]

    def held(self) -> Held:
        """Return what is held now."""
        found: dict[str, float] = {}
        for whose, pid in zip(("server", "edge"), self.pids()):
            found[f"{whose} descriptors"] = len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))
            found[f"{whose} threads"] = len(list(pathlib.Path(f"/proc/{pid}/task").iterdir()))
        with urllib.request.urlopen(self._metrics, timeout=30) as answer:
            for line in answer.read().decode().splitlines():
                for name in ("connections", "http2_sessions", "newcomers", "relays", "tunnels"):
                    if line.startswith(f"daskgateway_edge_{name}{{"):
                        found[f"edge {name}"] = float(line.rpartition(" ")[2])
        return Held(found)

    def flood(self, name: str, seconds: float) -> subprocess.Popen[str]:
        """Begin a flood."""
        words = [
            sys.executable,
            "-m",
            "benchmarks.abuse_floods",
            name,
            str(self.gateway.edge_port),
            str(self.ca),
            str(seconds),
        ]
        return processes.start(
            [*words, self.insider, self.uid, self.token],
            self.gateway.directory / "floods.log",
            cwd=processes.ROOT,
        )

    def close(self) -> None:
        """End everything."""
        processes.end(self.user)
        self.gateway.stop()
        if self._providers is not None:
            processes.end(self._providers)


@contextmanager
def room(*, doors: bool = False) -> Iterator[Room]:
    """Lend a room."""
    with processes.scratch() as directory:
        made = Room(directory, doors=doors)
        try:
            yield made
        finally:
            made.close()


def certificate(directory: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Return files of a certificate for 127.0.0.1, which is its own authority, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "abuse")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(
        name,
        name,
        key.public_key(),
        x509.random_serial_number(),
        now,
        now + datetime.timedelta(days=1),
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        builder.add_extension(names, False)
        .add_extension(x509.BasicConstraints(True, 0), True)
        .sign(key, hashes.SHA256())
    )
    chain, private = directory / "cert.pem", directory / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(*form))
    return chain, private


def rss_mb(pid: int) -> float:
    """Return a process's resident memory."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


@dataclass(slots=True)
class Found:
    """What one flood did."""

    p99_ms: float
    worst_ms: float
    calls: int
    sign_in_ms: float  # the longest of those who came for the first time
    server_rss_mb: float
    edge_rss_mb: float
    errors: list[str]
    left: dict[str, float]


def measure(found: Room, name: str, seconds: float) -> Found:
    """Flood, and return what the user saw. Without a name nobody floods."""
    before = found.held()
    assert found.user.stdin is not None
    attacker = found.flood(name, seconds) if name else None
    found.user.stdin.write("\n")
    found.user.stdin.flush()
    ends_at, server, edge = time.monotonic() + seconds, 0.0, 0.0
    while time.monotonic() < ends_at:
        time.sleep(SAMPLE_S)
        sizes = [rss_mb(pid) for pid in found.pids()]
        server, edge = max(server, sizes[0]), max(edge, sizes[1])
    found.user.stdin.write("\n")
    found.user.stdin.flush()
    told = json.loads(processes.read_line(found.user, 60))
    if attacker is not None:
        attacker.wait(30)
        processes.end(attacker)
    took = sorted([*told["calls"], *told["events"]])
    left = settled(found, before)
    p99 = took[min(len(took) - 1, int(len(took) * 0.99))] if took else float("inf")
    return Found(
        p99,
        took[-1] if took else float("inf"),
        len(took),
        max(told["sign_ins"], default=0.0),
        server,
        edge,
        told["errors"],
        left,
    )


def settled(found: Room, before: Held) -> dict[str, float]:
    """Return what is still held beyond before, once that does not become less any more."""
    deadline = time.monotonic() + SETTLE_S
    while (left := found.held().beyond(before)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    names = sys.argv[2:] or [*FLOODS, *CONNECTIONS, *abuse_doors.FLOODS]
    print(f"abuse: {machine.described()}; {seconds:g} s each", flush=True)
    results: dict[str, Found] = {}
    quiet: Found | None = None
    with machine.watched() as load:
        for doors in (False, True):
            there = [name for name in names if (name in abuse_doors.FLOODS) is doors]
            if there:
                quiet = _flooded(there, seconds, results, doors=doors)
    assert quiet is not None
    print(f"the machine was busy with {load.cores:.2f} cores, this benchmark's own work included")
    figures = {
        "p99_ms": max(one.p99_ms for one in results.values()),
        "p99_median_ms": statistics.median(one.p99_ms for one in results.values()),
        "quiet_p99_ms": quiet.p99_ms,
        "server_rss_mb": max(one.server_rss_mb for one in results.values()),
        "edge_rss_mb": max(one.edge_rss_mb for one in results.values()),
        "sign_in_ms": max(one.sign_in_ms for one in results.values()),
        "errors": float(sum(len(one.errors) for one in results.values())),
        "left": float(sum(sum(one.left.values()) for one in results.values())),
    }
    for name, one in results.items():
        figures |= {
            f"{name}.p99_ms": one.p99_ms,
            f"{name}.server_rss_mb": one.server_rss_mb,
            f"{name}.left": float(sum(one.left.values())),
        }
    print(last_line("abuse", figures))


def _flooded(names: list[str], seconds: float, results: dict[str, Found], *, doors: bool) -> Found:
    """Flood a gateway in each of the ways; return how it is without."""
    with room(doors=doors) as found:
        for name in names:
            measure(found, name, WARM_S)
        quiet = measure(found, "", min(seconds, QUIET_S))
        print(
            f"{'':20} {'p99 ms':>8} {'worst':>8} {'calls':>6} {'sign-in':>8} {'server MB':>9}"
            f" {'edge MB':>8}  errors, left"
        )
        _tell("nobody", quiet)
        for name in names:
            results[name] = measure(found, name, seconds)
            _tell(name, results[name])
    return quiet


def _tell(name: str, found: Found) -> None:
    numbers = f"{found.p99_ms:8.1f} {found.worst_ms:8.1f} {found.calls:6d} {found.sign_in_ms:8.0f}"
    numbers += f" {found.server_rss_mb:9.0f} {found.edge_rss_mb:8.0f}"
    left = ", ".join(f"{value:g} {what}" for what, value in found.left.items())
    print(f"{name:20} {numbers}  {'; '.join(sorted(set(found.errors))[:2])} {left}", flush=True)


if __name__ == "__main__":
    main()
