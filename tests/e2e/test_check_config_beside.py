"""`check-config` beside a gateway that runs: what that one holds is its own, what others hold keeps
it from starting."""

from __future__ import annotations

import pathlib
import socket
import subprocess
import sys

from tests.e2e.gateway_process import GatewayProcess


def free() -> int:
    """Return a port that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def checked(gateway: GatewayProcess) -> subprocess.CompletedProcess[str]:
    """Run check-config on a gateway's file."""
    words = [sys.executable, "-m", "gateway", "check-config", "--config", str(gateway.config)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def test_ports_of_the_gateway_itself_are_free_to_it(tmp_path: pathlib.Path) -> None:
    edge, listener = free(), free()
    gateway = GatewayProcess(
        tmp_path,
        f"c.Proxy.address = '127.0.0.1:{edge}'",
        f"c.DaskGateway.address = '127.0.0.1:{listener}'",
    )
    gateway.start()
    try:
        assert checked(gateway).returncode == 0, checked(gateway).stderr
    finally:
        gateway.kill()  # its edge stays
    try:
        assert checked(gateway).returncode == 0, checked(gateway).stderr
    finally:
        gateway.start()
        assert gateway.stop() == 0
    with socket.socket() as other:
        other.bind(("127.0.0.1", edge))
        other.listen()
        said = checked(gateway)
    assert said.returncode == 2
    assert f"c.Proxy.address: cannot listen on 127.0.0.1:{edge}: another program" in said.stderr
    assert len(said.stderr.splitlines()) == 1
