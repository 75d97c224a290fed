"""Whom agents and distant edges talk to: the installation's own authority, the listener's
certificate, and who is turned away."""

from __future__ import annotations

import asyncio
import datetime
import os
import pathlib
import ssl
import time
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway import wire
from gateway.agent.setup import Setup
from gateway.configfile import ConfigurationError
from gateway.server.boot import listening
from gateway.server.boot.config import DaskGateway
from gateway.server.edge.account import Account
from gateway.server.edge.room import EdgeRoom
from gateway.server.security import certificates
from gateway.server.security.authority import CA_FILE, HANDED_OUT, KEY_FILE, Authority
from gateway.server.security.listener_certificate import LIFETIME, GivenCertificate, OwnCertificate
from gateway.wire import LISTENER_NAME

DAY_MS = 86_400_000


def now_ms() -> int:
    """Return the present instant."""
    return time.time_ns() // 1_000_000


def read(pem: bytes) -> x509.Certificate:
    """Return a certificate."""
    return x509.load_pem_x509_certificate(pem)


# The authority


def test_an_authority_is_made_once_and_its_key_is_for_its_owner_alone(
    tmp_path: pathlib.Path,
) -> None:
    umask = os.umask(0)
    try:
        made = Authority.load(tmp_path).certificate(now_ms())
    finally:
        os.umask(umask)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert (
        Authority.load(tmp_path).certificate(now_ms()) == made == (tmp_path / CA_FILE).read_bytes()
    )
    key = serialization.load_pem_private_key((tmp_path / KEY_FILE).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert read(made).extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_what_is_handed_out_is_good_for_years_and_the_key_stays(tmp_path: pathlib.Path) -> None:
    authority = Authority.load(tmp_path)
    now = now_ms()
    first = read(authority.certificate(now))
    assert authority.certificate(now + 3650 * DAY_MS - DAY_MS) == certificates.pem(first)
    later = now + 4000 * DAY_MS
    second = read(authority.certificate(later))
    assert second.not_valid_after_utc >= certificates.instant(later) + HANDED_OUT
    assert second.public_key() == first.public_key()
    assert second.subject == first.subject
    assert (tmp_path / CA_FILE).read_bytes() == certificates.pem(second)
    signed, _ = authority.sign_server([LISTENER_NAME], later, LIFETIME)
    read(signed).verify_directly_issued_by(first)  # who was given the first copy goes on


def test_a_clock_that_was_wrong_when_it_was_made_is_outlived(tmp_path: pathlib.Path) -> None:
    Authority.load(tmp_path).certificate(now_ms() + 3000 * DAY_MS)
    found = read(Authority.load(tmp_path).certificate(now_ms()))
    assert found.not_valid_before_utc < datetime.datetime.now(datetime.timezone.utc)


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN PRIVATE KEY-----\nMIGH", bytes(range(256)), b"other curve"]
)
def test_a_broken_key_is_made_anew_and_that_is_told(
    tmp_path: pathlib.Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    first = Authority.load(tmp_path).certificate(now_ms())
    if content == b"other curve":
        content = certificates.key_pem(ec.generate_private_key(ec.SECP384R1()))
    (tmp_path / KEY_FILE).write_bytes(content)
    second = Authority.load(tmp_path).certificate(now_ms())
    assert read(second).public_key() != read(first).public_key()
    assert "clusters that run do not know this server any more" in caplog.text
    assert Authority.load(tmp_path).certificate(now_ms()) == second


@pytest.mark.parametrize("content", [b"", b"nonsense", b"of another key"])
def test_a_broken_certificate_is_made_anew_with_the_same_key(
    tmp_path: pathlib.Path, content: bytes
) -> None:
    first = Authority.load(tmp_path).certificate(now_ms())
    if content == b"of another key":
        (tmp_path / "other").mkdir()
        content = Authority.load(tmp_path / "other").certificate(now_ms())
    (tmp_path / CA_FILE).write_bytes(content)
    again = Authority.load(tmp_path).certificate(now_ms())
    assert read(again).public_key() == read(first).public_key()


def test_a_key_that_others_can_read_or_that_leads_elsewhere_is_refused(
    tmp_path: pathlib.Path,
) -> None:
    Authority.load(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(
        ConfigurationError, match=r"authority\.key: others can read it; chmod 600 it"
    ):
        Authority.load(tmp_path)
    (tmp_path / KEY_FILE).rename(tmp_path / "real")
    (tmp_path / KEY_FILE).symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match=r"authority\.key"):
        Authority.load(tmp_path)


# The certificate


def test_our_own_is_made_anew_at_half_its_life_and_when_the_clock_was_set(
    tmp_path: pathlib.Path,
) -> None:
    start = now_ms()
    clock = [start]
    own = OwnCertificate(
        Authority.load(tmp_path), ["10.0.0.7", "gw.example.org", "gäteway"], lambda: clock[0]
    )
    first = own.shown()
    names = (
        read(first.certificate)
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    assert set(names.get_values_for_type(x509.DNSName)) == {
        LISTENER_NAME,
        "localhost",
        "gw.example.org",
    }
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "::1",
        "10.0.0.7",
    ]
    clock[0] = start + 44 * DAY_MS
    assert own.shown() is first
    clock[0] = start + 46 * DAY_MS
    second = own.shown()
    assert second != first
    assert read(second.certificate).not_valid_after_utc > certificates.instant(
        clock[0] + 89 * DAY_MS
    )
    clock[0] = start - 400 * DAY_MS
    third = own.shown()
    assert read(third.certificate).not_valid_before_utc < certificates.instant(clock[0])
    read(third.certificate).verify_directly_issued_by(read(own.ca()))


def write_pair(directory: pathlib.Path, host: str, now: int | None = None) -> bytes:
    """Write cert.pem and key.pem of a new authority into a directory; return the authority's
    certificate."""
    (directory / "ca").mkdir(exist_ok=True)
    (directory / "ca" / KEY_FILE).unlink(missing_ok=True)
    authority = Authority.load(directory / "ca")
    certificate, key = authority.sign_server([host], now or now_ms(), LIFETIME)
    (directory / "cert.pem").write_bytes(certificate)
    (directory / "key.pem").touch(mode=0o600)
    (directory / "key.pem").write_bytes(key)
    return authority.certificate(now_ms())


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda path: (path / "cert.pem").unlink(), r"cert\.pem: No such file"),
        (lambda path: (path / "key.pem").unlink(), r"key\.pem: No such file"),
        (lambda path: (path / "cert.pem").write_bytes(b""), r"cert\.pem holds no certificate"),
        (lambda path: (path / "key.pem").write_bytes(b"x"), r"key\.pem holds no private key"),
        (lambda path: (path / "ca.pem").write_bytes(b"x"), r"ca\.pem holds no certificate"),
        (
            lambda path: (path / "key.pem").write_bytes(
                certificates.key_pem(ec.generate_private_key(ec.SECP256R1()))
            ),
            r"key\.pem is not the key of the first certificate in .*cert\.pem",
        ),
    ],
)
def test_a_given_certificate_that_cannot_be_used_is_told_at_the_start_and_changes_nothing_later(
    tmp_path: pathlib.Path,
    break_it: Callable[[pathlib.Path], object],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "ca.pem").write_bytes(write_pair(tmp_path, "localhost"))
    paths = [str(tmp_path / name) for name in ("cert.pem", "key.pem", "ca.pem")]
    given = GivenCertificate(*paths)
    before = given.shown(), given.ca()
    break_it(tmp_path)
    with pytest.raises(
        ConfigurationError, match=rf"c\.DaskGateway\.tls_cert, tls_key, tls_ca: .*{words}"
    ):
        GivenCertificate(*paths)
    assert (given.shown(), given.ca()) == before
    assert (given.shown(), given.ca()) == before
    assert caplog.text.count("the old one stays") == 1


# Over gRPC


class Served:
    """A listener with nothing behind it, and what agents are told of it."""

    def __init__(self, directory: pathlib.Path, **settings: str) -> None:
        self.now = now_ms()
        self.certificate = listening.certificate(
            DaskGateway(**settings), directory, lambda: self.now
        )
        self.server = grpc.aio.server()
        self.port = listening.bind(self.server, "127.0.0.1:0", self.certificate, directory)

    def setup(
        self, *, ca: bytes | None = None, host: str = "127.0.0.1", name: str | None = None
    ) -> Setup:
        """Return the set-up of an agent."""
        name = self.certificate.server_name if name is None else name
        return Setup(
            "u",
            f"https://{host}:{self.port}",
            "token",
            self.certificate.ca() if ca is None else ca,
            name,
        )


async def reached(setup: Setup) -> bool:
    """Whether an agent with this set-up comes as far as the server's answer, that it knows no such
    call."""

    def ask() -> grpc.StatusCode:
        with setup.channel() as channel:
            try:
                channel.unary_unary("/no/call")(b"", timeout=5)  # type: ignore[call-arg]
            except grpc.RpcError as error:
                return error.code()
        raise AssertionError("there is such a call")

    code = await asyncio.to_thread(ask)
    assert code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE)
    return code is grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture
async def own(tmp_path: pathlib.Path) -> AsyncIterator[Served]:
    """A listener with a certificate of its own."""
    served = Served(tmp_path)
    await served.server.start()
    yield served
    await served.server.stop(None)


async def test_an_agent_knows_the_server_by_its_own_authority_whatever_the_address(
    own: Served, tmp_path: pathlib.Path
) -> None:
    assert own.certificate.server_name == LISTENER_NAME
    assert await reached(own.setup())
    # this name is in the certificate too
    assert await reached(own.setup(name="", host="localhost"))
    (tmp_path / "other").mkdir()
    assert not await reached(own.setup(ca=Authority.load(tmp_path / "other").certificate(now_ms())))
    assert not await reached(own.setup(name="other.daskgateway"))


async def test_a_renewal_is_taken_up_by_a_listener_that_runs(tmp_path: pathlib.Path) -> None:
    served = Served(tmp_path)
    served.now -= 46 * DAY_MS  # when it was started
    await served.server.start()
    try:
        early = served.setup()
        assert await reached(early)
        first = served.certificate.shown()
        served.now += 46 * DAY_MS
        assert await reached(early)
        second = served.certificate.shown()
        assert (
            read(second.certificate).not_valid_before_utc
            > read(first.certificate).not_valid_before_utc
        )
        shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", served.port))
        assert shown.encode() == second.certificate
    finally:
        await served.server.stop(None)


async def test_the_administrators_certificate_is_taken_up_again_when_its_files_change(
    tmp_path: pathlib.Path,
) -> None:
    first = write_pair(tmp_path, "localhost")
    served = Served(
        tmp_path, tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem")
    )
    await served.server.start()
    try:
        assert served.certificate.server_name == ""
        assert await reached(served.setup(host="localhost"))  # by the certificate itself
        assert await reached(served.setup(ca=first, host="localhost"))
        assert not await reached(served.setup(ca=first))  # 127.0.0.1 is not in it
        second = write_pair(tmp_path, "localhost")
        assert await reached(served.setup(ca=second, host="localhost"))
        assert not await reached(served.setup(ca=first, host="localhost"))
        assert not (tmp_path / KEY_FILE).exists()  # no authority of our own is made then
    finally:
        await served.server.stop(None)


async def test_nothing_is_answered_in_plain_tcp(own: Served) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{own.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/no/call")(b"", timeout=5)  # type: ignore[call-arg]
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


# What an agent takes


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1",
        "127.0.0.1:1",
        "dns:127.0.0.1:1",
        "",
        "HTTPS://127.0.0.1:1",
        "unix-abstract:x",
    ],
)
def test_an_agent_sends_its_token_to_no_address_in_clear_text(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    for name in ("token", "ca"):
        (tmp_path / name).write_text("x")
    for variable, value in (
        (wire.ENV_UID, "u"),
        (wire.ENV_AGENT_ADDRESS, address),
        (wire.ENV_AGENT_TOKEN_FILE, str(tmp_path / "token")),
        (wire.ENV_AGENT_CA_FILE, str(tmp_path / "ca")),
    ):
        monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match="no address that a token may be sent to"):
        Setup.load()
    monkeypatch.setenv(wire.ENV_AGENT_ADDRESS, "https://127.0.0.1:1")
    assert Setup.load().ca == b"x"
    (tmp_path / "ca").write_text("")  # the system's roots would be believed
    with pytest.raises(ValueError, match="no address that a token may be sent to"):
        Setup.load()


# The socket


async def test_a_socket_in_a_directory_however_deep_is_reached_by_its_owner_alone(
    tmp_path: pathlib.Path,
) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    # what an earlier run, or anybody, left
    (deep / listening.SOCKET_NAME).symlink_to("/etc/passwd")
    directory = os.open(deep, os.O_PATH | os.O_DIRECTORY)
    server = grpc.aio.server()
    try:
        listening.bind_socket(server, directory)
        await server.start()
        assert (deep / listening.SOCKET_NAME).lstat().st_mode & 0o777 == 0o600
        async with grpc.aio.insecure_channel(
            f"unix:/proc/self/fd/{directory}/{listening.SOCKET_NAME}"
        ) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary("/no/call")(b"", timeout=5)  # type: ignore[call-arg]
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        await server.stop(None)
        os.close(directory)


async def test_what_cannot_be_made_way_for_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / listening.SOCKET_NAME).mkdir()
    directory = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    server = grpc.aio.server()
    with pytest.raises(
        ConfigurationError, match=r"c\.DaskGateway\.state_dir: server\.sock cannot be made there"
    ):
        listening.bind_socket(server, directory)
    os.close(directory)


def test_a_link_in_the_place_of_a_directory_of_the_edges_is_not_followed(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "edge.token").touch()
    for name in ("edge", "door"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
        room = EdgeRoom(tmp_path, Account(os.geteuid(), os.getegid()), "", "")
        with pytest.raises(
            ConfigurationError,
            match=r"c\.DaskGateway\.state_dir: .*(Not a directory|symbolic links)",
        ):
            room.make()
        (tmp_path / name).unlink()
