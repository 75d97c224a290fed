"""A real Keycloak in a private directory, on a free port of 127.0.0.1, with a realm of its own; and
somebody who fills in its forms."""

from __future__ import annotations

import contextlib
import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from yarl import URL

from tests.parts import end, missing, program
from tests.ports import free_port
from tests.waiting import until

CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
PARTS = pathlib.Path(CACHE) / "daskgateway" / "parts" / "keycloak"
INSTALL = "scripts/install_parts.sh"
REALM = "main"
ADMIN, ADMIN_PASSWORD = "root-of-keycloak", "a password of Keycloak's admin"
START_S = 400.0
AUDIENCE = {
    "name": "audience",
    "protocol": "openid-connect",
    "protocolMapper": "oidc-audience-mapper",
    "config": {"included.custom.audience": "dask-gateway", "access.token.claim": "true"},
}
GROUPS = {
    "name": "groups",
    "protocol": "openid-connect",
    "protocolMapper": "oidc-group-membership-mapper",
    "config": {"claim.name": "groups", "full.path": "true", "access.token.claim": "true"},
}


def person_of_realm(user: str, *groups: str) -> dict[str, Any]:
    """Return somebody as a realm's file has it."""
    return {
        "username": user,
        "enabled": True,
        "email": f"{user}@example.org",
        "emailVerified": True,
        "firstName": user.title(),
        "lastName": "Example",
        "credentials": [{"type": "password", "value": password(user), "temporary": False}],
        "groups": list(groups),
        "realmRoles": [f"default-roles-{REALM}"],  # which whoever is made in the console has
    }


def password(user: str) -> str:
    """Return somebody's password."""
    return f"a password of {user}'s: %+"


def client_of_realm(name: str, *mappers: Any, **more: Any) -> dict[str, Any]:
    """Return another program than the gateway's, whose users type their passwords there."""
    given = {"clientId": name, "publicClient": True, "directAccessGrantsEnabled": True}
    return {**given, "protocolMappers": list(mappers), **more}


REALM_FILE = {
    "realm": REALM,
    "enabled": True,
    "accessTokenLifespan": 600,  # s
    "revokeRefreshToken": True,  # a refresh token is good once
    "oauth2DevicePollingInterval": 1,  # s
    "groups": [{"name": "researchers"}, {"name": "dask-admins"}, {"name": "guests"}],
    "users": [
        person_of_realm("alice", "/researchers"),
        person_of_realm("carol", "/researchers", "/dask-admins"),
        person_of_realm("guest", "/guests"),
    ],
    "clients": [
        client_of_realm("notebooks", AUDIENCE, GROUPS),
        client_of_realm("elsewhere", GROUPS),  # whose tokens are not for the gateway
        {
            "clientId": "patient-cli",
            "publicClient": True,
            "standardFlowEnabled": False,
            "attributes": {
                "oauth2.device.authorization.grant.enabled": "true",
                "oauth2.device.polling.interval": "30",
            },
        },
        {
            "clientId": "unlisted-job",
            "secret": "a secret of a job that nobody has listed",
            "standardFlowEnabled": False,
            "serviceAccountsEnabled": True,
            "protocolMappers": [AUDIENCE],
        },
    ],
}


class Keycloak:
    """A Keycloak that is ours alone."""

    def __init__(self, directory: pathlib.Path) -> None:
        if not (PARTS / "installed.xml").is_file():
            missing("Keycloak", INSTALL)
        program("java", INSTALL)
        self.directory = directory
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.issuer = f"{self.address}/realms/{REALM}"
        self._process: subprocess.Popen[bytes] | None = None
        self._lay()

    def _lay(self) -> None:
        """Make its directory: what it writes is its own, what it only reads stays in the cache."""
        for name in ("lib", "providers", "themes"):
            (self.directory / name).symlink_to(PARTS / name)
        for name in ("bin", "conf"):
            shutil.copytree(PARTS / name, self.directory / name)
        folder = self.directory / "data" / "import"
        folder.mkdir(parents=True)
        (folder / f"{REALM}-realm.json").write_text(json.dumps(REALM_FILE))

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers; what it knew it knows again."""
        if self._process is not None and self._process.poll() is None:
            return
        words = [
            str(self.directory / "bin" / "kc.sh"),
            "start",
            "--optimized",
            "--http-enabled=true",
            "--http-host=127.0.0.1",
            f"--http-port={self.port}",
            "--hostname-strict=false",
            "--cache=local",
            "--import-realm",
        ]
        environment = {
            "KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN,
            "KC_BOOTSTRAP_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx384m",
            "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                words,
                cwd=self.directory,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        give_up_at = time.monotonic() + START_S
        while True:
            told = self._log.read_text(errors="replace")[-3000:]
            assert self._process.poll() is None, told
            assert time.monotonic() < give_up_at, told
            with contextlib.suppress(OSError):
                where = f"{self.issuer}/.well-known/openid-configuration"
                with urllib.request.urlopen(where, timeout=30):
                    return
            time.sleep(0.2)

    @property
    def _log(self) -> pathlib.Path:
        return self.directory / "keycloak.log"

    def stop(self) -> None:
        """End it as an administrator does; by force if it does not."""
        end(self._process, group=True)

    def kcadm(self, home: pathlib.Path) -> dict[str, str]:
        """Return the environment in which its administrator's command works, whose sign-in is kept
        in a directory."""
        return {
            "PATH": f"{self.directory / 'bin'}:{os.environ.get('PATH', '')}",
            "KC_CLI_PASSWORD": ADMIN_PASSWORD,
            "JAVA_OPTS": f"-Xmx128m -Duser.home={home}",
        }

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Have an administrator do something by REST; return what is answered."""
        form = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": ADMIN,
            "password": ADMIN_PASSWORD,
        }
        token = self.token(form, "master")["access_token"]
        request = urllib.request.Request(
            f"{self.address}/admin/realms/{REALM}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = answer.read()
        return json.loads(told) if told else None

    def token(self, form: dict[str, str], realm: str = REALM) -> dict[str, Any]:
        """Return what is given for a grant; urllib's HTTPError if it is refused."""
        where = f"{self.address}/realms/{realm}/protocol/openid-connect/token"
        with urllib.request.urlopen(where, urlencode(form).encode(), timeout=60) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    def tokens(self, user: str, client: str = "notebooks", scope: str = "openid") -> dict[str, Any]:
        """Return what another program has for somebody who signed in there."""
        return self.token(
            {
                "grant_type": "password",
                "client_id": client,
                "username": user,
                "password": password(user),
                "scope": scope,
            }
        )

    def logged_out(self, user: str) -> None:
        """Have an administrator log somebody out. Keycloak counts that in whole seconds: what it
        has given within the present one would hold, so that has to pass."""
        second = int(time.time())
        until(lambda: int(time.time()) > second, "the second is over")
        [found] = self.admin("GET", f"/users?exact=true&username={user}")
        self.admin("POST", f"/users/{found['id']}/logout")


@contextlib.asynccontextmanager
async def browser(keycloak: Keycloak) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody's browser; cookies of this machine's pages count as encrypted, as in real ones."""
    jar = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=URL(keycloak.address).origin())
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield session


def filled(body: str, user: str) -> dict[str, str]:
    """Return a form's fields as somebody fills them in, who says yes."""
    form = {}
    for one in re.findall(r"<(?:input|button)\b([^>]*)>", body):
        words = dict(re.findall(r'([\w-]+)="([^"]*)"', one))
        if "name" in words and words.get("type") != "checkbox" and words["name"] != "cancel":
            form[words["name"]] = html.unescape(words.get("value", ""))
    if "username" in form:
        form |= {"username": user, "password": password(user)}
    return form


@pytest.fixture(scope="module")
def started_keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    """A Keycloak for a module's tests."""
    made = Keycloak(tmp_path_factory.mktemp("keycloak"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def keycloak(started_keycloak: Keycloak) -> Keycloak:
    """It, and it runs."""
    started_keycloak.start()
    return started_keycloak
