"""What shows a client certificate: the client however it is told, the command line, grpcurl."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import dask
import pytest

from gateway import Gateway, MtlsAuth
from gateway.client.calls import errors
from tests.e2e.robots import (
    HOUR,
    NAME,
    Room,
    nightly,
    nobody,
    replaced,
    room,
)
from tests.parts import PATH, program
from tests.parts.client_certificates import Pair, uri

__all__ = ["nightly", "nobody", "room"]
WHO_AM_I = "daskgateway.v1.CredentialService/WhoAmI"


def test_the_client_shows_a_certificate_that_it_is_given(room: Room, nightly: Pair) -> None:
    with Gateway(room.address, auth=MtlsAuth(nightly.cert, nightly.key)) as gateway:
        told = gateway.whoami()
        assert (told.user, told.way) == ("nightly@robots", "mtls")
        assert told.source == "the argument auth, a MtlsAuth"
        assert told.expire_time == nightly.certificate.not_valid_after_utc
        assert gateway.list_clusters() == []


def test_the_client_takes_a_certificate_of_dasks_configuration(room: Room, nightly: Pair) -> None:
    kwargs = {"cert": str(nightly.cert), "key": str(nightly.key)}
    with dask.config.set({"gateway.auth": {"type": "mtls", "kwargs": kwargs}}):
        assert Gateway(room.address).whoami().user == "nightly@robots"
        assert "kwargs" in Gateway(room.address, auth="mtls").whoami().source


def test_the_client_takes_a_certificate_of_the_environment(
    room: Room, nightly: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASKGATEWAY_CLIENT_CERT", str(nightly.cert))
    monkeypatch.setenv("DASKGATEWAY_CLIENT_KEY", str(nightly.key))
    for auth in (None, "mtls"):
        told = Gateway(room.address, auth=auth).whoami()
        assert told.user == "nightly@robots"
        assert told.source == "the environment variable DASKGATEWAY_CLIENT_CERT"


def test_the_client_reads_a_certificate_again_that_was_renewed(
    room: Room, nightly: Pair, tmp_path: pathlib.Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(nightly.cert.read_bytes())
    key.write_bytes(nightly.key.read_bytes())
    with Gateway(room.address, auth=MtlsAuth(cert, key)) as gateway:
        assert gateway.whoami().user == "nightly@robots"
        renewed = room.robots.robot(uri("renewed"))
        replaced(key, renewed.key.read_bytes())
        assert gateway.whoami().user == "nightly@robots"  # one of two files is new
        replaced(cert, renewed.cert.read_bytes())
        assert gateway.whoami().user == "renewed@robots"


def test_the_client_says_that_its_certificate_has_expired(room: Room) -> None:
    made = room.robots.robot(uri("nightly"), since=-2 * HOUR, until=-HOUR)
    gateway = Gateway(room.address, auth=MtlsAuth(made.cert, made.key))
    with pytest.raises(errors.NotSignedIn, match=r"expired at .* UTC; get a new one"):
        gateway.whoami()


def test_the_client_says_that_its_certificate_is_of_another_authority(room: Room) -> None:
    made = room.others.robot(uri("nightly"))
    with pytest.raises(errors.AuthenticationFailed, match="no authority of the gateway's"):
        Gateway(room.address, auth=MtlsAuth(made.cert, made.key)).whoami()


def test_the_client_says_where_a_certificate_is_to_be_shown(room: Room, nightly: Pair) -> None:
    gateway = Gateway(room.process.address, auth=MtlsAuth(nightly.cert, nightly.key))
    with pytest.raises(errors.AuthenticationFailed, match="`daskgateway sign-in-options` tells"):
        gateway.whoami()


def test_the_client_tells_why_the_gateway_refuses_it(room: Room) -> None:
    made = room.robots.robot(uri("nightly"), uri("admin"))
    with pytest.raises(errors.AuthenticationFailed, match="2 URIs"):
        Gateway(room.address, auth=MtlsAuth(made.cert, made.key)).whoami()


def test_whoami_of_the_command_line_tells_the_way_and_until_when(room: Room, nightly: Pair) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "whoami"],
        env=os.environ
        | {
            "DASKGATEWAY_ADDRESS": room.address,
            "DASKGATEWAY_CLIENT_CERT": str(nightly.cert),
            "DASKGATEWAY_CLIENT_KEY": str(nightly.key),
            "DASK_GATEWAY__CA_FILE": str(room.site.path),
            "DASK_GATEWAY__AUTH__TOKEN_FILE": "",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = nightly.certificate.not_valid_after_utc
    assert "nightly@robots" in done.stdout
    assert f"signed in by mtls, until {ends:%Y-%m-%d %H:%M:%SZ}" in done.stdout


def test_grpcurl_shows_a_certificate(room: Room, nightly: Pair) -> None:
    words = ["-cacert", str(room.site.path), "-cert", str(nightly.cert), "-key", str(nightly.key)]
    done = subprocess.run(
        [program("grpcurl", "make parts"), *words, f"{NAME}:{room.port}", WHO_AM_I],
        env=os.environ | {"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["user"] == "nightly@robots"
