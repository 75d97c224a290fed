"""Certificates live for a day, Dask's clients for longer: what it was given at first is not what it
must go on with."""

from __future__ import annotations

import asyncio
import pathlib
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from distributed.comm.core import FatalCommClosedError

from gateway import wire
from gateway.client.calls import credentials, errors
from gateway.client.calls.channel import Connection
from gateway.client.calls.credentials import ClusterCredentials
from gateway.client.calls.settings import Auth, Settings
from gateway.client.dask import comm
from gateway.client.dask.comm import GatewayConnector
from gateway.server.security import certificates
from gateway.server.security.certificates import ClusterSecrets
from tests.listening import listening

UID = "c" + "b" * 20
CONNECTION = Connection(Settings("http://127.0.0.1:9", Auth()))


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No test knows what another was given."""
    comm.remember(UID, CONNECTION)
    yield
    credentials._kept.pop(UID, None)
    credentials._first_due.pop(UID, None)
    comm._connections.pop(UID)


@pytest.fixture(scope="module")
def secrets() -> ClusterSecrets:
    return certificates.make_cluster_credentials(UID, now=now(), lifetime_s=3600)


def now() -> int:
    return int(time.time() * 1000)


def signed(secrets: ClusterSecrets, ttl_s: float, renew_in_s: float) -> ClusterCredentials:
    """Return a client's credentials as the gateway signs them."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    certificate, _ = certificates.sign_client(
        secrets, public.decode(), user="alice", now=now(), ttl_s=ttl_s
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    authority = secrets.ca_certificate.decode()
    began = time.time()
    return ClusterCredentials(
        certificate,
        private.decode(),
        authority,
        wire.server_name(UID),
        began + renew_in_s,
        began + ttl_s,
    )


@asynccontextmanager
async def scheduler(secrets: ClusterSecrets, directory: pathlib.Path) -> AsyncIterator[str]:
    """Something that greets whoever proves to be a client of the cluster; its address, as Dask
    gives it to a connector."""
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cadata=secrets.ca_certificate.decode()
    )
    context.verify_mode = ssl.CERT_REQUIRED
    file = directory / "scheduler.pem"
    file.write_bytes(secrets.scheduler_certificate + secrets.scheduler_key)
    context.load_cert_chain(file)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with listening(greet, ssl=context) as port:
        yield f"127.0.0.1:{port}/{UID}"


async def greeted(address: str, given: ClusterCredentials) -> bytes:
    """Return what the scheduler says to a connection with the credentials that Dask keeps."""
    made = await GatewayConnector().connect(address, ssl_context=given.ssl_context())
    async with asyncio.timeout(5):
        said: bytes = await made.stream.read_bytes(5)  # type: ignore[union-attr]
    made.abort()
    return said


async def test_a_client_that_outlives_its_certificate_connects_with_a_new_one(
    secrets: ClusterSecrets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "obtain", lambda *_: signed(secrets, 600, 400))
    given = signed(secrets, -1, -1)
    credentials.remember(UID, given)
    async with scheduler(secrets, tmp_path) as address:
        assert await greeted(address, given) == b"hello"
        # renewed is what was renewed, Dask's own still is not
        assert await greeted(address, given) == b"hello"


async def test_a_certificate_that_is_due_serves_on_while_the_gateway_gives_no_other(
    secrets: ClusterSecrets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refused(*_: object) -> ClusterCredentials:
        asked.append(1)
        raise errors.Unavailable("the server is away", code="UNAVAILABLE")

    monkeypatch.setattr(credentials, "obtain", refused)
    given = signed(secrets, 600, -1)
    credentials.remember(UID, given)
    async with scheduler(secrets, tmp_path) as address:
        assert await greeted(address, given) == b"hello"
        assert await greeted(address, given) == b"hello"
    assert len(asked) == 1  # not at each connection: each would wait for an answer


async def test_a_certificate_that_has_expired_is_renewed_as_soon_as_the_gateway_is_back(
    secrets: ClusterSecrets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = [errors.Unavailable("the edge is away")]

    def obtain(*_: object) -> ClusterCredentials:
        if away:
            raise away.pop()
        return signed(secrets, 600, 400)

    monkeypatch.setattr(credentials, "obtain", obtain)
    given = signed(secrets, -1, -1)
    credentials.remember(UID, given)
    async with scheduler(secrets, tmp_path) as address:
        with pytest.raises(OSError, match="the edge is away"):
            await greeted(address, given)
        assert await greeted(address, given) == b"hello"  # Dask tries for half a minute


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (errors.Unavailable("the server is away"), False),
        (errors.DeadlineExceeded("late"), False),
        (errors.Overloaded("too much"), False),
        (errors.GatewayError("what is this"), False),
        (errors.ClusterNotFound("no such cluster"), True),
        (errors.AuthenticationFailed("who are you"), True),
    ],
)
async def test_credentials_that_are_not_to_be_had_are_told_in_words_that_dask_knows(
    error: errors.GatewayError, final: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> ClusterCredentials:
        raise error

    monkeypatch.setattr(credentials, "obtain", fails)
    # Dask lets everything else through to the user, and ends its own loops
    with pytest.raises(OSError, match=str(error)) as told:
        await GatewayConnector().connect(f"127.0.0.1:9/{UID}")
    assert isinstance(told.value, FatalCommClosedError) is final
