"""The processes that ask a directory: how many there are, what ends them, and what of the server's
they are given."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import pathlib
import select
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from gateway.authenticators.conformance.source import basic
from gateway.authenticators.contract import AuthenticatorUnavailable
from gateway.authenticators.helpers import Helpers, passed_on
from gateway.authenticators.ldap import MAX_WAITING, PROCESSES, LdapAuthenticator
from tests.parts import missing

SAYS = "import sys\nsys.stdin.readline()\nsys.stdin.readline()\n"  # settings, then a question
SECRET = "a-secret-of-the-server"
PATIENCE_S = 60.0


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A directory that takes connections, and says nothing."""
    if importlib.util.find_spec("bonsai") is None:
        missing("bonsai", "make parts; pip install -e '.[ldap]'")
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening


def settings(listening: socket.socket, timeout_s: float) -> dict[str, Any]:
    """Return settings by which that directory is asked: over TLS, of which the C library knows no
    end."""
    return {
        "url": f"ldaps://127.0.0.1:{listening.getsockname()[1]}",
        "user_dn": "uid={user},dc=example,dc=org",
        "timeout_s": timeout_s,
    }


async def helpers(program: str, **more: Any) -> AsyncIterator[Helpers]:
    """Yield processes that run a program, which are ended afterwards."""
    told = {"most": 1, "most_waiting": 4, "patience_s": PATIENCE_S, **more}
    made = Helpers([sys.executable, "-I", "-c", program], {}, "the oracle", **told)
    try:
        yield made
    finally:
        await made.close()


async def test_a_directory_that_hangs_has_so_many_processes_and_each_is_killed(
    silent: socket.socket,
) -> None:
    one = LdapAuthenticator(**settings(silent, 0.1))
    await one.open()
    try:
        calls = [
            asyncio.ensure_future(one.authenticate(basic(f"user{number}", "any word")))
            for number in range(MAX_WAITING + 3)
        ]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        asked = one.numbers()
        assert (asked["processes"], asked["asking"]) == (PROCESSES, PROCESSES)
        assert (asked["waiting"], asked["refused"]) == (MAX_WAITING - PROCESSES, 3)
        told = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, AuthenticatorUnavailable) for error in told), told
        async with asyncio.timeout(PATIENCE_S):
            while (now := one.numbers())["killed"] < PROCESSES:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert now["processes"] <= PROCESSES
    finally:
        await one.close()
    ended = one.numbers()
    assert (ended["processes"], ended["asking"], ended["waiting"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("program", "words", "counted"),
    [
        (SAYS + "sys.exit(3)", "has ended with status 3", "failed"),
        (SAYS + "import os; os.abort()", f"has ended by signal {signal.SIGABRT:d}", "failed"),
        (SAYS + "print('no JSON', flush=True); sys.stdin.read()", "says what is no", "failed"),
        (SAYS + "print('[]', flush=True); sys.stdin.read()", "says what is no answer", "failed"),
        (SAYS + "print('{' * 99999, flush=True); sys.stdin.read()", "says what is no", "failed"),
        (SAYS + "import signal; signal.raise_signal(signal.SIGALRM)", "not answer in", "killed"),
        ("import sys; sys.exit(4)", "has ended with status 4", "failed"),
    ],
)
async def test_a_process_that_gives_no_answer_is_followed_by_another_and_the_log_says_why(
    program: str, words: str, counted: str
) -> None:
    async for made in helpers(program):
        for number in (1, 2):
            with pytest.raises(AuthenticatorUnavailable, match=words):
                await made.ask({"name": "alice"})
            assert made.numbers()[counted] == number
            assert made.numbers()["processes"] == 0


async def test_no_process_is_an_outage_and_no_fault() -> None:
    made = Helpers(["/nowhere/python"], {}, "the oracle", most=1, most_waiting=4, patience_s=9.0)
    with pytest.raises(AuthenticatorUnavailable, match="no process can be begun that asks the or"):
        await made.ask({"name": "alice"})
    assert made.numbers()["failed"] == 1
    await made.close()


async def test_of_the_servers_environment_it_has_what_its_libraries_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("JUPYTERHUB_API_TOKEN", "DASKGATEWAY_PASSWORD", "PYTHONPATH"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("LDAPTLS_CIPHER_SUITE", "SECURE256")
    program = SAYS + "import json, os; print(json.dumps(dict(os.environ)), flush=True)"
    async for made in helpers(program):
        found: Mapping[str, Any] = await made.ask({"name": "alice", "password": SECRET})
        assert found["LDAPTLS_CIPHER_SUITE"] == "SECURE256"
        assert SECRET not in found.values()
    assert set(passed_on(os.environ)) <= set(os.environ)


SERVER = """
import asyncio, json, sys
from gateway.authenticators.conformance.source import basic
from gateway.authenticators.ldap import LdapAuthenticator

async def main():
    one = LdapAuthenticator(**json.loads(sys.argv[1]))
    await one.open()
    call = asyncio.ensure_future(one.authenticate(basic("alice", sys.argv[2])))
    await asyncio.wait([call])

asyncio.run(main())
"""


def _children(pid: int) -> list[int]:
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in text.split()]


async def test_it_ends_with_a_server_that_is_killed_and_tells_its_passwords_to_nobody(
    silent: socket.socket,
) -> None:
    silent.setblocking(False)
    told = json.dumps(settings(silent, 30.0))  # by its own clock it would end after two minutes
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, told, SECRET)
    try:
        async with asyncio.timeout(PATIENCE_S):
            asking, _ = await asyncio.get_running_loop().sock_accept(silent)
        with asking:
            (helper,) = _children(server.pid)
            place = pathlib.Path(f"/proc/{helper}")
            assert SECRET.encode() not in (place / "cmdline").read_bytes()
            limits = (place / "limits").read_text().splitlines()
            (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
            assert core[4:6] == ["0", "0"]
            # to whoever is not root it shows neither memory nor environment
            assert (place / "environ").stat().st_uid == 0
            gone = os.pidfd_open(helper)
            try:
                server.kill()
                await server.wait()
                ready, _, _ = await asyncio.to_thread(select.select, [gone], [], [], PATIENCE_S)
                assert ready, "it goes on"
            finally:
                os.close(gone)
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
