"""Tokens, certificates, sealed secrets, tickets, passwords."""

from __future__ import annotations

import base64
import pathlib
import socket
import ssl
import threading

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError

from gateway.authenticators import password
from gateway.authenticators.contract import Authenticator, Credentials
from gateway.configfile import ConfigurationError
from gateway.networks import parse_address
from gateway.proxy.http.access import SessionGrant, Sessions, good_ticket
from gateway.server.boot.edge_token import edge_token
from gateway.server.core.errors import CredentialsInvalid, UserNameRefused
from gateway.server.core.model import Principal
from gateway.server.security import certificates, tokens
from gateway.server.security.certificates import ClusterSecrets
from gateway.server.security.cluster_keys import ClusterKeys
from gateway.server.security.doors import Doors
from gateway.server.security.keys import Keys
from gateway.server.security.secrets import Keyring
from gateway.server.security.tickets import TicketSigner
from gateway.server.store.memory import MemoryStore
from gateway.wire import Ticket, basic_credentials, decimal, server_name

NOW = 1_800_000_000_000
UID, OTHER = "c" + "a" * 20, "c" + "b" * 20


def test_tokens_are_parsed_and_match_only_themselves() -> None:
    minted = tokens.mint("api")
    assert tokens.parse(minted.text) is not None
    assert tokens.parse(minted.text)[:2] == ("api", minted.id)  # type: ignore[index]
    assert tokens.matches(minted.text, minted.secret_hash)
    assert not tokens.matches(tokens.mint("api").text, minted.secret_hash)


@given(st.text())
def test_no_text_breaks_the_token_parser(text: str) -> None:
    assert tokens.parse(text) is None


@pytest.fixture(scope="module")
def secrets() -> ClusterSecrets:
    """The secrets of a cluster."""
    import time

    return certificates.make_cluster_credentials(UID, now=int(time.time() * 1000), lifetime_s=3600)


def public_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """Return a key's public half."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def handshake(
    tmp_path: pathlib.Path,
    server: tuple[bytes, bytes],
    client: tuple[bytes, bytes],
    ca: bytes,
    name: str,
) -> str:
    """Return the server's words over mutual TLS."""

    def context(purpose: ssl.Purpose, pair: tuple[bytes, bytes]) -> ssl.SSLContext:
        made = ssl.create_default_context(purpose, cadata=ca.decode())
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        made.verify_mode = ssl.CERT_REQUIRED
        path = tmp_path / f"{purpose.name}.pem"
        path.write_bytes(pair[0] + pair[1])
        made.load_cert_chain(path)
        return made

    left, right = socket.socketpair()
    accepting, dialling = (
        context(ssl.Purpose.CLIENT_AUTH, server),
        context(ssl.Purpose.SERVER_AUTH, client),
    )

    def serve() -> None:
        try:
            with accepting.wrap_socket(left, server_side=True) as wrapped:
                wrapped.sendall(b"hello")
        except (ssl.SSLError, OSError):
            left.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with dialling.wrap_socket(right, server_hostname=name) as wrapped:
            return wrapped.recv(10).decode()
    finally:
        right.close()
        thread.join()


def test_a_signed_client_reaches_its_scheduler_and_checks_its_name(
    secrets: ClusterSecrets, tmp_path: pathlib.Path
) -> None:
    import time

    key = ec.generate_private_key(ec.SECP256R1())
    signed, expires_at = certificates.sign_client(
        secrets, public_pem(key), user="alice", now=int(time.time() * 1000), ttl_s=600
    )
    assert expires_at > time.time() * 1000
    own = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    scheduler = (secrets.scheduler_certificate, secrets.scheduler_key)
    client = (signed.encode(), own)
    assert (
        handshake(tmp_path, scheduler, client, secrets.ca_certificate, server_name(UID)) == "hello"
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, scheduler, client, secrets.ca_certificate, server_name(OTHER))
    worker = (secrets.worker_certificate, secrets.worker_key)
    with pytest.raises(ssl.SSLCertVerificationError):  # a worker cannot pass for its scheduler
        handshake(tmp_path, worker, client, secrets.ca_certificate, server_name(UID))


@pytest.mark.parametrize(
    "text",
    ["", "junk", "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n", "x" * 20_000],
)
def test_what_is_no_key_is_told_so(secrets: ClusterSecrets, text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        certificates.sign_client(secrets, text, user="alice", now=NOW, ttl_s=600)


def test_a_weak_key_is_refused(secrets: ClusterSecrets) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.raises(ValueError, match="2048"):
        certificates.sign_client(secrets, public_pem(weak), user="alice", now=NOW, ttl_s=600)


def test_secrets_are_sealed_with_keys_that_can_change(
    secrets: ClusterSecrets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DASKGATEWAY_ENCRYPTION_KEYS", raising=False)
    path = tmp_path / "encryption.key"
    keyring = Keyring.load(path)
    sealed = keyring.seal(secrets)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Keyring.load(path).unseal(sealed) == secrets
    new = Fernet.generate_key().decode()
    both = Keyring([new, path.read_text().strip()])
    assert both.unseal(sealed) == secrets
    assert Keyring([new]).unseal(both.seal(secrets)) == secrets
    with pytest.raises(ConfigurationError, match="another key"):
        Keyring([new]).unseal(sealed)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Keyring.load(path)


def test_a_ticket_is_good_for_its_cluster_and_its_time_only() -> None:
    signer, stranger = TicketSigner(b"s" * 32), TicketSigner(b"x" * 32)
    whole = Ticket(UID, "alice", NOW + 1000, "nonce", "token", "stamp", True, NOW + 5000)
    ticket = signer.issue(whole)
    keys = [stranger.public_key, signer.public_key]
    assert good_ticket(ticket, UID, keys, NOW) == whole
    assert signer.read(ticket) == whole
    assert stranger.read(ticket) is None
    assert good_ticket(ticket, OTHER, keys, NOW) is None
    assert good_ticket(ticket, UID, keys, NOW + 1000) is None
    assert good_ticket(ticket, UID, [stranger.public_key], NOW) is None
    assert good_ticket(ticket[:-2] + "AA", UID, keys, NOW) is None


@pytest.mark.parametrize(
    "contents",
    [b'{"c":"x","u":"y","e":1e999}', b'{"c":"x","u":"y","e":NaN}', b"[" * 700, b'"x"', b"{}"],
)
def test_what_is_no_ticket_inside_is_none(contents: bytes) -> None:
    text = base64.urlsafe_b64encode(contents).rstrip(b"=").decode() + ".AAAA"
    assert good_ticket(text, UID, [TicketSigner(b"s" * 32).public_key], NOW) is None


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("0042", 42), ("9" * 18, 10**18 - 1)])
def test_digits_are_a_number(text: str, number: int) -> None:
    assert decimal(text) == number


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1_0", "²", "٣", "９", "1.0", "9" * 19, "9" * 5000]
)
def test_what_is_not_digits_alone_is_no_number(text: str) -> None:
    assert decimal(text) is None
    assert parse_address(f"host:{text}") is None


@given(st.text())
def test_no_text_is_a_ticket_or_a_session(text: str) -> None:
    assert good_ticket(text, UID, [TicketSigner(b"s" * 32).public_key], NOW) is None
    assert Sessions(b"k" * 32, 60).grant(text, UID) is None
    assert TicketSigner(b"s" * 32).read(text) is None


def test_a_session_is_good_for_its_cluster_and_its_time_only() -> None:
    now = [NOW]
    sessions = Sessions(b"k" * 32, 60, lambda: now[0])
    grant = sessions.begin(Ticket(UID, "alice", 0, "", "token", "stamp", True))
    assert grant == SessionGrant(
        UID, "alice", NOW + 60_000, grant.session_id, "token", "stamp", True
    )
    assert grant.session_id != sessions.begin(Ticket(UID, "alice", 0)).session_id
    cookie = sessions.text(grant)
    assert sessions.grant(cookie, UID) == grant
    assert sessions.grant(cookie, OTHER) is None
    assert Sessions(b"z" * 32, 60, lambda: NOW).grant(cookie, UID) is None
    now[0] += 60_000
    assert sessions.grant(cookie, UID) is None


@pytest.mark.parametrize(
    ("holds_until", "expires_at"),
    [(0, NOW + 60_000), (NOW + 5, NOW + 5), (NOW + 10**9, NOW + 60_000)],
)
def test_a_session_lasts_no_longer_than_what_it_rests_on(holds_until: int, expires_at: int) -> None:
    assert (
        Sessions(b"k" * 32, 60, lambda: NOW)
        .begin(Ticket(UID, "alice", 0, holds_until=holds_until))
        .expires_at
        == expires_at
    )


def test_what_was_signed_for_something_else_is_no_session() -> None:
    import hmac
    import json

    sessions = Sessions(b"k" * 32, 60, lambda: NOW)
    body = json.dumps([UID, "alice", NOW + 1000, "id", "", "", False]).encode()
    text = [
        base64.urlsafe_b64encode(part).rstrip(b"=").decode()
        for part in (body, hmac.digest(b"k" * 32, body, "sha256"))
    ]
    assert sessions.grant(".".join(text), UID) is None


async def test_passwords_let_in_who_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    real = password.check_password
    monkeypatch.setattr(
        password,
        "check_password",
        lambda text, stored: checked.append(stored) or real(text, stored),
    )
    authenticator = password.PasswordAuthenticator(
        users={"alice": password.hash_password("right")}, admins={"alice"}
    )
    await authenticator.open()

    async def let_in(user: str, text: str) -> bool:
        value = basic_credentials(user, text).removeprefix("Basic ")
        return await authenticator.authenticate(Credentials("basic", value, "")) is not None

    assert await let_in("alice", "right")
    assert await let_in("alice", "right")
    assert len(checked) == 1  # the second time it was remembered
    assert not await let_in("alice", "wrong")
    assert not await let_in("nobody", "right")  # costs a check all the same
    assert not await let_in("Not A Name", "right")
    # no base64, not ASCII, no text at all, no UTF-8 within
    for unreadable in ("%%%", "é", "\udcff", "//8="):
        assert await authenticator.authenticate(Credentials("basic", unreadable, "")) is None
    assert len(checked) == 8
    authenticator.users = {"alice": password.hash_password("changed")}
    assert not await let_in("alice", "right")  # what was remembered belongs to another hash
    monkeypatch.setattr(authenticator, "cache_ttl_s", 0.0)
    assert await let_in("alice", "changed")
    assert await let_in("alice", "changed")
    assert len(checked) == 11  # nothing is remembered for 0 s
    await authenticator.close()


async def test_who_is_no_user_costs_as_much_as_one_whatever_the_users_hashes_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dear, cheap = (
        password.hash_password("right").replace(f"${password.COST}$", f"${cost}$", 1)
        for cost in (2 * password.COST, password.COST // 4)
    )
    checked: list[int] = []
    monkeypatch.setattr(
        password, "check_password", lambda _, stored: checked.append(int(stored.split("$")[1]))
    )
    authenticator = password.PasswordAuthenticator(users={"alice": dear, "bob": cheap})
    await authenticator.open()

    async def cost(user: str, text: str) -> int:
        value = basic_credentials(user, text).removeprefix("Basic ")
        assert await authenticator.authenticate(Credentials("basic", value, "")) is None
        return checked.pop()

    texts = ("wrong", "", "x" * 2000, "a\0b")  # of which only the first can be a password
    assert {await cost("alice", text) for text in texts} == {2 * password.COST}
    assert {await cost("bob", text) for text in texts} == {password.COST // 4}
    strangers = [{await cost(f"stranger{number}", text) for text in texts} for number in range(40)]
    assert all(len(costs) == 1 for costs in strangers)  # of a name always the same
    assert set.union(*strangers) == {2 * password.COST, password.COST // 4}
    await authenticator.close()


async def test_a_file_of_users_is_read_again_when_it_changes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "users"
    path.touch(mode=0o600)
    path.write_text(f"# people\nalice:{password.hash_password('one')}\n")
    authenticator = password.PasswordAuthenticator(users_file=str(path))
    await authenticator.open()
    value = basic_credentials("alice", "two").removeprefix("Basic ")
    assert await authenticator.authenticate(Credentials("basic", value, "")) is None
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(f"alice:{password.hash_password('two')}\n")
    fresh.rename(path)
    assert await authenticator.authenticate(Credentials("basic", value, "")) is not None
    path.write_text("alice:plain password\n")
    with pytest.raises(ConfigurationError, match="line 1"):
        await password.PasswordAuthenticator(users_file=str(path)).open()
    await authenticator.close()


def test_a_plain_password_in_the_configuration_is_refused() -> None:
    with pytest.raises(TraitError, match="hash-password"):
        password.PasswordAuthenticator(users={"alice": "secret"})


async def test_nobody_to_let_in_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="nobody could sign in"):
        await password.PasswordAuthenticator().open()


@pytest.mark.parametrize("torn", ["", "\n", "dgw_edge_", "dgw_api_" + "a" * 16 + "_" + "b" * 43])
async def test_a_torn_file_of_the_edges_token_lets_nobody_in(
    tmp_path: pathlib.Path, torn: str
) -> None:
    path = tmp_path / "edge.token"
    path.write_text(torn)
    token = edge_token(path)
    assert tokens.parse(token) is not None
    assert edge_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    doors = Doors(Authenticator(), MemoryStore(), None, tokens.hashed(token), lambda: 0)  # type: ignore[arg-type]
    with pytest.raises(CredentialsInvalid):
        await doors.edge(torn.strip())


@pytest.mark.parametrize("lifetime_s", [3600.0, None, 9 * 365 * 86400.0])
async def test_a_clusters_certificates_outlive_a_lifetime_that_is_made_longer_later(
    lifetime_s: float | None,
) -> None:
    """An update may turn an hour into years, and the certificates were made at the beginning."""
    from concurrent.futures import ThreadPoolExecutor

    from cryptography import x509

    keyring, now = Keyring([Fernet.generate_key().decode()]), 1_700_000_000_000
    with ThreadPoolExecutor(1) as threads:
        cluster_keys = ClusterKeys(MemoryStore(), keyring, threads)
        keys = Keys(keyring, None, None, lambda: now, threads, cluster_keys)  # type: ignore[arg-type]
        sealed = await keys.make_cluster_secrets("c" + "a" * 20, lifetime_s)
    made = keyring.unseal(sealed)
    for pem in (made.ca_certificate, made.scheduler_certificate, made.worker_certificate):
        left_s = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp() - now / 1000
        assert left_s >= max(5 * 365 * 86400.0, lifetime_s or 0)


@pytest.mark.parametrize("name", ["", "Alice", "al/ice", "\udcff", "a" * 64])
async def test_an_authenticator_lets_in_only_who_can_be_named(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Careless(Authenticator):
        schemes = ("basic",)

        async def authenticate(self, credentials: Credentials) -> Principal | None:
            return Principal(name if credentials.value == "odd" else "alice")

    doors = Doors(Careless(), MemoryStore(), None, b"", lambda: 0)  # type: ignore[arg-type]
    assert (await doors.principal("basic", "plain", "")).user == "alice"
    with pytest.raises(UserNameRefused, match=r"a user name must match|no capitals"):
        await doors.principal("basic", "odd", "")
    assert "refused for its user's name" in caplog.text
