"""Every command line of docs/grpcurl.md and docs/api.md is run as it stands, against a real gateway
and with the real programs; only the address is that of the gateway here."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.parts import PATH, program

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / name for name in ("grpcurl.md", "api.md")]
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {
    "grpcurl": "make parts (a module of Go: tests/parts/grpcurl)",
    "curl": "apt-get install curl",
    "openssl": "apt-get install openssl",
}
ENDLESS = re.compile(r"WatchClusters|/v1/watch|follow=true")
SETS = re.compile(r"[A-Z]+=")
WITHIN_S = 100.0


def commands(text: str) -> Iterator[str]:
    """Yield every command of a page, over as many lines as it has."""
    for block in BLOCK.findall(text):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE):
            if command.strip():
                yield command.strip()


def names() -> list[str]:
    """Return the program of each command that is no assignment."""
    found = [command.split()[0] for page in PAGES for command in commands(page.read_text())]
    return [word for word in found if not SETS.match(word)]


def test_the_pages_have_commands_of_every_program() -> None:
    assert {"grpcurl", "curl", "buf", "openssl"} <= set(names())
    assert len(names()) > 25
    for page in PAGES:
        text = page.read_text()
        inside = "\n".join(BLOCK.findall(text))
        for line in text.splitlines():
            if re.match(r"\s*(\$ )?(grpcurl|curl|buf) ", line):
                assert line in inside, line


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_runs_as_it_stands(
    page: pathlib.Path, served: GatewayProcess, tmp_path: pathlib.Path
) -> None:
    for name, install in PROGRAMS.items():
        program(name, install)
    environment = {
        **os.environ,
        "PATH": f"{pathlib.Path(sys.executable).parent}:{PATH}",
        "DASKGATEWAY_TOKEN": token(served),
    }
    (tmp_path / "protos").symlink_to(ROOT / "protos")
    (tmp_path / "buf.yaml").write_text("version: v2\nmodules:\n  - path: protos\n")
    address = served.address.removeprefix("http://").replace("127.0.0.1", "localhost")
    before: list[str] = []
    for command in commands(page.read_text()):
        here = command.replace("localhost:8000", address)
        if "s_client" in command:  # WaitCluster has waited for a minute at most
            active(served, "night")
        script = "\n".join(["set -eu", *before, here])
        if SETS.match(command):
            name = here.partition("=")[0]
            before.append(f"{name}={set_to(script, name, environment, tmp_path)}")
        elif ENDLESS.search(command):
            assert first_line(script, environment, tmp_path), command
        else:
            done = run(script, environment, tmp_path)
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def run(
    script: str, environment: dict[str, str], place: pathlib.Path
) -> subprocess.CompletedProcess[str]:
    """Run a script of the shell to its end."""
    return subprocess.run(
        ["bash", "-c", script],
        env=environment,
        cwd=place,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        stdin=subprocess.DEVNULL,
    )


def set_to(script: str, name: str, environment: dict[str, str], place: pathlib.Path) -> str:
    """Return what a variable is set to, as the shell writes it: it is the same from here on."""
    done = run(f'{script}\nprintf %q "${name}"', environment, place)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return done.stdout


def first_line(script: str, environment: dict[str, str], place: pathlib.Path) -> str:
    """Return the first line of a command that does not end by itself, and end it then."""
    process = subprocess.Popen(
        ["bash", "-c", script],
        env=environment,
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        return process.stdout.readline()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def active(served: GatewayProcess, name: str) -> None:
    """Wait until a cluster's scheduler can be reached."""
    from gateway import Gateway

    with Gateway(served.address, auth=(USER, PASSWORD)) as gateway:
        gateway.wait(name, timeout_s=WITHIN_S)


def token(served: GatewayProcess) -> str:
    """Return an API token of the gateway's user."""
    from gateway import Gateway

    with Gateway(served.address, auth=(USER, PASSWORD)) as gateway:
        return gateway.create_token("docs").secret
