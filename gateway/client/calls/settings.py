"""Where the gateway is and who calls, out of arguments, Dask's configuration (key `gateway`) and
the environment."""

from __future__ import annotations

import os
import pathlib
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import dask.config
from dask.utils import parse_timedelta

from gateway.client.calls import errors
from gateway.networks import is_loopback
from gateway.wire import DEFAULT_PORT, basic_credentials, host_port

DEFAULTS = {
    "gateway": {
        # http://host:port, https://host:port/prefix or unix:/path; env DASK_GATEWAY__ADDRESS
        "address": None,
        "proxy-address": None,  # host:port of the edge, where it differs from what the server tells
        # whether credentials may be sent to http:// beyond this machine, in clear text
        "insecure-ok": False,
        "ca-file": None,  # CA bundle that https is verified by; None: the system's
        # grpc, or http where only HTTP/1.1 passes; auto: gRPC, and HTTP where that does not pass
        "transport": "auto",
        # always, never; auto: a WebSocket to the scheduler where a direct connection does not pass
        "tunnel": "auto",
        "request-timeout": "30s",
        "retry-for": "30s",  # how long a call is tried again while the gateway does not answer
        "auth": {
            "token": None,
            "token-file": "~/.config/daskgateway/token",
            "user": None,
            "password": None,
        },
        "cluster": {"options": {}, "shutdown-on-close": True, "start-timeout": "5 minutes"},
    }
}
dask.config.update_defaults(DEFAULTS)


class Auth:
    """Says who calls, as the value of an `authorization` header; empty for nobody."""

    def header(self) -> str:
        """Return the header's value."""
        return ""


class BasicAuth(Auth):
    """A user with a password."""

    def __init__(self, user: str, password: str = "") -> None:
        self.user, self._password = user, password

    def header(self) -> str:
        """Return the header's value."""
        return basic_credentials(self.user, self._password)

    def __repr__(self) -> str:
        return f"BasicAuth({self.user!r})"


class TokenAuth(Auth):
    """An API token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def header(self) -> str:
        """Return the header's value."""
        return f"Bearer {self._token}"

    def __repr__(self) -> str:
        return "TokenAuth()"


@dataclass(frozen=True)
class Settings:
    """Everything a connection needs."""

    address: str
    auth: Auth
    ca_file: str | None = None
    transport: str = "auto"
    timeout_s: float = 30.0
    retry_s: float = 30.0
    insecure_ok: bool = False

    def authorization(self) -> str:
        """Return the `authorization` header, empty for nobody; InsecureAddress if it would travel
        in clear text unasked."""
        header = self.auth.header()
        if header:
            self.check_clear_text()
        return header

    def check_clear_text(self) -> None:
        """Raise InsecureAddress if what is sent could be read on the way, and that was not
        permitted."""
        if self.insecure_ok or not in_clear_text(self.address):
            return
        raise errors.InsecureAddress(
            f"{self.address} is reached without TLS: your password or token would travel in clear"
            f" text and was not sent. Use its"
            " https:// address; or, if nobody can listen on the way, set gateway.insecure-ok in"
            " Dask's configuration, or"
            " DASKGATEWAY_INSECURE_OK=true",
            code="FAILED_PRECONDITION",
        )

    @property
    def secure(self) -> bool:
        """Whether TLS is used."""
        return self.address.startswith("https://")

    @property
    def host_port(self) -> tuple[str, int]:
        """Host and port of an http or https address."""
        parts = urlsplit(self.address)
        return parts.hostname or "localhost", parts.port or (443 if self.secure else DEFAULT_PORT)

    @property
    def prefix(self) -> str:
        """The path in an http or https address, such as /services/daskgateway; empty for none."""
        return "" if self.address.startswith("unix:") else urlsplit(self.address).path


def load(address: str | None = None, auth: Auth | str | tuple[str, str] | None = None) -> Settings:
    """Return settings; arguments win over configuration. ValueError says what is missing or
    wrong."""
    chosen = address or configured("address") or os.environ.get("DASKGATEWAY_ADDRESS")
    if not chosen:
        raise ValueError(
            "where is the gateway? give its address, or set gateway.address in Dask's"
            " configuration or DASKGATEWAY_ADDRESS"
        )
    transport = str(configured("transport") or "auto")
    if transport not in ("auto", "grpc", "http"):
        raise ValueError(f"gateway.transport must be auto, grpc or http, not {transport!r}")
    where = normalized(str(chosen))
    if transport == "grpc" and not where.startswith("unix:") and urlsplit(where).path:
        raise ValueError(
            f"gateway.transport: gRPC knows no path, but the gateway's address is {where}; set"
            f" auto or http"
        )
    found = Settings(
        address=where,
        auth=resolve_auth(auth),
        ca_file=configured("ca-file"),
        transport=transport,
        timeout_s=parse_timedelta(configured("request-timeout") or "30s"),
        retry_s=parse_timedelta(configured("retry-for") or "30s"),
        insecure_ok=_insecure_ok(),
    )
    if type(found.auth) is not Auth:
        found.check_clear_text()  # at once, not with the first call
    return found


def _insecure_ok() -> bool:
    value = configured("insecure-ok") or os.environ.get("DASKGATEWAY_INSECURE_OK") or False
    word = str(value).strip().lower()
    if word not in ("true", "1", "yes", "false", "0", "no"):
        raise ValueError(
            f"gateway.insecure-ok, or DASKGATEWAY_INSECURE_OK, must be true or false, not {value!r}"
        )
    return word in ("true", "1", "yes")


def in_clear_text(address: str) -> bool:
    """Whether what is sent to a gateway's address leaves this machine, and without TLS."""
    return address.startswith("http://") and not is_loopback(urlsplit(address).hostname or "")


def configured(name: str) -> Any:
    """Return a value of Dask's configuration below `gateway`, under either spelling: variables of
    the environment have no hyphens."""
    return dask.config.get(f"gateway.{name}", None)


def normalized(address: str) -> str:
    """Return an address as `scheme://host:port`, with a prefix behind where it has one, or
    `unix:/path`; ValueError if it is none."""
    if address.startswith("unix:"):
        return address
    parts = urlsplit(address if "://" in address else f"http://{address}")
    scheme = "http" if parts.scheme == "dgw" else parts.scheme
    if scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(
            f"not a gateway's address: {address!r}; it looks like https://host or"
            f" http://host:{DEFAULT_PORT}"
        )
    port = parts.port or (443 if scheme == "https" else DEFAULT_PORT)
    prefix = "" if parts.scheme == "dgw" else parts.path.rstrip("/")
    return f"{scheme}://{host_port(parts.hostname, port)}{prefix}"


def resolve_auth(auth: Auth | str | tuple[str, str] | None = None) -> Auth:
    """Return who calls: the argument (an Auth, a token, or user and password), else configuration,
    environment, token file."""
    if isinstance(auth, Auth):
        return auth
    if isinstance(auth, str):
        return TokenAuth(auth)
    if isinstance(auth, tuple):
        return BasicAuth(*auth)
    config = dask.config.get("gateway.auth", {}) or {}
    if token := config.get("token") or os.environ.get("DASKGATEWAY_TOKEN"):
        return TokenAuth(str(token))
    user = config.get("user") or os.environ.get("DASKGATEWAY_USER")
    password = config.get("password") or os.environ.get("DASKGATEWAY_PASSWORD")
    if user or password:
        return BasicAuth(str(user or current_user()), str(password or ""))
    return _from_file(configured("auth.token-file")) or Auth()


def _from_file(path: str | None) -> Auth | None:
    if not path:
        return None
    try:
        token = pathlib.Path(path).expanduser().read_text().strip()
    except OSError:
        return None
    return TokenAuth(token) if token else None


def current_user() -> str:
    """Return the name of whoever runs this process."""
    import getpass

    return getpass.getuser()


def with_address(settings: Settings, address: str) -> Settings:
    """Return the settings for another address."""
    return replace(settings, address=normalized(address))
