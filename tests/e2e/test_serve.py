"""What an administrator meets: mistakes told in one message, ports in use, files that cannot be
used, a clean end."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys

import pytest

from gateway.authenticators.password import hash_password
from gateway.server.edge.process import WarmEdge
from tests.e2e.gateway_process import GatewayProcess
from tests.ports import free_port

SLURM = "c.DaskGateway.backends = ['slurm']; c.SlurmBackend."


def daskgateway(*words: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("c.ClusterConfig.worker_memry = '4 GiB'", "did you mean worker_memory?"),
        ("c.ClusterConfg.worker_memory = '4 GiB'", "did you mean ClusterConfig?"),
        (
            "c.ClusterConfig.worker_memory = 'much'",
            "c.ClusterConfig.worker_memory: must be an amount of memory",
        ),
        ("c.DaskGateway.backends = ['lokal']", "did you mean local?"),
        ("c.PasswordAuthenticator.users = {'alice': 'secret'}", "daskgateway hash-password"),
        ("c.DaskGateway.address = '0.0.0.0'", "c.DaskGateway.address: must be host:port"),
        (
            "c.DaskGateway.agent_address = 'http://gateway:8001'",
            "c.DaskGateway.agent_address: must be https://host:port",
        ),
        (
            "c.DaskGateway.agent_address = 'gateway:8001'",
            "c.DaskGateway.agent_address: must be https://host:port",
        ),
        (
            "c.DaskGateway.tls_cert = '/tmp/cert.pem'",
            "c.DaskGateway.tls_cert and tls_key: set both or none",
        ),
        ("c.Proxy.max_connections = 'many'", "c.Proxy.max_connections"),
        (f"{SLURM}identity = 'user-token'", "c.SlurmBackend.rest_url: identity user-token needs"),
        (f"{SLURM}tag = 'a-b'", "c.SlurmBackend.tag: must match"),
        (
            f"{SLURM}scheduler_settings = {{'tme_limit': '7-0'}}",
            "'tme_limit' of a job; did you mean time_limit?",
        ),
        (
            f"{SLURM}scheduler_settings = {{'time_limit': 'long'}}",
            "c.SlurmBackend.scheduler_settings: time_limit: 'long' is no time",
        ),
        (f"{SLURM}time_limit = '2hours'", "c.SlurmBackend.time_limit: '2hours' is no time"),
        (
            f"{SLURM}directives = ['--job-name=x']",
            "c.SlurmBackend.directives: --job-name is set by the gateway itself",
        ),
        (
            f"{SLURM}log_directory = '/x/{{usr}}'",
            "c.SlurmBackend.log_directory: {usr} is replaced by nothing",
        ),
        ("raise ValueError('oops')", "line 2: ValueError: oops"),
        ("c.Proxy.address = (", "line 2"),
    ],
)
def test_a_mistake_in_the_configuration_is_told_and_ends_with_code_2(
    tmp_path: pathlib.Path, line: str, words: str
) -> None:
    (tmp_path / "daskgateway_config.py").write_text(f"c = get_config()\n{line}\n")
    for command in ("check-config", "serve"):
        done = daskgateway(command, f"--DaskGateway.state_dir={tmp_path}/state", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_what_is_generated_can_be_checked_and_shown(tmp_path: pathlib.Path) -> None:
    assert daskgateway("generate-config", "-o", "made.py", cwd=tmp_path).returncode == 0
    text = (tmp_path / "made.py").read_text()
    assert "# c.ClusterConfig.worker_memory = " in text
    assert "# c.LocalBackend.root = " in text
    slurm = daskgateway("generate-config", "--DaskGateway.backends=['slurm']", cwd=tmp_path)
    for inherited in ("root", "setup", "launcher", "log_directory"):
        assert f"# c.SlurmBackend.{inherited} = " in slurm.stdout
    assert "# c.SlurmBackend.root = ''" not in slurm.stdout
    own = (
        f"--DaskGateway.state_dir={tmp_path}/state",
        f"--PasswordAuthenticator.password={hash_password('wonderland')}",
        "--DaskGateway.address=127.0.0.1:0",
        "--Proxy.address=127.0.0.1:0",
    )
    checked = daskgateway("check-config", "--config", "made.py", *own, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    shown = daskgateway("show-config", "--ClusterConfig.max_workers=7", own[0], cwd=tmp_path)
    assert "c.ClusterConfig.max_workers = 7\n" in shown.stdout
    again = daskgateway("generate-config", "-o", "made.py", cwd=tmp_path)
    assert again.returncode == 2
    assert "made.py: File exists; --force replaces it" in again.stderr
    (tmp_path / "made.py").write_text("nothing of mine")
    forced = daskgateway("generate-config", "-o", "made.py", "--force", cwd=tmp_path)
    assert (forced.returncode, (tmp_path / "made.py").read_text()) == (0, text)


def test_ports_in_use_and_unusable_databases_are_told(tmp_path: pathlib.Path) -> None:
    gateway = GatewayProcess(tmp_path)
    newer = tmp_path / "newer.db"
    newer.touch(mode=0o600)
    with sqlite3.connect(newer) as raw:
        raw.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB)")
        raw.execute("INSERT INTO meta VALUES ('schema_version', CAST('99' AS BLOB))")
    raw.close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for setting, words in (
            (f"--DaskGateway.address=127.0.0.1:{port}", "c.DaskGateway.address: cannot listen"),
            (f"--Proxy.address=127.0.0.1:{port}", "c.Proxy.address: cannot listen"),
            (f"--DaskGateway.database=sqlite:///{newer}", "schema version 99"),
            ("--DaskGateway.database=sqlite:////proc/no.db", "/proc/no.db"),
        ):
            done = daskgateway("serve", "--config", str(gateway.config), setting, cwd=tmp_path)
            assert done.returncode == 2, done.stderr
            assert words in done.stderr
            assert "Traceback" not in done.stderr


def test_too_few_descriptors_are_told_with_the_number_that_is_needed(
    tmp_path: pathlib.Path,
) -> None:
    gateway = GatewayProcess(tmp_path)
    words = [sys.executable, "-m", "gateway", "serve", "--config", str(gateway.config)]
    limited = ["/bin/sh", "-c", 'ulimit -n $1; shift; exec "$@"', "sh"]
    done = subprocess.run([*limited, "256", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert (
        "the limit on open files is 256; c.DaskGateway.max_clusters = 10000 takes 20256, and with"
        " less than 384 nothing" in done.stderr
    )
    assert "Traceback" not in done.stderr
    done = subprocess.run(
        [*limited, "300", *words, "--DaskGateway.max_clusters=1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert (
        "the limit on open files is 300; c.Proxy.max_connections = 15000 takes 30256, and with"
        " less than 384 nothing" in done.stderr
    )


def test_few_descriptors_are_told_while_it_serves(tmp_path: pathlib.Path) -> None:
    gateway = GatewayProcess(tmp_path)
    gateway.start(before=["/bin/sh", "-c", 'ulimit -n 1000; exec "$@"', "sh"])
    assert gateway.stop() == 0
    log = (tmp_path / "server.log").read_text()
    assert (
        "the limit on open files, 1000, permits 372 clusters; c.DaskGateway.max_clusters = 10000"
        " takes 20256: raise it" in log
    )
    assert (
        "the limit on open files, 1000, permits 372 connections; c.Proxy.max_connections = 15000"
        " takes 30256: raise it" in log
    )


def test_a_term_signal_ends_cleanly_and_leaves_clusters_running(tmp_path: pathlib.Path) -> None:
    from gateway import Gateway
    from tests.e2e.gateway_process import PASSWORD, USER

    gateway = GatewayProcess(tmp_path)
    (tmp_path / "state").mkdir(mode=0o700)
    # cut short, as when the machine went down while it was written
    (tmp_path / "state" / "listener.port").touch()
    gateway.start()
    made = Gateway(gateway.address, auth=(USER, PASSWORD)).submit("lives-on")
    Gateway(gateway.address, auth=(USER, PASSWORD)).wait(made.name, timeout_s=100)
    running = gateway.processes()
    assert running
    assert gateway.stop() == 0
    assert gateway.processes() == running
    gateway.start()
    client = Gateway(gateway.address, auth=(USER, PASSWORD))
    assert client.get_cluster("lives-on").uid == made.uid
    client.stop_cluster("lives-on")
    assert client.wait("lives-on", ("STOPPED",), timeout_s=100).status.reason == "STOP_REQUESTED"
    assert gateway.processes() == []
    assert gateway.stop() == 0


def test_a_term_signal_stops_the_clusters_when_told_to(tmp_path: pathlib.Path) -> None:
    from gateway import Gateway
    from tests.e2e.gateway_process import PASSWORD, USER

    gateway = GatewayProcess(tmp_path)
    gateway.start("--DaskGateway.stop_clusters_on_exit=True")
    made = Gateway(gateway.address, auth=(USER, PASSWORD)).submit("ends", n_workers=1)
    Gateway(gateway.address, auth=(USER, PASSWORD)).wait(made.name, timeout_s=100)
    assert gateway.stop() == 0
    assert gateway.processes() == []


def test_an_edge_run_by_hand_serves_as_well(tmp_path: pathlib.Path) -> None:
    from distributed import Client

    from gateway import Gateway, GatewayCluster
    from tests.e2e.gateway_process import PASSWORD, USER

    port = free_port()
    gateway = GatewayProcess(tmp_path)
    public = f"--Proxy.address=127.0.0.1:{port}"
    gateway.start("--DaskGateway.start_proxy=False", public)
    words = [
        public,
        f"--Proxy.server_address=unix:{tmp_path}/state/server.sock",
        f"--Proxy.token_file={tmp_path}/state/edge.token",
        f"--Proxy.state_dir={tmp_path}/edge",
    ]
    reading, writing = os.pipe()
    command = [
        sys.executable,
        "-m",
        "gateway",
        "proxy",
        "--config",
        str(gateway.config),
        "--ready-fd",
        str(writing),
        *words,
    ]
    with subprocess.Popen(command, pass_fds=[writing]) as edge:
        try:
            os.close(writing)
            with os.fdopen(reading) as ready:
                assert ready.readline() == f"ready 127.0.0.1:{port}\n"
            with (
                GatewayCluster(
                    gateway=Gateway(f"http://127.0.0.1:{port}", auth=(USER, PASSWORD)), n_workers=1
                ) as cluster,
                Client(cluster) as client,
            ):
                assert client.submit(sum, [1, 2]).result(timeout=100) == 3
            edge.send_signal(signal.SIGTERM)
            assert edge.wait(60) == 0
        finally:
            edge.kill()
    assert gateway.stop() == 0


def test_an_edge_that_was_begun_early_and_is_not_needed_ends_by_itself() -> None:
    warm = WarmEdge()
    warm.dismiss()
    assert warm.child.returncode == 0
    warm.dismiss()  # again does nothing


def test_a_server_that_starts_no_edge_leaves_none_behind(tmp_path: pathlib.Path) -> None:
    gateway = GatewayProcess(tmp_path)
    gateway.config.write_text(
        gateway.config.read_text()
        + "c.DaskGateway.start_proxy = False\nc.Proxy.address = '127.0.0.1:1'\n"
    )
    gateway.start()
    try:
        assert gateway.process is not None
        children = pathlib.Path(
            f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children"
        ).read_text()
        assert children == ""
    finally:
        gateway.stop()
