"""What is wrong with an address or a setting is told with the place where it stands: an argument,
a variable of the environment, a configuration file and which, or the program itself."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import dask
import pytest

from gateway import Gateway, GatewayCluster
from gateway.client.calls import errors, settings
from gateway.client.dask import comm
from gateway.wire import parse_scheduler_address
from tests.client.commands import run

HERE = "http://127.0.0.1:8000"
NOWHERE = "http://127.0.0.1:9"  # nothing listens there
MISSPELT = "https://gatway.invalid"

File = Callable[[str], pathlib.Path]


@pytest.fixture(autouse=True)
def nobody_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[None]:
    """Nothing of whoever runs the tests."""
    for name in ("ADDRESS", "TOKEN", "USER", "PASSWORD", "INSECURE_OK"):
        monkeypatch.delenv(f"DASKGATEWAY_{name}", raising=False)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dask").mkdir()
    monkeypatch.setattr(dask.config, "paths", [str(tmp_path / "dask")])
    with dask.config.set({"gateway.auth": {"token-file": None, "token": "t"}}):
        yield


@pytest.fixture
def file(tmp_path: pathlib.Path) -> Iterator[File]:
    """A way to write a configuration file, which holds from then on."""
    held: list[AbstractContextManager[Any]] = []

    def write(text: str) -> pathlib.Path:
        path = tmp_path / "dask" / "site.yaml"
        path.write_text(text)
        found = dask.config.merge(dask.config.config, *dask.config.collect_yaml([str(path)]))
        held.append(dask.config.set(found))
        return path

    yield write
    for one in reversed(held):
        one.__exit__(None, None, None)


def test_an_address_is_told_with_where_it_stands(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.load(HERE).source == "the argument address"
    monkeypatch.setenv("DASKGATEWAY_ADDRESS", HERE)
    assert settings.load().source == "the environment variable DASKGATEWAY_ADDRESS"
    path = file(f"gateway: {{address: '{HERE}'}}\n")
    assert settings.load().source == f"gateway.address in the configuration file {path}"
    with dask.config.set({"gateway.address": NOWHERE}):
        assert settings.load().source.endswith("in Dask's configuration, set in this program")
    monkeypatch.setenv("DASK_GATEWAY__ADDRESS", HERE)
    assert settings.load().source == "the environment variable DASK_GATEWAY__ADDRESS"
    assert settings.load(HERE).source == "the argument address"


def test_an_address_that_cannot_be_one_is_told_with_where_it_stands(file: File) -> None:
    with pytest.raises(ValueError, match=r"not a gateway's address.*from the argument address"):
        Gateway("ftp://gateway")
    path = file("gateway: {address: 'ftp://gateway'}\n")
    with pytest.raises(ValueError, match="not a gateway's address") as caught:
        Gateway()
    assert str(caught.value).endswith(f"from gateway.address in the configuration file {path}")


def test_who_is_not_reached_is_told_with_where_its_address_stands(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file(f"gateway: {{address: '{MISSPELT}', retry-for: 0}}\n")
    with pytest.raises(errors.Unreachable, match=r"there is no host 'gatway.invalid'") as caught:
        Gateway().whoami()
    assert f"from gateway.address in the configuration file {path}" in str(caught.value)
    with pytest.raises(errors.Unavailable, match=f"the gateway at {NOWHERE} does not") as refused:
        Gateway(NOWHERE).whoami()
    assert "from the argument address" in str(refused.value)
    monkeypatch.setenv("DASKGATEWAY_ADDRESS", NOWHERE)
    with dask.config.set({"gateway.address": None}):
        with pytest.raises(errors.Unavailable, match="variable DASKGATEWAY_ADDRESS"):
            Gateway().whoami()
        ended = run(NOWHERE, "clusters", "list")
    assert ended.code == 1
    assert "The address is from the environment variable DASKGATEWAY_ADDRESS" in ended.err


def test_a_password_that_was_not_sent_in_clear_text_names_where_the_address_stands(
    file: File,
) -> None:
    path = file("gateway: {address: 'http://gateway.example.org:8000'}\n")
    with pytest.raises(errors.InsecureAddress, match="without TLS") as caught:
        Gateway()
    assert f"from gateway.address in the configuration file {path}" in str(caught.value)


WRONG = [
    ("transport: carrier-pigeon", "gateway.transport must be auto, grpc or http"),
    ("request-timeout: soon", "gateway.request-timeout must be"),
    ("retry-for: -1", "gateway.retry-for must be"),
    ("insecure-ok: perhaps", "gateway.insecure-ok must be true or false"),
    ("ca-file: /nowhere/ca.pem", "gateway.ca-file: the file /nowhere/ca.pem cannot be read"),
    ("proxy-address: 'h:t:t'", "gateway.proxy-address must be"),
    ("public-address: here", "gateway.public-address must look like"),
    ("public-address: //here", "or /prefix, not '//here'"),
    ("public-address: /a?b", "gateway.public-address must look like"),
]


@pytest.mark.parametrize(("line", "words"), WRONG, ids=lambda text: text.partition(":")[0])
def test_a_wrong_setting_is_told_with_where_it_stands(file: File, line: str, words: str) -> None:
    path = file(f"gateway:\n  {line}\n")
    with pytest.raises(ValueError, match="gateway") as caught:
        Gateway("https://127.0.0.1:1")
    assert words in str(caught.value)
    assert f"in the configuration file {path}" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("shutdown-on-close: perhaps", "gateway.cluster.shutdown-on-close must be true or false"),
        ("start-timeout: soon", "gateway.cluster.start-timeout must be"),
        ("keepalive-timeout: soon", "gateway.cluster.keepalive-timeout must be"),
    ],
)
def test_a_wrong_setting_of_clusters_is_told_with_where_it_stands(
    file: File, line: str, words: str
) -> None:
    path = file(f"gateway:\n  cluster:\n    {line}\n")
    with pytest.raises(ValueError, match="gateway") as caught:
        GatewayCluster(gateway=Gateway(HERE))
    assert words in str(caught.value)
    assert str(caught.value).endswith(f"; it is set in the configuration file {path}")


def test_a_variable_and_a_program_are_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with dask.config.set({"gateway.request-timeout": "soon"}):
        with pytest.raises(ValueError, match="it is set in this program, in Dask's configuration"):
            Gateway(HERE)
        monkeypatch.setenv("DASK_GATEWAY__REQUEST_TIMEOUT", "soon")
        with pytest.raises(ValueError, match="set by the environment variable DASK_GATEWAY__REQ"):
            Gateway(HERE)
    monkeypatch.setenv("DASKGATEWAY_INSECURE_OK", "perhaps")
    with pytest.raises(ValueError, match="the environment variable DASKGATEWAY_INSECURE_OK must"):
        Gateway(HERE)


def test_the_tunnels_wish_is_told_with_where_it_stands(file: File) -> None:
    path = file("gateway: {tunnel: maybe}\n")
    with pytest.raises(ValueError, match=r"gateway.tunnel must be auto, always or never") as caught:
        comm.wished_way()
    assert str(caught.value).endswith(f"in the configuration file {path}")


def test_a_scheduler_address_alone_is_where_the_gateways_is_from() -> None:
    target = parse_scheduler_address(f"127.0.0.1:9/c{'a' * 20}")
    assert comm.connection_for(target).settings.source == (
        f"the scheduler's address dgw://127.0.0.1:9/c{'a' * 20}"
    )


def test_a_public_address_may_be_a_path_of_the_hubs_own_host() -> None:
    """As the configuration of many a JupyterHub has it."""
    with dask.config.set({"gateway.public-address": "/services/dask-gateway/"}):
        assert Gateway(HERE).connection.settings.public_address == "/services/dask-gateway"
    assert Gateway(HERE, public_address="/user/a%40b/proxy/8000").connection.settings.public_address
