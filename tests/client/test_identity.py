"""Nobody calls as somebody else: each place where credentials may stand says what it holds, or is
refused; what is used is told by its place, and no secret is told by anything."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask
import grpc
import pytest
from click.testing import CliRunner
from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from gateway import (
    AsyncGateway,
    Auth,
    BasicAuth,
    Gateway,
    GatewayCluster,
    KerberosAuth,
    TokenAuth,
)
from gateway.__main__ import main
from gateway.client.calls import errors, settings
from gateway.server.core.errors import CredentialsInvalid, UserNameRefused
from gateway.server.rpc.status import code_of, details_of, text_of
from gateway.wire import basic_credentials

HERE = "http://127.0.0.1:8000"
SECRET = "s3cret-w0rd"


@pytest.fixture(autouse=True)
def nobody_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[None]:
    """Nothing of whoever runs the tests, but a token that must never be taken unasked."""
    for name in ("ADDRESS", "TOKEN", "USER", "PASSWORD"):
        monkeypatch.delenv(f"DASKGATEWAY_{name}", raising=False)
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    monkeypatch.setattr(dask.config, "paths", [str(tmp_path / "dask")])
    (tmp_path / "dask").mkdir()
    with dask.config.set({"gateway.auth": {"token-file": None}}):
        yield


def header(auth: Any = None) -> str:
    """Return what would be sent."""
    return settings.load(HERE, auth).authorization()


def told(auth: Any = None) -> str:
    """Return whence the credentials are, in words."""
    return settings.load(HERE, auth).caller.source


@pytest.mark.parametrize(
    "auth",
    [
        1,
        0,
        True,
        False,
        1.5,
        b"dgw_api_x_y",
        "",
        "  ",
        (),
        [],
        {},
        ("alice",),
        ["alice"],
        ("alice", SECRET, "realm"),
        ("", SECRET),
        ("alice", ""),
        ("alice", None),
        (None, SECRET),
        ("alice", 12345),
        (b"alice", SECRET),
        ("al:ice", SECRET),
        ("alice", f"{SECRET}\0"),
        {"user": "alice", "password": SECRET},
        {"alice", SECRET},
        BasicAuth,
        TokenAuth,
        object(),
        lambda: "x",
        f"alice:{SECRET}",
        f"Bearer {SECRET}",
        f"{SECRET}\nx",
        "tökén",
        "basic",
        "jupyterhub",
        "oidc",
    ],
    ids=lambda auth: type(auth).__name__,
)
def test_what_is_no_credential_is_refused_and_never_falls_through_to_whom_the_environment_names(
    auth: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if auth == "basic":  # whatever else there is, there is none of what was asked for
        monkeypatch.setenv("DASKGATEWAY_TOKEN", "of-somebody")
    else:
        monkeypatch.setenv("DASKGATEWAY_TOKEN", "of-somebody")
        monkeypatch.setenv("DASKGATEWAY_PASSWORD", "of-somebody")
    for make in (
        Gateway,
        AsyncGateway,
        lambda address, auth: GatewayCluster(gateway=address, auth=auth),
    ):
        with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
            make(HERE, auth=auth)
        assert "auth" in str(caught.value) or "JUPYTERHUB" in str(caught.value)
        for secret in (SECRET, "of-somebody"):
            assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("auth", "sent", "source"),
    [
        (("alice", "pw"), basic_credentials("alice", "pw"), "the argument auth, a user and"),
        (["alice", "pw"], basic_credentials("alice", "pw"), "the argument auth, a user and"),
        ("dgw_api_x_y", "Bearer dgw_api_x_y", "the argument auth, an API token"),
        ("dgw_api_x_y\n", "Bearer dgw_api_x_y", "the argument auth, an API token"),
        ("eyJh.eyJz.c2ln", "Bearer eyJh.eyJz.c2ln", "the argument auth, an API token"),
        (TokenAuth("t"), "Bearer t", "the argument auth, a TokenAuth"),
        (BasicAuth("bob", "pw"), basic_credentials("bob", "pw"), "the argument auth, a BasicAuth"),
    ],
    ids=str,
)
def test_an_argument_is_taken_as_it_is(
    auth: Any, sent: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASKGATEWAY_TOKEN", "of-somebody")
    assert header(auth) == sent
    assert told(auth).startswith(source)


def test_a_token_file_of_an_editor_that_marks_it_and_ends_its_lines_otherwise_is_read(
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xef\xbb\xbfof-a-file\r\n\r\n")
    dask.config.config["gateway"]["auth"]["token-file"] = str(file)
    assert header() == "Bearer of-a-file"


def test_every_place_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    assert (header(), told()) == ("", "")
    file = tmp_path / "token"
    file.write_text("of-a-file\n")
    dask.config.config["gateway"]["auth"]["token-file"] = str(file)
    assert (header(), told()) == ("Bearer of-a-file", f"the token file {file}")
    monkeypatch.setenv("DASKGATEWAY_USER", "alice")
    monkeypatch.setenv("DASKGATEWAY_PASSWORD", SECRET)
    assert header() == basic_credentials("alice", SECRET)
    assert told() == (
        "the environment variable DASKGATEWAY_USER, and the environment variable"
        " DASKGATEWAY_PASSWORD"
    )
    monkeypatch.delenv("DASKGATEWAY_USER")
    monkeypatch.setattr(settings, "current_user", lambda: "carol")
    assert header() == basic_credentials("carol", SECRET)
    assert told().startswith("the name of who runs this program, and the environment variable")
    monkeypatch.setenv("DASKGATEWAY_TOKEN", "of-a-variable")
    assert (header(), told()) == (
        "Bearer of-a-variable",
        "the environment variable DASKGATEWAY_TOKEN",
    )
    with dask.config.set({"gateway.auth.token": "of-the-program"}):
        assert header() == "Bearer of-the-program"
        assert told() == "gateway.auth.token in Dask's configuration, set in this program"


def test_a_configuration_file_is_told_by_its_path(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = tmp_path / "dask" / "a.yaml", tmp_path / "dask" / "b.yaml"
    first.write_text("gateway: {auth: {token: one, user: alice, password: pw}}\n")
    last.write_text("gateway: {auth: {token: two}}\n")
    with dask.config.set(dask.config.merge(*dask.config.collect_yaml([str(tmp_path / "dask")]))):
        assert header() == "Bearer two"
        assert told() == f"gateway.auth.token in the configuration file {last}"
        found = settings.load(HERE, "basic")
        assert found.authorization() == basic_credentials("alice", "pw")
        assert str(first) in found.caller.source
        monkeypatch.setenv("DASK_GATEWAY__AUTH__TOKEN", "two")
        assert told() == "the environment variable DASK_GATEWAY__AUTH__TOKEN"


def test_a_password_that_looks_like_a_number_is_taken_to_the_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DASK_GATEWAY__AUTH__PASSWORD", "1e5")
    monkeypatch.setenv("DASK_GATEWAY__AUTH__USER", "alice")
    with dask.config.set(dask.config.collect_env()):  # where it is 100000.0
        assert header() == basic_credentials("alice", "1e5")
    monkeypatch.delenv("DASK_GATEWAY__AUTH__PASSWORD")
    with (
        dask.config.set({"gateway.auth.user": "alice", "gateway.auth.password": 12345}),
        pytest.raises(ValueError, match=r"gateway\.auth\.password must be text.*put it in quotes"),
    ):
        header()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"TOKEN": ""}, "DASKGATEWAY_TOKEN is set, and empty"),
        ({"TOKEN": " \n"}, "DASKGATEWAY_TOKEN is set, and empty"),
        ({"TOKEN": "two words"}, "DASKGATEWAY_TOKEN: an API token must be one word"),
        ({"TOKEN": f"alice:{SECRET}"}, "DASKGATEWAY_TOKEN: an API token must be one word"),
        ({"USER": ""}, "DASKGATEWAY_USER is set, and empty"),
        ({"USER": "alice"}, "DASKGATEWAY_USER names a user, and no password is set"),
        ({"USER": "alice", "PASSWORD": ""}, "DASKGATEWAY_PASSWORD is set, and empty"),
        ({"USER": "al:ice", "PASSWORD": SECRET}, "a user's name must not hold a colon"),
    ],
)
def test_a_variable_that_says_nothing_usable_is_refused(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "token"
    file.write_text("of-somebody")
    dask.config.config["gateway"]["auth"]["token-file"] = str(file)
    for name, value in variables.items():
        monkeypatch.setenv(f"DASKGATEWAY_{name}", value)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        header()
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"tokn": "t"}, "gateway.auth.tokn: there is no such setting; did you mean token?"),
        ({"passwort": "t"}, "did you mean password?"),
        ({"type": "basc"}, "gateway.auth.type: 'basc' is no way to sign in"),
        ({"type": 3}, "gateway.auth.type must be text"),
        ({"type": "mtls"}, "gateway.auth.type is 'mtls', and no certificate is named"),
        ({"type": "mtls", "kwargs": {"key": "k"}}, "mtls needs cert, a PEM file"),
        (
            {"type": "mtls", "kwargs": {"cert": "/no/such.pem", "keey": "k"}},
            "takes no keey; did you mean key?",
        ),
        ({"type": "mtls", "kwargs": {"cert": "/no/such.pem"}}, "/no/such.pem cannot be read"),
        (
            {"type": "kerberos", "kwargs": {"keytabb": "x"}},
            "takes no keytabb; did you mean keytab?",
        ),
        ({"type": "kerberos", "kwargs": {"service": "a@b"}}, "service must be a name such as HTTP"),
        ({"type": "basic", "token": "t"}, "gateway.auth.type is 'basic', and nothing of that kind"),
        ({"type": "no.such.Class"}, "no.such.Class of gateway.auth.type"),
        ({"type": "pathlib.Path"}, "pathlib.Path makes no Auth"),
        ({"type": "jupyterhub"}, "JUPYTERHUB_API_TOKEN is not set"),
        ({"kwargs": "x"}, "gateway.auth.kwargs must be a mapping"),
        ({"token": ["t"]}, "gateway.auth.token must be text, not list"),
        ({"token": ""}, "an API token must not be empty"),
        ({"user": "alice"}, "names a user, and no password is set"),
        ("dgw_api_x_y", "gateway.auth must be a mapping"),
        (["t"], "gateway.auth must be a mapping"),
        (True, "gateway.auth must be a mapping"),
    ],
    ids=str,
)
def test_a_configuration_that_says_nothing_usable_is_refused(section: Any, words: str) -> None:
    with dask.config.set({"gateway.auth": section}):
        with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
            header()
    assert words in str(caught.value)


class OwnAuth(Auth):
    """A site's own."""

    def __init__(self, ticket: str) -> None:
        self._ticket = ticket

    def header(self) -> str:
        return f"Ticket {self._ticket}"


def test_a_way_to_sign_in_is_configured_as_users_of_other_gateways_know_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DASKGATEWAY_TOKEN", "of-somebody")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "of-the-hub")
    for section, sent in (
        ({"type": "basic", "kwargs": {"username": "a", "password": "p"}}, "Basic YTpw"),
        ({"type": "basic", "user": "a", "password": "p"}, "Basic YTpw"),
        ({"type": "jupyterhub"}, "Bearer of-the-hub"),
        ("jupyterhub", "Bearer of-the-hub"),
        ({"type": "jupyterhub", "kwargs": {"api_token": "mine"}}, "Bearer mine"),
        ({"type": "dask_gateway.JupyterHubAuth", "kwargs": {"api_token": "mine"}}, "Bearer mine"),
        ({"type": "dask_gateway.auth.JupyterHubAuth"}, "Bearer of-the-hub"),
        (
            {
                "type": "dask_gateway.auth.BasicAuth",
                "kwargs": {"username": "a", "password": "p"},
            },
            "Basic YTpw",
        ),
        ({"type": "token"}, "Bearer of-somebody"),
        ({"type": f"{__name__}.OwnAuth", "kwargs": {"ticket": "x"}}, "Ticket x"),
    ):
        with dask.config.set({"gateway.auth": section}):
            assert header() == sent, section
    assert header("jupyterhub") == "Bearer of-the-hub"
    assert told("jupyterhub") == "the environment variable JUPYTERHUB_API_TOKEN"
    assert header() == "Bearer of-somebody"  # the hub's is taken where it is asked for


@pytest.mark.parametrize("name", ["dask_gateway.KerberosAuth", "dask_gateway.auth.KerberosAuth"])
def test_a_class_of_another_gateways_for_kerberos_means_a_ticket(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASKGATEWAY_TOKEN", "of-somebody")
    with dask.config.set({"gateway.auth": {"type": name}}):
        found = settings.load(HERE)
    assert isinstance(found.auth, KerberosAuth)
    assert found.caller.source.startswith("a Kerberos ticket, as gateway.auth.type in Dask's")
    with dask.config.set({"gateway.auth": {"type": name, "kwargs": {"keytb": "x"}}}):
        with pytest.raises(ValueError, match="kerberos takes no keytb; did you mean keytab"):
            settings.load(HERE)


class Servicer(credential_service_pb2_grpc.CredentialServiceServicer):
    """Knows alice, by password and by token."""

    def WhoAmI(self, request: Any, context: grpc.ServicerContext) -> pb.WhoAmIResponse:
        sent = dict(context.invocation_metadata()).get("authorization", "")
        if sent == basic_credentials("Alice", "pw"):
            self._refuse(context, UserNameRefused(metadata={"name": "'Alice'", "why": "capitals"}))
        if sent not in (basic_credentials("alice", "pw"), "Bearer good"):
            self._refuse(context, CredentialsInvalid())
        ends = Timestamp(seconds=4_000_000_000) if sent == "Bearer good" else None
        return pb.WhoAmIResponse(user="alice", expire_time=ends)

    def _refuse(self, context: Any, error: Any) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", details_of(error)),))
        context.abort(code_of(error), text_of(error))


@pytest.fixture
def address() -> Iterator[str]:
    """A gateway that says who calls."""
    server = grpc.server(ThreadPoolExecutor(2))
    credential_service_pb2_grpc.add_CredentialServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with dask.config.set({"gateway.transport": "grpc", "gateway.retry-for": "1s"}):
            yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_whoami_tells_whence(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Gateway(address, auth=["alice", "pw"]).whoami()
    assert (caller.user, caller.source) == ("alice", "the argument auth, a user and a password")
    assert "the argument auth" in repr(caller)
    assert caller.expire_time is None
    monkeypatch.setenv("DASKGATEWAY_TOKEN", "good")
    shown = CliRunner().invoke(main, ["whoami", "--address", address])
    assert shown.output.startswith(
        "alice\nby the credentials from the environment variable DASKGATEWAY_TOKEN, until 2096-"
    )
    shown = CliRunner().invoke(main, ["whoami", "--address", address, "--output", "json"])
    assert json.loads(shown.output) == {
        "user": "alice",
        "expireTime": "2096-10-02T07:06:40Z",
        "source": "the environment variable DASKGATEWAY_TOKEN",
    }


async def test_whoami_tells_whence_on_an_event_loop(address: str) -> None:
    caller = await AsyncGateway(address, auth="good").whoami()
    assert caller.source == "the argument auth, an API token"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"USER": "alice", "PASSWORD": SECRET},
            "the gateway does not accept the user and password of the user 'alice', from the"
            " environment variable DASKGATEWAY_USER, and the environment variable"
            " DASKGATEWAY_PASSWORD: they are wrong, expired or revoked",
        ),
        (
            {"TOKEN": SECRET, "PASSWORD": "pw"},
            "the gateway does not accept the credentials, from the environment variable"
            " DASKGATEWAY_TOKEN: they are wrong, expired or revoked. Not used, though set: the"
            " environment variable DASKGATEWAY_PASSWORD",
        ),
        (
            {"USER": "Alice", "PASSWORD": "pw"},
            "Your credentials are right, but 'Alice' can be no user here: capitals. They are from"
            " the environment variable DASKGATEWAY_USER, and the",
        ),
        ({}, "nobody is named: no credentials are given as auth=…"),
    ],
)
def test_who_is_refused_reads_which_credentials_were_sent_and_not_what_to_set(
    address: str, variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"DASKGATEWAY_{name}", value)
    with pytest.raises(errors.AuthenticationFailed) as caught:
        Gateway(address).whoami()
    assert words in str(caught.value)
    assert caught.value.code == "UNAUTHENTICATED"
    assert SECRET not in str(caught.value)
    shown = CliRunner().invoke(main, ["whoami", "--address", address])
    assert shown.exit_code == 1
    assert words in shown.output
    assert SECRET not in shown.output
    if variables:
        assert "set DASKGATEWAY_TOKEN" not in shown.output


def test_no_secret_is_shown_by_what_holds_it() -> None:
    for auth in ((SECRET, SECRET), SECRET, BasicAuth("alice", SECRET), TokenAuth(SECRET)):
        found = settings.load(HERE, auth)
        shown = repr(found.caller) + found.caller.source
        assert SECRET not in shown
    assert SECRET not in repr(Gateway(HERE, auth=SECRET))
