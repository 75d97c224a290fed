"""A gateway with every kind of door, and somebody who goes through each: no secret that was issued
on the way stands afterwards in a log, an error, a command line, an environment, the database, a
file that all may read, or the metrics."""

from __future__ import annotations

import asyncio
import json
import pathlib
import secrets
import sqlite3
from collections.abc import AsyncIterator, Iterator
from http.cookies import SimpleCookie
from importlib.metadata import entry_points
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import aiohttp
import grpc
import pytest
from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc as stubs
from distributed import Client
from yarl import URL

from gateway import Gateway, GatewayCluster
from gateway.authenticators.password import hash_password
from gateway.client.calls import grants, kerberos
from gateway.server.edge.record import read_record
from gateway.server.security.secrets import Keyring
from gateway.wire import basic_credentials
from tests.canary import searching
from tests.e2e.gateway_process import GatewayProcess
from tests.parts import missing
from tests.parts.client_certificates import Authority, uri
from tests.parts.jupyterhub import Hub, started_hub
from tests.parts.kerberos import REALM, Realm, realm
from tests.parts.oidc_provider import AUDIENCE, OpenIDProvider, started_provider, walk, wired
from tests.parts.slapd import PEOPLE, ROOT, ROOT_PASSWORD, Slapd, slapd
from tests.ports import free_port

__all__ = ["realm", "slapd", "started_hub", "started_provider"]
pytestmark = pytest.mark.timeout(900)
USER, CLIENT = "alice", "gateway-login"
PERSON, ROBOTS = "carol", "localhost"  # of the directory; where certificates are shown
CALLS = "daskgateway.v1.CredentialService"


def pem_line(key: pathlib.Path) -> str:
    """Return a line of a key's file that no other key has: the first is alike in all keys."""
    return key.read_text().splitlines()[2]


class Place:
    """The gateway, and every secret that is known of it, by what it is."""

    def __init__(
        self,
        directory: pathlib.Path,
        hub: Hub,
        oidc: OpenIDProvider,
        realm: Realm,
        people: Slapd,
    ):
        self.hub, self.oidc, self.realm, self.people = hub, oidc, realm, people
        self.robots, site = Authority(directory, "robots"), Authority(directory, "site")
        self.site, shown, self.certificates = site.pem, site.server(ROBOTS), free_port()
        self.password, self.metrics = secrets.token_urlsafe(16), free_port()
        self.client_secret = secrets.token_urlsafe(24)
        self.secrets = {
            "the password": self.password,
            "the pair of name and password": f"{USER}:{self.password}",
            "the Hub's token of the gateway": hub.service,
            "the secret at the provider": self.client_secret,
            "the password of the gateway in the directory": ROOT_PASSWORD,
            "the key of the listener for certificates": pem_line(shown.key),
        }
        self.errors: list[str] = []
        self.gateway = GatewayProcess(
            directory,
            "c.DaskGateway.authenticators = ['password', 'oidc', 'jupyterhub', 'kerberos',"
            " 'ldap', 'mtls']",
            "c.DaskGateway.same_people = True",
            f"c.DaskGateway.user_name = {{'kerberos': '{{user}}@{REALM}', 'mtls':"
            f" {uri('{user}')!r}}}",
            "c.DaskGateway.log_level = 'DEBUG'",
            "c.Proxy.trusted_proxies = ['127.0.0.1']",
            f"c.Proxy.admin_address = '127.0.0.1:{self.metrics}'",
            f"c.PasswordAuthenticator.users = {{{USER!r}: {hash_password(self.password)!r}}}",
            f"c.OIDCAuthenticator.issuer = {oidc.issuer!r}",
            f"c.OIDCAuthenticator.audience = {AUDIENCE!r}",
            f"c.OIDCAuthenticator.client_id = {CLIENT!r}",
            f"c.OIDCAuthenticator.client_secret = {self.client_secret!r}",
            "c.OIDCAuthenticator.scopes = ['openid']",
            "c.OIDCAuthenticator.device_client_id = 'cli'",
            f"c.JupyterHubAuthenticator.api_url = {hub.api!r}",
            f"c.JupyterHubAuthenticator.api_token = {hub.service!r}",
            f"c.KerberosAuthenticator.keytab = {str(realm.keytab)!r}",
            f"c.LdapAuthenticator.url = {people.tls_url!r}",
            f"c.LdapAuthenticator.ca_file = {str(people.ca_file)!r}",
            f"c.LdapAuthenticator.bind_dn = {ROOT!r}",
            f"c.LdapAuthenticator.bind_password_file = {str(people.password_file)!r}",
            f"c.LdapAuthenticator.user_base = {PEOPLE!r}",
            f"c.MutualTlsAuthenticator.address = '127.0.0.1:{self.certificates}'",
            f"c.MutualTlsAuthenticator.server_name = {ROBOTS!r}",
            f"c.MutualTlsAuthenticator.tls_cert = {str(shown.cert)!r}",
            f"c.MutualTlsAuthenticator.tls_key = {str(shown.key)!r}",
            f"c.MutualTlsAuthenticator.client_ca = {str(self.robots.path)!r}",
        )
        self.gateway.config.chmod(0o600)

    @property
    def address(self) -> str:
        """Where users reach it."""
        return self.gateway.address

    def knows(self, what: str, secret: str) -> str:
        """Remember a secret; return it."""
        assert secret, f"{what} is empty"
        self.secrets[what] = secret
        return secret

    async def call(self, method: str, authorization: str, body: object = None) -> dict[str, str]:
        """Make a call; what is told of it is searched, unless it is what was asked for."""
        async with aiohttp.ClientSession() as session:
            url = f"{self.address}/{method}"
            headers = {"Authorization": authorization}
            async with session.post(url, json=body or {}, headers=headers) as answer:
                text = await answer.text()
                if answer.status != 200:
                    self.errors.append(f"{dict(answer.headers)} {text}")
                    return {}
        told: dict[str, str] = json.loads(text)
        return told

    async def who(self, authorization: str) -> str:
        """Return who credentials belong to, empty if they are refused."""
        return (await self.call(f"{CALLS}/WhoAmI", authorization)).get("user", "")

    def processes(self) -> list[int]:
        """Return the pids of server, edge, schedulers and workers."""
        edge = read_record(self.gateway.directory / "state" / "edge.json")
        assert edge is not None
        assert self.gateway.process is not None
        server = self.gateway.process.pid
        return [server, edge.pid, *searching.children(server), *self.gateway.processes()]


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    started_hub: Hub,
    started_provider: OpenIDProvider,
    realm: Realm,
    slapd: Slapd,
) -> Iterator[Place]:
    """A gateway with six doors, and the gateway's own tokens."""
    there = {one.name for one in entry_points(group="gateway.authenticators")}
    if not {"jupyterhub", "kerberos", "ldap", "mtls", "oidc"} <= there:
        missing("an authenticator's entry point", "pip install -e '.[test]'")
    asyncio.run(started_hub.answering())
    made = Place(tmp_path_factory.mktemp("canary"), started_hub, started_provider, realm, slapd)
    try:
        made.gateway.start()
        yield made
    finally:
        made.gateway.end()


@pytest.fixture
async def provider(place: Place) -> AsyncIterator[OpenIDProvider]:
    """The provider, which knows the gateway and alice."""
    async with wired(place.oidc):
        await place.oidc.order(
            "client",
            client_id=CLIENT,
            client_secret=place.client_secret,
            grant_types=["authorization_code"],
            response_types=["code"],
            redirect_uris=[f"{place.address}/login/oidc/callback"],
        )
        await place.oidc.order("people", user=USER, groups=[])
        yield place.oidc


async def by_password(place: Place) -> None:
    """Sign in by a password; make a token and sessions, use them, revoke one of each."""
    basic = basic_credentials(USER, place.password)
    place.knows("the header of the password", basic.partition(" ")[2])
    assert await place.who(basic) == USER
    guess = place.knows("a wrong password", secrets.token_urlsafe(12))
    assert await place.who(basic_credentials(USER, guess)) == ""
    for kept in ("that stays", "that is taken back"):
        token = await place.call(f"{CALLS}/CreateToken", basic, {"displayName": kept})
        secret = place.knows(f"the API token {kept}", token["secret"])
        assert await place.who(f"Bearer {secret}") == USER
        session = await place.call(f"{CALLS}/CreateSession", basic, {"displayName": kept})
        text = place.knows(f"the session's token {kept}", session["secret"])
        assert await place.call(f"{CALLS}/RenewSession", f"Bearer {text}")
    await place.call(f"{CALLS}/EndSession", f"Bearer {text}")
    assert await place.who(f"Bearer {text}") == ""


async def by_the_directory(place: Place) -> None:
    """Sign in by a password of the directory, and with one that is wrong; go on by a session."""
    word = place.knows("the password in the directory", secrets.token_urlsafe(16))
    await asyncio.to_thread(place.people.add, PERSON, word)
    basic = basic_credentials(PERSON, word)
    place.knows("the header of the password in the directory", basic.partition(" ")[2])
    assert await place.who(basic) == PERSON
    guess = place.knows("a wrong password for the directory", secrets.token_urlsafe(12))
    assert await place.who(basic_credentials(PERSON, guess)) == ""
    made = await place.call(f"{CALLS}/CreateSession", basic)
    session = place.knows("the session's token of the directory", made["secret"])
    assert await place.who(f"Bearer {session}") == PERSON


async def by_a_certificate(place: Place) -> None:
    """Sign in by a certificate, make a token by it, and show one of somebody else's authority."""
    robot = place.robots.robot(uri("nightly"))
    place.knows("the key of the certificate", pem_line(robot.key))
    credentials = grpc.ssl_channel_credentials(place.site, robot.key.read_bytes(), robot.chain)
    target = f"{ROBOTS}:{place.certificates}"
    async with grpc.aio.secure_channel(target, credentials) as channel:
        stub = stubs.CredentialServiceStub(channel)
        told = await stub.WhoAmI(pb.WhoAmIRequest(), timeout=60)
        assert told.user == "nightly"
        made = await stub.CreateToken(pb.CreateTokenRequest(), timeout=60)
    secret = place.knows("the API token of the certificate", made.secret)
    assert await place.who(f"Bearer {secret}") == "nightly"


async def by_the_hub(place: Place) -> None:
    """Sign in by the Hub's token, which is then revoked."""
    await place.hub.change(USER, admin=False, groups=())
    number, token = await place.hub.token(USER)
    assert await place.who(f"Bearer {place.knows('the token of the Hub', token)}") == USER
    await place.hub.ask("DELETE", f"users/{USER}/tokens/{number}")


async def by_a_ticket(place: Place) -> None:
    """Sign in by a Kerberos ticket, shown twice, and go on by a session."""
    cache = place.realm.cache(USER)
    service = f"HTTP@{urlsplit(place.address).hostname}"
    shake = await asyncio.to_thread(kerberos.handshake, service, ccache=cache, timeout_s=60)
    place.knows("the Kerberos token", shake.header.partition(" ")[2])
    made = await place.call(f"{CALLS}/CreateSession", shake.header)
    session = place.knows("the session's token of the ticket", made["secret"])
    place.knows("the gateway's own proof", made["authenticate"].partition(" ")[2])
    assert await place.who(f"Bearer {session}") == USER
    assert await place.who(shake.header) == ""


async def by_a_browser(place: Place, browser: aiohttp.ClientSession) -> None:
    """Sign in at the provider's page; come back with a wrong state first."""
    callback = f"{place.address}/login/oidc/callback"
    async with browser.get(f"{place.address}/login/oidc/begin", allow_redirects=False) as answer:
        where = answer.headers["Location"]
    asked = parse_qs(urlsplit(where).query)
    for name in ("state", "nonce"):
        place.knows(f"the {name}", asked[name][0])
    sealed = next(one for one in browser.cookie_jar if one.key == "daskgateway_begun")
    place.knows("the cookie of a login that is begun", sealed.value)
    back = await walk(browser, where, USER, (callback,))
    right = dict(parse_qsl(urlsplit(back).query))
    place.knows("the code", right["code"])
    headers = {"Cookie": f"daskgateway_begun={sealed.value}"}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as other:
        for wrong in ({**right, "state": "another"}, {**right, "iss": "https://x.example.org"}):
            async with other.get(URL(callback).with_query(wrong), headers=headers) as answer:
                assert answer.status == 403
                place.errors.append(f"{dict(answer.headers)} {await answer.text()}")
    async with browser.get(URL(back, encoded=True)) as answer:
        assert "signed in as" in await answer.text()
    login = next(one for one in browser.cookie_jar if one.key == "daskgateway_login")
    place.knows("the cookie of a browser's session", login.value)
    async with browser.get(URL(back, encoded=True)) as answer:
        assert answer.status == 403
        place.errors.append(f"{dict(answer.headers)} {await answer.text()}")


async def by_a_code(place: Place, browser: aiohttp.ClientSession) -> None:
    """Sign in by a code that is entered in a browser, and renew that."""
    program = grants.Program(place.oidc.issuer, "cli", "openid offline_access")
    code = await asyncio.to_thread(grants.device_code, program)
    place.knows("the device's code", code.device_code)
    place.knows("the code that is entered", code.user_code)
    place.knows("the device's verifier", code.verifier)
    await walk(browser, code.address_with_code, USER)
    grant = await asyncio.to_thread(grants.entered, program, code)
    place.knows("the refresh token", grant.refresh_token)
    token = place.knows("the provider's access token", grant.access_token)
    assert await place.who(f"Bearer {token}") == USER
    fresh = await asyncio.to_thread(grants.renewed, program, grant.refresh_token)
    place.knows("the second refresh token", fresh.refresh_token)
    place.knows("the second access token", fresh.access_token)
    assert await place.who(f"Bearer {fresh.access_token}") == USER


async def dashboards(place: Place, browser: aiohttp.ClientSession, gateway: Gateway) -> None:
    """Open a dashboard by a ticket, twice, and by the browser's session."""
    link = await asyncio.to_thread(gateway.dashboard_url, "seen")
    place.knows("the ticket", parse_qs(urlsplit(link).query)["ticket"][0])
    for status in (303, 401):
        async with browser.get(URL(link, encoded=True), allow_redirects=False) as answer:
            assert answer.status == status
            if status == 401:
                place.errors.append(f"{dict(answer.headers)} {await answer.text()}")
            else:
                kept = SimpleCookie(answer.headers["Set-Cookie"])
                place.knows("the dashboard's cookie", next(iter(kept.values())).value)
    path = urlsplit(link).path
    async with browser.get(f"{place.address}/login?next={quote(path)}") as answer:
        assert answer.status == 200


async def wrongly(place: Place) -> None:
    """Show every secret where it does not belong."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as other:
        for number, secret in enumerate(list(place.secrets.values())):
            # each from an address of its own: where many fail, refusals come late
            origin = {"X-Forwarded-For": f"192.0.2.{number + 1}"}
            quoted = quote(secret, safe="")
            for where, headers, body in (
                (f"{CALLS}/WhoAmI", {"Authorization": f"Bearer {secret}x"}, {}),
                (f"{CALLS}/WhoAmI", {"Authorization": f"Basic {quoted}"}, {}),
                (f"{CALLS}/WhoAmI", {"Authorization": f"Negotiate {quoted}"}, {}),
                (f"{CALLS}/WhoAmI", {"Authorization": f"Digest {quoted}"}, {}),
                (f"{CALLS}/WhoAmI", {}, {"token": secret}),
                (f"daskgateway.v1.ClusterService/{quoted}", {}, {}),
                ("login/oidc/callback", {"Cookie": f"daskgateway_begun={quoted}"}, None),
                (f"login/oidc/callback?state={quoted}&code={quoted}", {}, None),
                (f"login?next={quoted}", {"Cookie": f"daskgateway_login={quoted}"}, None),
                (f"login/{quoted}/begin", {}, None),
            ):
                method = "GET" if body is None else "POST"
                url = URL(f"{place.address}/{where}", encoded=True)
                async with other.request(
                    method, url, headers=headers | origin, json=body
                ) as answer:
                    if quoted not in where:  # an address is told back to who has sent it
                        place.errors.append(f"{dict(answer.headers)} {await answer.text()}")


def of_the_cluster(place: Place) -> None:
    """Get to know what the gateway itself keeps secret."""
    state = place.gateway.directory / "state"
    place.knows("the key of the database", (state / "encryption.key").read_text().strip())
    place.knows("the edge's token", (state / "edge.token").read_text().strip())
    keyring = Keyring.load(state / "encryption.key")
    database = sqlite3.connect(f"file:{state / 'gateway.db'}?mode=ro", uri=True)
    rows = database.execute("SELECT uid, sealed FROM secret").fetchall()
    database.close()
    assert rows
    for uid, sealed in rows:
        kept = keyring.unseal(sealed)
        place.knows(f"the agent's token of {uid}", kept.agent_token)
        for name in ("ca_key", "scheduler_key", "worker_key"):
            # the second line of a PEM; the first of the key itself is alike in all keys
            place.knows(f"{name} of {uid}", getattr(kept, name).decode().splitlines()[2])


async def test_no_secret_that_was_issued_is_anywhere_it_does_not_belong(
    place: Place, provider: OpenIDProvider
) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    with searching.command_lines() as lines:
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            await by_password(place)
            await by_the_directory(place)
            await by_a_certificate(place)
            await by_the_hub(place)
            await by_a_ticket(place)
            await by_a_browser(place, browser)
            await by_a_code(place, browser)
            gateway = Gateway(place.address, auth=(USER, place.password))
            cluster = await asyncio.to_thread(
                lambda: GatewayCluster("seen", gateway=gateway, n_workers=1)
            )
            try:

                def computed() -> int:
                    with Client(cluster) as client:
                        return int(client.submit(sum, [1, 2, 3]).result(120))

                assert await asyncio.to_thread(computed) == 6
                await dashboards(place, browser, gateway)
                of_the_cluster(place)
                await wrongly(place)
                environments = searching.environments(place.processes())
                assert len(environments) >= 5  # one asks the directory
            finally:
                await asyncio.to_thread(cluster.close)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{place.metrics}/metrics") as answer:
                metrics = await answer.read()
        root = place.gateway.directory
        places = {
            **searching.files(root, ["*.log", "*.log.*", "*.out", "*.err"]),
            **searching.open_files(root),
            **searching.database(root / "state" / "gateway.db"),
            **environments,
            **lines.seen,
            "the metrics": metrics,
            "what errors tell": "\n".join(place.errors).encode(),
        }
    assert len(place.secrets) >= 33
    assert b"daskgateway_edge_" in metrics
    assert b"WhoAmI" in places["the file server.log"]
    assert any("scheduler" in name or "worker" in name for name in places), list(places)
    assert len(place.errors) > 100
    found = searching.found_in(place.secrets, places)
    assert not found, "\n".join(found)
    for name, secret in place.secrets.items():  # each would have been found
        planted = {"the file server.log": places["the file server.log"] + secret.encode()}
        assert searching.found_in({name: secret}, planted), name
