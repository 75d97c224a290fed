"""Which account the edge is given."""

from __future__ import annotations

import os
import pathlib
import pwd
import subprocess
import sys

import pytest
from traitlets.config import Config

from gateway.configfile import ConfigurationError
from gateway.server.boot.settings import examine
from gateway.server.edge import account as edge_account
from gateway.server.edge.account import UNNAMED, Account, unused
from gateway.server.edge.words import configured_words, outside_words, word


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Numbers that have an account."""
    found: set[int] = set()
    monkeypatch.setattr(edge_account, "_taken", found.__contains__)
    return found


def test_a_number_follows_from_the_installation_and_is_nobodys(taken: set[int]) -> None:
    numbers = range(10, 15)
    assert unused(numbers, 0, 7, ()) == 12
    assert unused(numbers, 0, 7, [12, 13]) == 14
    taken.update((12, 13, 14))
    assert unused(numbers, 0, 7, ()) == 10
    assert unused(numbers, 0, 7, (10,)) == 11
    with pytest.raises(
        ConfigurationError, match=r"c\.Proxy\.user: every number from 10 to 14 is taken"
    ):
        unused(numbers, 0, 7, (10, 11))


def test_the_number_of_an_earlier_run_stays_while_its_edge_runs(taken: set[int]) -> None:
    numbers = range(10, 15)
    assert unused(numbers, 13, 7, [13]) == 13
    assert unused(numbers, 9, 7, []) == 12  # that was no such number
    taken.add(13)
    assert unused(numbers, 13, 7, []) == 12  # by now it is somebody's


def test_numbers_are_of_the_range_that_no_account_is_given() -> None:
    assert (UNNAMED[0], UNNAMED[-1]) == (61184, 65519)


@pytest.mark.parametrize(
    ("addresses", "bind"),
    [
        (["0.0.0.0:443", ""], True),
        (["0.0.0.0:8000", "127.0.0.1:1023"], True),
        (["0.0.0.0:8000", "127.0.0.1:9100"], False),
        (["127.0.0.1:0", ""], False),
        (["[::]:80"], True),
    ],
)
def test_low_ports_may_be_bound_only_where_one_is_wanted(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], bind: bool
) -> None:
    monkeypatch.setattr(edge_account, "first_open_port", lambda: 1024)
    assert Account(7, 8).rights(addresses) == (7, 8, bind)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes other users")
def test_who_is_not_root_starts_no_edge_as_somebody_else() -> None:
    program = (
        "import os, sys; from gateway.server.edge.account import edge_account; import pathlib; p ="
        " pathlib.Path('/nowhere');"
        "import pwd, grp; os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534,"
        " 65534, 65534);"
        "print(edge_account('', p, p), edge_account('nobody', p, p), edge_account('65534', p, p));"
        "edge_account('daemon', p, p)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "None None None\n"
    assert (
        "c.Proxy.user: only root can run the edge as another user, such as 'daemon'" in done.stderr
    )


def test_an_account_by_name_or_number(tmp_path: pathlib.Path) -> None:
    if os.geteuid() == 0:
        daemon = pwd.getpwnam("daemon")
        for wished in ("daemon", str(daemon.pw_uid)):
            assert edge_account.edge_account(wished, tmp_path, tmp_path) == Account(
                daemon.pw_uid, daemon.pw_gid, "daemon"
            )


def test_what_is_configured_for_the_edge_reaches_it_as_it_is_and_nothing_else() -> None:
    config = Config()
    config.Proxy.update(
        prefix="123",
        processes=2,
        trusted_proxies=["10.0.0.0/8"],
        user="",
        hello_timeout_s=1.5,
        tls_cert="it's",
        tls_key="k",
    )
    config.PasswordAuthenticator.users = {}
    found = configured_words(examine(config).settings)
    assert found == [
        "--Proxy.hello_timeout_s=1.5",
        "--Proxy.prefix='123'",
        "--Proxy.processes=2",
        '--Proxy.tls_cert="it\'s"',
        "--Proxy.tls_key='k'",
        "--Proxy.trusted_proxies=['10.0.0.0/8']",
    ]


def test_what_users_know_the_edge_by_is_told() -> None:
    assert outside_words("", "", []) == []
    assert outside_words("https://hub.example.org/services/d/", "", ["https://x"]) == [
        word("prefix", "/services/d"),
        word("allowed_origins", ["https://x", "https://hub.example.org"]),
    ]
    assert outside_words("https://hub.example.org/a", "/b", ["https://hub.example.org"]) == []


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("0 0 4294967295", True),
        ("0 1000 1", False),
        ("0 100000 65536\n", True),
        ("", False),
        ("0 1 1\n61000 7 500", True),
    ],
)
def test_a_namespace_may_know_few_accounts(text: str, there: bool) -> None:
    assert edge_account.maps(text, 61184) is there


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes other users")
def test_in_a_namespace_of_one_user_the_edge_is_who_the_server_is(tmp_path: pathlib.Path) -> None:
    program = (
        "import pathlib; from gateway.server.edge.account import edge_account; p ="
        " pathlib.Path('/nowhere'); print(edge_account('', p, p))"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", program],
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr:
        pytest.skip("this kernel lets nobody make user namespaces")
    assert done.stdout == "None\n"
    assert "no other account" in done.stderr
