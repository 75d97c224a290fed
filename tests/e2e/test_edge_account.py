"""A server that was started as root has its edge run as an account of its own, which can do nothing
but be an edge."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from gateway import Gateway
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.e2e.test_edge_restart import edge_pid
from tests.e2e.test_main_job import until
from tests.parts import as_account, missing
from tests.security.test_listener import write_pair

BIND = 1 << 10  # CAP_NET_BIND_SERVICE


@pytest.fixture(autouse=True)
def as_root() -> None:
    """Only root can run another account's processes."""
    if os.geteuid() != 0:
        missing("root", "sudo make test")


def status(pid: int) -> dict[str, str]:
    """Return what the kernel tells of a process."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def rights(pid: int) -> tuple[set[int], list[str], int, str]:
    """Return user and group of a process, its other groups, all its capabilities, and whether it
    can get new ones."""
    told = status(pid)
    ids = {int(word) for word in (*told["Uid"].split(), *told["Gid"].split())}
    capabilities = 0
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        capabilities |= int(told[name], 16)
    return ids, told["Groups"].split(), capabilities, told["NoNewPrivs"]


def tree(pid: int) -> list[int]:
    """Return a process and all that it began; nothing of one that has ended."""
    try:
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(one for child in children for one in tree(int(child)))]


def low_port() -> int:
    """Return a free port below 1024."""
    for port in range(1023, 600, -1):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port below 1024 is free")


def listens(port: int) -> bool:
    """Whether somebody does."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def room() -> Iterator[pathlib.Path]:
    """A directory that other accounts may enter, not pytest's own: what stops them is ours."""
    with tempfile.TemporaryDirectory(prefix="daskgateway-test-") as name:
        os.chmod(name, 0o711)
        yield pathlib.Path(name)


@pytest.mark.timeout(120)
def test_the_edge_is_an_account_of_its_own_without_rights(room: pathlib.Path) -> None:
    served = GatewayProcess(room)
    served.start(environment={"DASKGATEWAY_ENCRYPTION_KEYS": "", "SOME_API_KEY": "hidden"})
    try:
        pid = edge_pid(served)
        ids, groups, capabilities, no_new = rights(pid)
        (uid,) = ids
        assert uid not in (0, os.geteuid())
        with pytest.raises(KeyError):
            pwd.getpwuid(uid)
        assert (groups, capabilities, no_new) == ([], 0, "1")
        assert "hidden" not in pathlib.Path(f"/proc/{pid}/environ").read_text()
        assert Gateway(served.address, auth=(USER, PASSWORD)).list_clusters() == []
        served.stop()
        served.start()
        assert rights(edge_pid(served))[0] == ids  # stable
    finally:
        served.stop()


@pytest.mark.timeout(120)
def test_who_takes_the_edge_over_reads_nothing_of_the_servers_and_gets_no_further_than_its_socket(
    room: pathlib.Path,
) -> None:
    served = GatewayProcess(room)
    served.start()
    try:
        (uid,) = rights(edge_pid(served))[0]
        state = room / "state"
        state.chmod(0o711)  # even if somebody opened it
        for name in (
            "encryption.key",
            "gateway.db",
            "gateway.db-wal",
            "authority.key",
            "edge.token",
            "edge.json",
        ):
            assert reads(uid, state / name) is False, name
        assert reads(uid, state / "door" / "edge.token") is True
        # which holds hashes, and is open here: the test's own
        assert reads(uid, served.config) is True
        for target in (state / "door" / "server.sock", state / "door" / "x", state / "x"):
            assert writes(uid, target) is False, target
        assert connects(uid, state / "door" / "server.sock") is True
        assert connects(uid, state / "server.sock") is False
        # nor who shares its group
        assert as_user(uid + 1, f"open({str(state / 'door' / 'edge.token')!r})", group=uid) is False
        for stranger in (uid + 1, 65534):
            assert reads(stranger, state / "door" / "edge.token") is False
            assert connects(stranger, state / "door" / "server.sock") is False
            assert reads(stranger, state / "edge" / "session.key") is False
    finally:
        served.stop()


def as_user(uid: int, program: str, *words: str, group: int | None = None) -> bool:
    """Whether a program of the system's Python goes well as an account."""
    python = (
        "/usr/bin/python3"
        if os.path.exists("/usr/bin/python3")
        else shutil.which("python3", path="/usr/local/bin") or missing("python3", "")
    )
    done = subprocess.run(
        [*as_account(uid, group or uid), python, "-I", "-c", program, *words],
        capture_output=True,
        text=True,
        cwd="/",
    )
    if done.returncode and "PermissionError" not in done.stderr:
        raise AssertionError(done.stderr)
    return done.returncode == 0


def reads(uid: int, path: pathlib.Path) -> bool:
    """Whether an account may read a file."""
    assert path.exists()
    return as_user(uid, "import sys; open(sys.argv[1], 'rb').read(1)", str(path))


def writes(uid: int, path: pathlib.Path) -> bool:
    """Whether an account may put a file in a place, instead of what is there."""
    return as_user(
        uid,
        "import sys, os; os.path.lexists(sys.argv[1]) and os.unlink(sys.argv[1]);"
        " open(sys.argv[1], 'w')",
        str(path),
    )


def connects(uid: int, path: pathlib.Path) -> bool:
    """Whether an account may connect to a socket."""
    return as_user(
        uid, "import sys, socket; socket.socket(socket.AF_UNIX).connect(sys.argv[1])", str(path)
    )


def presented(port: int) -> str:
    """Return the certificate that is shown at a port."""
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=10)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_port_below_1024_a_key_for_root_alone_and_its_renewal(
    room: pathlib.Path, processes: int
) -> None:
    port = low_port()
    keys = room / "keys"
    keys.mkdir(mode=0o700)
    write_pair(keys, "localhost")
    first = (keys / "cert.pem").read_text()
    served = GatewayProcess(
        room,
        f"c.Proxy.address = '127.0.0.1:{port}'",
        f"c.Proxy.tls_cert, c.Proxy.tls_key = {str(keys / 'cert.pem')!r},"
        f" {str(keys / 'key.pem')!r}",
        f"c.Proxy.processes = {processes}",
    )
    served.start()
    try:
        everybody = tree(edge_pid(served))
        assert len(everybody) == (1 if processes == 1 else processes + 2)
        for pid in everybody:
            ids, groups, capabilities, no_new = rights(pid)
            assert len(ids) == 1
            assert 0 not in ids
            assert (groups, capabilities, no_new) == ([], BIND, "1")
        assert presented(port) == first
        write_pair(keys, "localhost")
        second = (keys / "cert.pem").read_text()
        assert first != second
        until(lambda: presented(port) == second, "the new certificate is shown")
        victim = everybody[-1]  # the edge, or one of several
        os.kill(victim, signal.SIGKILL)
        # all its threads have ended then, and its sockets are closed
        gone = pathlib.Path(f"/proc/{victim}")
        until(
            lambda: not gone.exists() and len(tree(edge_pid(served))) == len(everybody),
            "another edge is there",
        )
        until(lambda: listens(port), "the edge listens again")
        for pid in tree(edge_pid(served)):
            assert rights(pid)[1:] == ([], BIND, "1")
        assert presented(port) == second
        served.kill()
        served.start()  # adopts the edge
        assert presented(port) == second
    finally:
        served.stop()


@pytest.mark.timeout(120)
def test_an_account_that_is_configured_is_taken_and_what_another_had_is_not_trusted(
    room: pathlib.Path,
) -> None:
    served = GatewayProcess(room)
    served.start()
    (earlier,) = rights(edge_pid(served))[0]
    served.stop()
    own = room / "state" / "edge"
    key = (own / "session.key").read_bytes()
    (own / "planted").symlink_to("/etc/passwd")
    (own / "linked").hardlink_to(own / "session.key")
    nobody = pwd.getpwnam("nobody")
    served.start("--Proxy.user=nobody")
    try:
        assert rights(edge_pid(served))[0] == {nobody.pw_uid, nobody.pw_gid} != {earlier}
        assert {path.name for path in own.iterdir()} <= {"session.key", "routes.json"}
        assert (own / "session.key").read_bytes() != key
        assert {path.lstat().st_uid for path in (own, *own.iterdir())} == {nobody.pw_uid}
    finally:
        served.stop()
    assert os.stat("/etc/passwd").st_uid == 0


@pytest.mark.timeout(120)
def test_what_an_edge_that_ran_as_root_left_is_handed_on(room: pathlib.Path) -> None:
    own = room / "state" / "edge"
    own.mkdir(parents=True, mode=0o700)
    own.parent.chmod(0o700)
    (own / "session.key").write_bytes(b"k" * 32)
    (own / "session.key").chmod(0o600)
    precious = room / "precious"
    precious.write_text("x")
    (own / "routes.json").symlink_to(precious)
    (own / "linked").hardlink_to(precious)
    served = GatewayProcess(room)
    served.start()
    try:
        (uid,) = rights(edge_pid(served))[0]
        assert (own / "session.key").read_bytes() == b"k" * 32
        assert (own / "session.key").stat().st_uid == uid
        assert precious.stat().st_uid == 0
        assert not (own / "linked").exists()
    finally:
        served.stop()


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("no-such-user", "no user 'no-such-user'"),
        ("root", "root's rights"),
        ("'0'", "root's rights"),
    ],
)
def test_an_account_that_cannot_be_is_told(room: pathlib.Path, user: str, words: str) -> None:
    served = GatewayProcess(room)
    command = [
        sys.executable,
        "-m",
        "gateway",
        "serve",
        "--config",
        str(served.config),
        f"--Proxy.user={user}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"c.Proxy.user: {'this machine has ' if 'no user' in words else ''}" in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
