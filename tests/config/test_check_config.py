"""`check-config` finds whatever `serve` would refuse, all at once, and lets pass what is right."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from gateway.__main__ import main
from gateway.authenticators.password import hash_password
from tests.config import pki
from tests.config.wrong_files import FIELDS, SERVED, WRONG, Wrong

HASH = hash_password("wonderland")
LINE = re.compile(r"c\.[A-Za-z]+(\.[A-Za-z0-9_]+)?( and [a-z_]+)?: \S")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with certificates, keys and databases, right and wrong."""
    place = tmp_path_factory.mktemp("files")
    pki.make(place)
    for name, commands in (
        (
            "newer",
            [
                "CREATE TABLE meta (key TEXT, value BLOB)",
                "INSERT INTO meta VALUES ('schema_version', CAST('99' AS BLOB))",
            ],
        ),
        ("strange", ["CREATE TABLE recipes (name TEXT)"]),
    ):
        (place / f"{name}.db").touch(mode=0o600)
        connection = sqlite3.connect(place / f"{name}.db")
        for command in commands:
            connection.execute(command)
        connection.commit()
        connection.close()
    return place


def written(place: pathlib.Path, files: pathlib.Path, lines: str) -> pathlib.Path:
    """Return a configuration file that is right but for these lines."""
    path = place / "site_config.py"
    path.touch(mode=0o600)
    path.write_text(
        f"c = get_config(); c.DaskGateway.state_dir = {str(place / 'state')!r};"
        f" c.DaskGateway.address = '127.0.0.1:0'; c.Proxy.address = '127.0.0.1:0';"
        f" c.PasswordAuthenticator.users = {{'alice': {HASH!r}}}\n" + lines.format(files) + "\n"
    )
    return path


def checked(path: pathlib.Path) -> Result:
    """Run check-config."""
    return CliRunner().invoke(main, ["check-config", "-f", str(path)])


def test_there_are_more_than_a_hundred_wrong_files() -> None:
    assert len(WRONG) > 200


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.lines[:70])
def test_a_wrong_file_is_told_with_the_setting_and_what_would_be_right(
    tmp_path: pathlib.Path, files: pathlib.Path, wrong: Wrong
) -> None:
    done = checked(written(tmp_path, files, wrong.lines))
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    lines = done.output.removeprefix("daskgateway: ").splitlines()
    for setting in wrong.settings:
        assert any(re.match(rf"{re.escape(setting)}( and \w+)?: ", line) for line in lines), lines
    assert wrong.words in done.output
    if wrong.settings:
        assert [line for line in lines if not LINE.match(line)] == []
        assert len(lines) == len(set(lines)) == max(1, len(wrong.settings)), lines
    assert not (tmp_path / "state").exists()  # nothing is made


@pytest.mark.parametrize("wrong", SERVED, ids=lambda wrong: wrong.lines[:70])
def test_serve_refuses_what_check_config_finds_in_the_same_words(
    tmp_path: pathlib.Path, files: pathlib.Path, wrong: Wrong
) -> None:
    path = written(tmp_path, files, wrong.lines)
    words = [sys.executable, "-m", "gateway", "serve", "-f", str(path)]
    serving = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, said = serving.communicate(timeout=90)
    finally:
        if serving.poll() is None:
            os.killpg(serving.pid, signal.SIGKILL)
            serving.communicate()
    assert (serving.returncode, out) == (2, ""), said
    assert said.splitlines() == checked(path).output.splitlines()


RIGHT = [
    "",
    "c.DaskGateway.address = ':0'",
    "c.DaskGateway.address = '[::1]:0'",
    "c.DaskGateway.address = 'localhost:0'",
    "c.DaskGateway.public_url = 'https://dask.example.org/services/dask/'",
    "c.DaskGateway.public_url = 'http://[::1]:8000'",
    "c.DaskGateway.agent_address = 'https://gateway.example.org:8001'",
    "c.DaskGateway.agent_address = 'https://10.1.2.3:8001'",
    "c.DaskGateway.agent_address = 'unix:/run/daskgateway.sock'",
    "c.DaskGateway.database = 'sqlite:///{0}/made.db'",
    "c.DaskGateway.state_dir = '~/.local/state/daskgateway-of-a-test'",
    "c.DaskGateway.tls_cert, c.DaskGateway.tls_key = '{0}/here.pem', '{0}/key.pem'",
    "c.DaskGateway.tls_cert, c.DaskGateway.tls_key = '{0}/here.pem', '{0}/key.pem';"
    " c.DaskGateway.tls_ca = '{0}/ca.pem'",
    "c.DaskGateway.tls_cert, c.DaskGateway.tls_key = '{0}/cert.pem', '{0}/key.pem';"
    " c.DaskGateway.tls_ca = '{0}/ca.pem';"
    " c.DaskGateway.agent_address = 'https://gateway.example.org:8001'",
    "c.Proxy.address = '0.0.0.0:0';"
    " c.Proxy.tls_cert, c.Proxy.tls_key = '{0}/cert.pem', '{0}/key.pem'",
    "c.Proxy.address = '0.0.0.0:0'; c.Proxy.insecure_ok = True",
    "c.Proxy.prefix = '/services/dask/'",
    "c.Proxy.trusted_proxies = ['10.0.0.1', '10.0.0.0/8', '::1']",
    "c.Proxy.allowed_origins.append('https://hub.example.org:8443')",
    "c.Proxy.scheduler_networks = ['10.0.0.0/16', 'fd00::/8']",
    "c.Proxy.scheduler_networks = '10.0.0.0/8'",  # a text is a list of one
    "c.DaskGateway.backends = 'slurm'; c.SlurmBackend.setup = 'module load python'",
    "c.PasswordAuthenticator.admins = 'alice'",
    "c.Proxy.log_level = 'WARNING'",
    "c.Proxy.log_level = 'warn'; c.DaskGateway.log_level = 'debug'",
    "c.Proxy.admin_address = '127.0.0.1:0'",
    "c.DaskGateway.start_proxy = False; c.Proxy.address = '127.0.0.1:1'",
    "c.ClusterConfig.worker_memory = 2 * 2**30",
    "c.ClusterConfig.python = '/opt/dask/bin/python'; c.DaskGateway.backends = ['slurm']",
    "c.ClusterConfig.python = []",  # as the backend has it
    "c.ClusterConfig.python = ''",
    "c.ClusterConfig.python = ['/bin/sh', '-X', 'dev']",
    "c.ClusterConfig.apply_options = lambda values: {{}}",
    "c.ClusterConfig.apply_options = lambda values, user: {{}}",
    "c.ClusterConfig.apply_options = lambda *values: {{}}",
    "c.ClusterConfig.apply_options = dict",
    "async def options(user): return []\nc.ClusterConfig.options = options",
    f"{FIELDS}[Float('worker_cores', 1, minimum=0.5, maximum=8, per_group=True)]",
    f"{FIELDS}[Integer('worker_cores', 1), Integer('worker_threads', 1), Bool('worker_nanny')]",
    f"{FIELDS}[Select('worker_memory', ('1 GiB', '4 GiB'), '1 GiB')]",
    f"{FIELDS}[Select('python', ('/opt/a/bin/python', '/opt/b/bin/python'), '/opt/a/bin/python')]",
    f"{FIELDS}[Mapped('environment'), Mapped('dask_config'), Text('scheduler_host')]",
    f"{FIELDS}[Integer('gpus', 0)]; c.ClusterConfig.apply_options = lambda values: {{{{}}}}",
    f"{FIELDS}[Select('partition', ('cpu', 'gpu'), 'cpu'), Integer('time_limit', 60)];"
    " c.DaskGateway.backends = ['slurm']",
    "c.DaskGateway.backends = ['slurm']; c.SlurmBackend.setup.extend(['module load x'])",
    "c.DaskGateway.backends = ['slurm']; c.SlurmBackend.directives = ['--exclusive']",
    "c.DaskGateway.backends = ['pbs']; c.PbsBackend.resource_list = ['select=1:ncpus={{cores}}']",
    "c.DaskGateway.backends = ['noop', 'local']",
]


@pytest.mark.parametrize("lines", RIGHT)
def test_a_file_that_is_right_stays_right(
    tmp_path: pathlib.Path, files: pathlib.Path, lines: str
) -> None:
    done = checked(written(tmp_path, files, lines))
    assert (done.exit_code, done.output.splitlines()[:1]) == (0, ["the configuration is right"])


HINTS = [
    ("c.ClusterConfig.max_memory = '1 GiB'", "1073741824 is less than a scheduler alone has"),
    ("c.ClusterConfig.max_cores = 0.5", "0.5 is less than a scheduler alone has"),
    (
        "c.DaskGateway.backends = ['local', 'slurm']; c.ClusterConfig.python = '/nowhere/python'",
        "/nowhere/python: this machine",
    ),
    ("c.DaskGateway.backends = ['slurm', 'local']", "schedulers of backend slurm run on other"),
    (
        "c.DaskGateway.backends = ['pbs']; c.DaskGateway.agent_address = 'https://localhost:8001'",
        "agent_address https://localhost:8001 is those machines themselves",
    ),
    (  # every address of whoever dials it
        "c.DaskGateway.backends = ['pbs']; c.DaskGateway.agent_address = 'https://0.0.0.0:8001'",
        "agent_address https://0.0.0.0:8001 is those machines themselves",
    ),
    ("c.SlurmBackend.partition = 'cpu'", "c.SlurmBackend: not in use: c.DaskGateway.backends"),
    ("c.PbsBackend.queu = 'q'", "did you mean queue?"),
    (
        "c.DaskGateway.authenticator = 'password'; c.DaskGateway.tls_ca = '{0}/ca.pem'",
        "c.DaskGateway.tls_ca: ",
    ),
    (f"{FIELDS}[Float('worker_core', 1)]", "did you mean worker_cores?"),
    (f"{FIELDS}[Integer('gpus', 1)]", "has no effect"),
    (f"{FIELDS}[Integer('worker_threads', 1, minimum=-1)]", "may be -1"),
    (
        f"{FIELDS}[Float('worker_memory', 4)]; c.ClusterConfig.apply_options = lambda v: {{{{}}}}",
        "so c.ClusterConfig.apply_options must return that setting",
    ),
    (
        f"{FIELDS}[Integer('workr_cores', 1)]; c.ClusterConfig.apply_options = lambda v: {{{{}}}}",
        "did you mean worker_cores?",
    ),
]


@pytest.mark.parametrize(("lines", "words"), HINTS)
def test_what_has_no_effect_is_a_hint(
    tmp_path: pathlib.Path, files: pathlib.Path, lines: str, words: str
) -> None:
    done = checked(written(tmp_path, files, lines))
    assert done.exit_code == 0, done.output
    assert any(line.startswith("note: ") and words in line for line in done.output.splitlines()), (
        done.output
    )


def test_an_empty_directory_is_refused_by_check_config_as_by_serve(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("check-config", "serve"):
        done = CliRunner().invoke(main, [command])
        assert done.exit_code == 2
        assert "nobody could sign in" in done.output
        assert f"no file was read, since there is no daskgateway_config.py in {tmp_path}; -f" in (
            done.output
        )
    (tmp_path / "dask_gateway_config.py").write_text("c.DaskGateway.backend_class = 'x'\n")
    done = CliRunner().invoke(main, ["check-config"])
    assert "dask_gateway_config.py is dask-gateway's: copy it to daskgateway_config.py" in (
        done.output
    )
    (tmp_path / "daskgateway_config.py").touch(mode=0o600)
    assert "no file was read" not in CliRunner().invoke(main, ["check-config"]).output
    (tmp_path / "daskgateway_config.py").unlink()
    done = CliRunner().invoke(main, ["check-config", "--DaskGateway.log_level=INFO"])
    assert "no file was read" not in done.output
