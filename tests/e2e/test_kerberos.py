"""A user with a Kerberos ticket: the client over gRPC and over HTTP/1.1, curl, and a gateway in
processes of its own. Tickets are real."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import dask
import pytest

from gateway import Gateway, KerberosAuth
from gateway.client.calls import channel, errors, sessions
from tests.e2e.gateway_process import GatewayProcess
from tests.parts import missing, program
from tests.parts.kerberos import REALM, Realm, realm

__all__ = ["realm"]
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def served(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway for users with tickets."""
    if not any(one.name == "kerberos" for one in entry_points(group="gateway.authenticators")):
        missing("the entry point kerberos", "pip install -e '.[test]'")
    made = GatewayProcess(
        tmp_path_factory.mktemp("served"),
        "c.DaskGateway.authenticator = 'kerberos'",
        f"c.DaskGateway.user_name = '{{user}}@{REALM}'",
        f"c.KerberosAuthenticator.keytab = {str(realm.keytab)!r}",
        f"c.KerberosAuthenticator.groups = {{'alice@{REALM}': ['physics']}}",
    )
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture(autouse=True)
def nobody(served: GatewayProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No session of another test, and nothing that whoever runs the tests has configured."""
    for name in ("TOKEN", "USER", "PASSWORD"):
        monkeypatch.delenv(f"DASKGATEWAY_{name}", raising=False)
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    sessions._kept.clear()
    channel.forget(served.address)
    with dask.config.set({"gateway.auth": {"token-file": None}, "gateway.retry-for": "5s"}):
        yield


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_a_ticket_is_shown_once_and_a_session_from_then_on(
    served: GatewayProcess, realm: Realm, transport: str
) -> None:
    with dask.config.set({"gateway.transport": transport}):
        auth = KerberosAuth(ccache=realm.cache("alice"), timeout=TIMEOUT_S)
        gateway = Gateway(served.address, auth=auth)
        told = gateway.whoami()
        assert (told.user, told.groups, told.way) == ("alice", ("physics",), "kerberos")
        assert told.expire_time is not None
        assert gateway.list_clusters() == []
        mine = [one for one in gateway.list_tokens() if one.way == "kerberos"]
        assert len(mine) >= 1
        assert gateway.connection.end_session()


def test_a_keytab_is_as_good_as_a_ticket(served: GatewayProcess, realm: Realm) -> None:
    auth = KerberosAuth(
        keytab=str(realm.client_keytab("bob")), principal=f"bob@{REALM}", timeout=TIMEOUT_S
    )
    assert Gateway(served.address, auth=auth).whoami().user == "bob"


def test_a_ticket_is_found_where_nothing_says_who_calls(
    served: GatewayProcess, realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5CCNAME", realm.cache("alice"))
    told = Gateway(served.address).whoami()
    assert (told.user, told.source) == ("alice", "the Kerberos ticket")
    sessions._kept.clear()
    told = Gateway(served.address, auth="kerberos").whoami()
    assert told.user == "alice"
    assert "Kerberos ticket" in told.source


def test_without_a_ticket_it_is_said_what_helps(served: GatewayProcess) -> None:
    with pytest.raises(errors.NotSignedIn, match="run kinit"):
        Gateway(served.address, auth=KerberosAuth(timeout=TIMEOUT_S)).whoami()
    with pytest.raises(errors.AuthenticationFailed, match="nobody is named"):
        Gateway(served.address).whoami()


def test_a_kdc_that_hangs_holds_nobody_longer_than_the_timeout(
    served: GatewayProcess, realm: Realm
) -> None:
    gateway = Gateway(served.address, auth=KerberosAuth(ccache=realm.cache("alice"), timeout="2 s"))
    began_at = time.monotonic()
    with realm.hung(), pytest.raises(errors.NotSignedIn, match="KDC does not answer within 2 s"):
        gateway.whoami()
    assert time.monotonic() - began_at < 20


def test_a_service_that_the_kdc_does_not_know_is_told(served: GatewayProcess, realm: Realm) -> None:
    auth = KerberosAuth(ccache=realm.cache("alice"), service="nothing", timeout=TIMEOUT_S)
    with pytest.raises(errors.NotSignedIn, match="the KDC does not know the gateway's service"):
        Gateway(served.address, auth=auth).whoami()


def curl(served: GatewayProcess, method: str, cache: str, *words: str) -> tuple[int, str, Any]:
    """Make a call with curl; return status, headers and the answer."""
    path = f"/daskgateway.v1.CredentialService/{method}"
    json_of = ("-H", "content-type: application/json", "-d", "{}")
    done = subprocess.run(
        [program("curl", "make parts"), "-s", "-i", *words, *json_of, served.address + path],
        env={**os.environ, "KRB5CCNAME": cache},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    heads, _, body = done.stdout.rpartition("\n\n")
    return int(heads.split("\n\n")[-1].split()[1]), heads, json.loads(body)


NEGOTIATE = ("--negotiate", "-u", ":")


def test_curl_signs_in_and_the_gateway_proves_itself(
    served: GatewayProcess, realm: Realm, tmp_path: pathlib.Path
) -> None:
    cache = realm.cache("alice")
    status, heads, answer = curl(served, "CreateSession", cache, *NEGOTIATE)
    assert status == 200, answer
    assert "\nwww-authenticate: negotiate " in heads.lower()
    token = answer["secret"]
    status, _, told = curl(served, "WhoAmI", cache, "-H", f"authorization: Bearer {token}")
    assert (status, told["user"]) == (200, "alice")
    status, _, told = curl(served, "WhoAmI", cache, *NEGOTIATE)
    assert (status, told["user"]) == (200, "alice")


def test_who_shows_nothing_over_http_is_asked_for_a_ticket(
    served: GatewayProcess, realm: Realm
) -> None:
    status, heads, _ = curl(served, "CreateSession", "")
    assert status == 401
    assert "\nwww-authenticate: negotiate\n" in heads.lower() + "\n"


def test_a_token_that_is_replayed_is_refused_with_words(
    served: GatewayProcess, realm: Realm
) -> None:
    from gateway.client.calls import kerberos

    shake = kerberos.handshake("HTTP@127.0.0.1", ccache=realm.cache("alice"), timeout_s=60)
    shown = ("-H", f"authorization: {shake.header}")
    assert curl(served, "CreateSession", "", *shown)[0] == 200
    status, _, answer = curl(served, "CreateSession", "", *shown)
    assert status == 401
    assert "used before" in answer["message"]


def test_no_token_is_in_the_log(served: GatewayProcess, realm: Realm) -> None:
    status, _, answer = curl(served, "CreateSession", realm.cache("alice"), *NEGOTIATE)
    assert status == 200
    log = (served.directory / "server.log").read_text()
    assert answer["secret"] not in log
    assert answer["authenticate"].partition(" ")[2] not in log
