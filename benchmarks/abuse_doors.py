"""Floods at the doors where people sign in: login pages, callbacks, tokens, tickets, directories.

And who stands for the identity providers then: an OpenID provider that knows no code, and a
directory that takes no password. `python -m benchmarks.abuse_doors HTTP_PORT LDAP_PORT`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib.util
import json
import pathlib
import random
import re
import secrets
import struct
import sys
import urllib.parse
from collections.abc import Callable, Iterator, Mapping

from cryptography.hazmat.primitives.asymmetric import ec
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credentials_pb

from benchmarks.abuse_flood import Content, Target, post, streams
from benchmarks.abuse_frames import call, head
from gateway.wire import basic_credentials

CREDENTIALS = "/daskgateway.v1.CredentialService"
AUDIENCE = "dask-gateway"
LETTERS = 60  # of what is made up


def _get(path: str, cookie: str = "") -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: x", *([f"Cookie: {cookie}"] if cookie else []), "", ""]
    return "\r\n".join(lines).encode()


def _made_up() -> str:
    return secrets.token_urlsafe(LETTERS)


def begun_logins(_: Target) -> Iterator[bytes]:
    """Logins of browsers that are begun and never finished."""
    while True:
        yield _get("/login/oidc/begin") * 5


def callbacks(_: Target) -> Iterator[bytes]:
    """Browsers that come back without having gone."""
    while True:
        query = urllib.parse.urlencode({"code": _made_up(), "state": _made_up()})
        yield _get(f"/login/oidc/callback?{query}", f"__Secure-daskgateway_begun={_made_up()}")


def codes(target: Target) -> Iterator[bytes]:
    """Codes that are guessed, in a login that was really begun."""
    with target.connect() as made:
        made.settimeout(10)
        made.sendall(_get("/login/oidc/begin"))
        told = made.recv(65_536).decode()
    cookie = re.search(r"__Secure-daskgateway_begun=[^;]+", told)
    state = re.search(r"[?&]state=([^&\s]+)", told)
    assert cookie is not None, told
    assert state is not None, told
    while True:
        query = f"code={_made_up()}&state={state[1]}"
        yield _get(f"/login/oidc/callback?{query}", cookie[0])


def login_pages(_: Target) -> Iterator[bytes]:
    """The page of who shows a session that there is not."""
    while True:
        token = f"dgw_session_{secrets.token_hex(8)}_{secrets.token_hex(20)}"
        yield _get("/login", f"__Secure-daskgateway_login={token}")


def options(_: Target) -> Iterator[bytes]:
    """By what one may sign in, which anybody may ask."""
    block = head(f"{CREDENTIALS}/GetSignInOptions")
    return streams(lambda stream: call(stream, block, credentials_pb.GetSignInOptionsRequest()))


def json_options(_: Target) -> Iterator[bytes]:
    """The same over HTTP/1.1."""
    while True:
        yield post(f"{CREDENTIALS}/GetSignInOptions", "", b"{}") * 5


def _bearers(make: Callable[[], str]) -> Iterator[bytes]:
    request = service_pb.ListClustersRequest()
    return streams(lambda stream: call(stream, head("ListClusters", make()), request), 7)


def session_tokens(_: Target) -> Iterator[bytes]:
    """Sessions that there are not."""
    return _bearers(
        lambda: f"Bearer dgw_session_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"
    )


def made_sessions(target: Target) -> Iterator[bytes]:
    """A user's sessions, as many as go."""
    block = head(f"{CREDENTIALS}/CreateSession", target.authorization)
    return streams(lambda stream: call(stream, block, credentials_pb.CreateSessionRequest()), 10)


def access_tokens(_: Target) -> Iterator[bytes]:
    """What a device login ends in: tokens of the provider, signed by keys that it has not."""
    return _bearers(_access_token)


def _access_token() -> str:
    def part(told: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()

    header = {"alg": "ES256", "kid": secrets.token_hex(4), "typ": "at+jwt"}
    claims = {
        "iss": "x",
        "aud": AUDIENCE,
        "sub": "alice",
        "iat": 4_000_000_000,
        "exp": 4_000_000_060,
    }
    return f"Bearer {part(header)}.{part(claims)}.{secrets.token_urlsafe(64)}"


def tickets(_: Target) -> Iterator[bytes]:
    """Kerberos tickets that are none, as large as they may be."""

    def ticket() -> str:
        return f"Negotiate {base64.b64encode(b'`' + secrets.token_bytes(3000)).decode()}"

    return _bearers(ticket)


def directory(_: Target) -> Iterator[bytes]:
    """Passwords of people whom the directory is asked about."""

    def guess() -> str:
        return basic_credentials(f"person{random.randrange(10_000)}", "guess")

    return _bearers(guess)


# what is sent, in how many threads, and what is agreed on
FLOODS: dict[str, tuple[Content, int, str]] = {
    **{
        flood.__name__: (flood, 10, "http/1.1")
        for flood in (begun_logins, callbacks, codes, login_pages, json_options)
    },
    **{
        flood.__name__: (flood, 10, "h2")
        for flood in (
            options,
            session_tokens,
            made_sessions,
            access_tokens,
            *([tickets] if importlib.util.find_spec("gssapi") is not None else []),
            *([directory] if importlib.util.find_spec("bonsai") is not None else []),
        )
    },
}


def configuration(directory: pathlib.Path, http: int, ldap: int, public_url: str) -> str:
    """Return lines of a gateway's configuration that has all these doors."""
    ways = ["password", "oidc"]
    lines = [
        "c.DaskGateway.same_people = True",
        f"c.DaskGateway.public_url = {public_url!r}",
        f"c.OIDCAuthenticator.issuer = 'http://127.0.0.1:{http}'",
        f"c.OIDCAuthenticator.audience = {AUDIENCE!r}",
        "c.OIDCAuthenticator.client_id = 'gateway'",
        "c.OIDCAuthenticator.device_client_id = 'cli'",
    ]
    if "tickets" in FLOODS:
        ways.append("kerberos")
        table = directory / "http.keytab"
        table.touch(mode=0o600)
        table.write_bytes(keytab("HTTP", "127.0.0.1", "BENCH.TEST"))
        lines += [
            f"c.KerberosAuthenticator.keytab = {str(table)!r}",
            f"c.KerberosAuthenticator.replay_cache = {str(directory / 'replays')!r}",
            "c.DaskGateway.user_name = {'kerberos': '{user}@BENCH.TEST'}",
        ]
    if "directory" in FLOODS:
        ways.append("ldap")
        lines += [
            f"c.LdapAuthenticator.url = 'ldap://127.0.0.1:{ldap}'",
            "c.LdapAuthenticator.user_dn = 'uid={user},ou=people,dc=example,dc=org'",
        ]
    return "\n".join([f"c.DaskGateway.authenticators = {ways!r}", *lines, ""])


def keytab(service: str, host: str, realm: str) -> bytes:
    """Return a keytab with one key (MIT krb5, format 0x0502)."""

    def counted(text: str | bytes) -> bytes:
        raw = text.encode() if isinstance(text, str) else text
        return struct.pack(">H", len(raw)) + raw

    key = struct.pack(">H", 18) + counted(secrets.token_bytes(32))  # AES-256
    name = struct.pack(">H", 2) + counted(realm) + counted(service) + counted(host)
    entry = name + struct.pack(">IIB", 1, 0, 1) + key
    return b"\x05\x02" + struct.pack(">i", len(entry)) + entry


# Who stands for the providers


def _number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(32)).rstrip(b"=").decode()


def _key() -> Mapping[str, str]:
    point = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    told = {"x": _number(point.x), "y": _number(point.y)}
    return {"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256", **told}


async def providers(http: int, ldap: int) -> None:
    """Answer for both, until this process is ended."""
    issuer, keys = f"http://127.0.0.1:{http}", {"keys": [_key()]}
    described = {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/jwks",
        "authorization_endpoint": f"{issuer}/auth",
        "token_endpoint": f"{issuer}/token",
    }

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                size = next(
                    (int(one[15:]) for one in lines if one.lower().startswith("content-length:")), 0
                )
                await reader.readexactly(size)
                path, status = lines[0].split()[1], "200 OK"
                told: object = keys if path == "/jwks" else described
                if path == "/token":
                    told, status = {"error": "invalid_grant"}, "400 Bad Request"
                body = json.dumps(told).encode()
                kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
                writer.write(f"HTTP/1.1 {status}\r\n{kind}\r\n\r\n".encode() + body)
        writer.close()

    async def people(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:  # a bind (RFC 4511): its number, and invalidCredentials
                size = (await reader.readexactly(2))[1]
                asked = await reader.readexactly(size)
                number = asked[: 2 + asked[1]]
                answer = number + bytes.fromhex("61070a013104000400")
                writer.write(b"\x30" + bytes([len(answer)]) + answer)
        writer.close()

    await asyncio.start_server(provider, "127.0.0.1", http)
    await asyncio.start_server(people, "127.0.0.1", ldap)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(providers(int(sys.argv[1]), int(sys.argv[2])))
