"""Passwords in clear text are told at the start and by check-config: to a port that another user of
the machine can take, or through a network."""

from __future__ import annotations

import pathlib

import pytest
from click.testing import CliRunner

from gateway import configfile
from gateway.__main__ import main
from gateway.authenticators.password import hash_password
from gateway.server.boot.clear_text import notes
from gateway.server.boot.settings import examine

USERS = "--LocalBackend.run_as_user=True"


def said(*words: str) -> list[str]:
    """Return the notes on a configuration."""
    return notes(examine(configfile.from_words(words)).settings)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([USERS], "c.LocalBackend.run_as_user lets users' programs run on this machine"),
        (
            ["--DaskGateway.backends=['slurm']", "--SlurmBackend.identity='sudo'"],
            "c.SlurmBackend.identity is 'sudo', so users have accounts on this machine",
        ),
    ],
)
def test_a_port_that_users_of_the_machine_can_take_is_told(words: list[str], why: str) -> None:
    (note,) = said(*words)
    assert why in note
    assert "can take the edge's port (8000)" in note
    assert "set c.Proxy.tls_cert and tls_key" in note
    (any_port,) = said(*words, "--Proxy.address=127.0.0.1:0")
    assert "(any free one)" in any_port
    assert said(*words, "--Proxy.address=127.0.0.1:443") == []  # root alone takes it
    assert said(*words, "--Proxy.tls_cert=/c.pem", "--Proxy.tls_key=/k.pem") == []
    assert said(*words, "--DaskGateway.start_proxy=False") == []  # that edge is another's


def test_a_network_is_told_too(tmp_path: pathlib.Path) -> None:
    wide = ["--Proxy.address=0.0.0.0:8000", "--Proxy.insecure_ok=True"]
    (note,) = said(*wide)
    assert "go through the network in clear text" in note
    assert len(said(USERS, *wide)) == 2
    assert said() == said("--Proxy.address=localhost:8000") == []
    # the number that pods run as, elsewhere
    assert said("--DaskGateway.backends=['kubernetes']") == []


def test_check_config_tells_it(tmp_path: pathlib.Path) -> None:
    words = [
        f"--DaskGateway.state_dir={tmp_path}/state",
        f"--PasswordAuthenticator.password={hash_password('wonderland')}",
        "--DaskGateway.address=127.0.0.1:0",
        "--Proxy.address=0.0.0.0:0",
        "--Proxy.insecure_ok=True",
    ]
    done = CliRunner().invoke(main, ["check-config", *words])
    assert "note: c.Proxy.address: 0.0.0.0:0 is reachable from elsewhere" in done.output
