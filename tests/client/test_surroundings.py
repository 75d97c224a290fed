"""What surrounds the client: certificates, token files, a missing home directory, a terminal that
knows ASCII only. It works, or one sentence says what is wrong with which file."""

from __future__ import annotations

import io
import pathlib
import pwd
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask.config
import grpc
import pytest
from daskgateway.v1 import cluster_pb2, credential_service_pb2, credential_service_pb2_grpc

from gateway import Gateway
from gateway.client import progress, terminal
from gateway.client.calls import errors, settings, trust
from gateway.client.calls.settings import Auth, BasicAuth, TokenAuth
from gateway.client.model import Cluster
from tests.client.commands import run
from tests.e2e.gateway_process import GatewayProcess
from tests.parts.fronts import self_signed

TOKEN = "dgw_api_abc_def"


@pytest.fixture(autouse=True)
def nobody_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of whoever runs the tests."""
    for name in ("ADDRESS", "TOKEN", "USER", "PASSWORD"):
        monkeypatch.delenv(f"DASKGATEWAY_{name}", raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", trust.GRPC_ROOTS):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, pathlib.Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose user has neither home directory nor name."""

    def unknown(*_: object) -> Any:
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_a_ca_below_the_home_directory_is_found(
    home: pathlib.Path, signed: tuple[pathlib.Path, pathlib.Path]
) -> None:
    (home / "ca.pem").write_bytes(signed[0].read_bytes())
    with dask.config.set({"gateway.ca-file": "~/ca.pem"}):
        assert settings.load("https://h").ca_file == str(home / "ca.pem")
    with dask.config.set({"gateway.ca-file": pathlib.Path("~/ca.pem")}):
        assert settings.load("https://h").ca_file == str(home / "ca.pem")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("~/missing.pem", "missing.pem cannot be read: No such file or directory"),
        ("~", "cannot be read: Is a directory"),
        ("~/empty.pem", "empty.pem has no certificate in it; it must be a PEM file"),
        ("~/binary.pem", "binary.pem has no certificate in it; it must be a PEM file"),
        (5, "gateway.ca-file must be a text, not 5"),
    ],
)
def test_a_ca_that_cannot_be_used_is_told_in_one_sentence(
    home: pathlib.Path, file: Any, words: str
) -> None:
    (home / "empty.pem").touch()
    (home / "binary.pem").write_bytes(bytes(range(256)))
    with dask.config.set({"gateway.ca-file": file}):
        with pytest.raises(ValueError, match=words) as refused:
            Gateway("https://127.0.0.1:1")
        assert str(refused.value).startswith("gateway.ca-file")
        ended = run("https://127.0.0.1:1", "whoami")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == f"daskgateway: {refused.value}\n"
        Gateway("http://127.0.0.1:1")  # which needs none


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", " \n", ""])
def test_a_tokens_file_may_end_with_a_lines_end(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    (home / "token").write_text(TOKEN + end, newline="")
    with dask.config.set({"gateway.auth.token-file": "~/token"}):
        assert settings.resolve_auth()[0].header() == f"Bearer {TOKEN}"
    monkeypatch.setenv("DASKGATEWAY_TOKEN", TOKEN + end)
    assert settings.resolve_auth()[0].header() == f"Bearer {TOKEN}"
    assert settings.resolve_auth(TOKEN + end)[0].header() == f"Bearer {TOKEN}"
    assert BasicAuth("alice", "pw" + end.strip(" ")).header() == BasicAuth("alice", "pw").header()


@pytest.mark.parametrize("wrong", [f"{TOKEN} x", f"{TOKEN}\nx", "tökén", "a\x00b", "a\tb"])
def test_a_token_that_is_no_word_is_refused_and_not_quoted(wrong: str) -> None:
    with pytest.raises(ValueError, match="an API token must be one word of ASCII") as refused:
        TokenAuth(wrong)
    assert wrong not in str(refused.value)


def test_a_tokens_file_that_was_named_must_be_there(home: pathlib.Path) -> None:
    (home / "empty").touch()
    (home / "binary").write_bytes(b"\xff\xfe")
    for file, words in (
        ("~/missing", "missing cannot be read: No such file"),
        ("~", "cannot be read: Is a directory"),
        ("~/empty", "empty is empty"),
        ("~/binary", "binary cannot be read: it is no text"),
    ):
        with dask.config.set({"gateway.auth.token-file": file}):
            with pytest.raises(ValueError, match=f"gateway.auth.token-file: .*{words}"):
                settings.resolve_auth()
    assert type(settings.resolve_auth()[0]) is Auth  # the usual one need not be


@pytest.mark.usefixtures("homeless")
def test_a_machine_without_a_home_directory_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(settings.load("http://127.0.0.1:1").auth) is Auth
    monkeypatch.setenv("DASKGATEWAY_PASSWORD", "pw")
    with pytest.raises(ValueError, match=r"has no name here: set gateway\.auth\.user"):
        settings.load("http://127.0.0.1:1")
    monkeypatch.setenv("DASKGATEWAY_USER", "alice")
    assert repr(settings.load("http://127.0.0.1:1").auth) == "BasicAuth('alice')"
    with dask.config.set({"gateway.ca-file": "~/ca.pem"}):
        with pytest.raises(ValueError, match=r"gateway\.ca-file: the file ~/ca.pem cannot be read"):
            settings.load("https://127.0.0.1:1")


def test_a_socket_below_the_home_directory_is_found(home: pathlib.Path) -> None:
    assert settings.load("unix:~/run/gw.sock").address == f"unix:{home}/run/gw.sock"


class Caller(credential_service_pb2_grpc.CredentialServiceServicer):
    """A gateway that knows everybody."""

    def WhoAmI(self, request: Any, context: Any) -> credential_service_pb2.WhoAmIResponse:
        return credential_service_pb2.WhoAmIResponse(user="alice")


@pytest.fixture
def over_tls(signed: tuple[pathlib.Path, pathlib.Path]) -> Iterator[str]:
    """A gateway that speaks gRPC over TLS, with a certificate that nobody knows; its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    credential_service_pb2_grpc.add_CredentialServiceServicer_to_server(Caller(), server)
    chain, key = (one.read_bytes() for one in signed)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    server.start()
    try:
        with dask.config.set({"gateway.transport": "grpc", "gateway.retry-for": "20s"}):
            yield f"https://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_grpc_trusts_a_certificate_that_the_system_does(
    over_tls: str, signed: tuple[pathlib.Path, pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(signed[0]))
    assert Gateway(over_tls, auth=TOKEN).whoami().user == "alice"


def test_grpc_trusts_a_directory_of_certificates_that_the_system_does(
    over_tls: str,
    signed: tuple[pathlib.Path, pathlib.Path],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "site.pem").write_bytes(signed[0].read_bytes())
    (tmp_path / "again.pem").write_bytes(signed[0].read_bytes())
    (tmp_path / "more").mkdir()
    (tmp_path / "dangling.0").symlink_to("nowhere")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert trust.system_roots() == signed[0].read_bytes()  # once
    assert Gateway(over_tls, auth=TOKEN).whoami().user == "alice"


def test_what_the_system_does_not_trust_is_told_with_the_setting(over_tls: str) -> None:
    with pytest.raises(errors.Unavailable, match=r"is not trusted; name the CA .*gateway\.ca-file"):
        Gateway(over_tls, auth=TOKEN).whoami()


def test_grpcs_own_variable_holds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert b"BEGIN CERTIFICATE" in (trust.roots(None) or b"BEGIN CERTIFICATE")
    monkeypatch.setenv(trust.GRPC_ROOTS, "/etc/site.pem")
    assert trust.roots(None) is None


def test_a_terminal_that_knows_ascii_only_shows_everything(served: GatewayProcess) -> None:
    gateway = Gateway(served.address, auth=("alice", "wonderland"))
    made = gateway.submit("grün".replace("ü", "u"), labels={"größe": "klein — 5 µm"})
    ascii_only = served.environment() | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for command in (["show", "grun"], ["list"], ["events", "grun"], ["show", "grün"]):
        words = [sys.executable, "-m", "gateway", "clusters", *command]
        ended = subprocess.run(words, env=ascii_only, capture_output=True, text=True, timeout=60)
        assert ended.returncode == (2 if "grün" in command else 0), ended.stderr
        assert "Traceback" not in ended.stderr
    gateway.stop_cluster(made.name)


def test_a_starting_cluster_is_shown_on_a_terminal_that_knows_ascii_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict", write_through=True)
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    cluster = Cluster.from_proto(
        cluster_pb2.Cluster(name="users/a/clusters/etl", status={"message": "größer — später"})
    )
    terminal.any_text(stream)
    with progress.begin() as shown:
        shown.tell(progress.words_of(cluster))
    monkeypatch.undo()
    assert rb"gr\xf6\xdfer" in raw.getvalue()
