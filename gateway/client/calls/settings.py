"""Where the gateway is and who calls, out of arguments, Dask's configuration (key `gateway`) and
the environment."""

from __future__ import annotations

import os
import pathlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import dask.config

from gateway.client.calls import errors, identity, logins, places, reading, trust, whence
from gateway.client.calls.auths import Auth, BasicAuth, KerberosAuth, TokenAuth, current_user
from gateway.client.calls.client_certificate import MtlsAuth
from gateway.networks import is_loopback
from gateway.wire import DEFAULT_PORT, host_port

__all__ = ["Auth", "BasicAuth", "KerberosAuth", "MtlsAuth", "Settings", "TokenAuth", "load"]

DEFAULTS: dict[str, Any] = {
    "gateway": {
        # http://host:port, https://host:port/prefix or unix:/path; env DASK_GATEWAY__ADDRESS
        "address": None,
        # host:port of the edge, where it differs from what the server tells; a mere port is of the
        # gateway's own host
        "proxy-address": None,
        "public-address": None,  # below which browsers see dashboards, where that differs
        # whether HTTPS_PROXY and the like count for calls, or an HTTP proxy for them
        "http-client": {"proxy": True},
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
        "cluster": {
            "options": {},
            "shutdown-on-close": True,
            "start-timeout": "5 minutes",
            # after which a cluster ends whose process was killed; 0 for never
            "keepalive-timeout": "5 minutes",
        },
    }
}
dask.config.update_defaults(places.beside(DEFAULTS, dask.config.config))
# names that mean something; what stands below those of None is read by itself
KNOWN: dict[str, Any] = {
    **DEFAULTS["gateway"],
    "auth": None,
    "cluster": {**DEFAULTS["gateway"]["cluster"], "options": None},
}


CA_FILE = "gateway.ca-file"
ADDRESS = "DASKGATEWAY_ADDRESS"
GIVEN = "the argument address"  # where an address is from that a caller names

T = TypeVar("T")


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
    source: str = GIVEN  #: whence the address is, in words
    #: whence the credentials are
    caller: identity.Identity = field(default_factory=identity.Identity)
    proxy_address: str = ""  # host:port of the edge; empty for what the server tells
    public_address: str = ""  # below which browsers see dashboards; empty for what the server tells

    def authorization(self) -> str:
        """Return the `authorization` header of a call that uses no session, empty for nobody;
        InsecureAddress if it would travel in clear text unasked."""
        header = self.auth.sign_in(self.host).header
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
            f" DASKGATEWAY_INSECURE_OK=true. The address is from {self.source}",
            code="FAILED_PRECONDITION",
        )

    def refused(self, error: errors.AuthenticationFailed) -> errors.AuthenticationFailed:
        """Return that the gateway does not take these credentials, with whence they are."""
        told = self.caller
        if type(self.auth) is Auth:
            words = (
                "nobody is named: no credentials are given as auth=…, in Dask's configuration"
                f" ({identity.SECTION}), in {identity.TOKEN}, in {identity.USER} and"
                f" {identity.PASSWORD}, or in the token file"
            )
        else:
            source = told.source or identity.ARGUMENT
            who = f" of the user {reading.shown(told.user)}" if told.user else ""
            what = "user and password" if told.user else "credentials"
            words = f"the gateway does not accept the {what}{who}, from {source}"
            if isinstance(error, errors.UserNameRefused):
                words = f"{error} They are from {source}"
            elif error.reason == "CREDENTIALS_INVALID" and isinstance(self.auth, MtlsAuth):
                words += f": {error} Certificates are taken at the name that" + (
                    " `daskgateway sign-in-options` tells, which is not the gateway's usual one"
                )
            elif error.reason == "CREDENTIALS_INVALID":
                words += ": they are wrong, expired or revoked"
            else:
                words += f": {error}"
            if told.passed_over:
                words += f". Not used, though set: {', '.join(told.passed_over)}"
        return type(error)(
            words,
            code=error.code,
            reason=error.reason,
            violations=error.violations,
            quotas=error.quotas,
            retry_after_s=error.retry_after_s,
            metadata=error.metadata,
        )

    @property
    def host(self) -> str:
        """Host of the address; empty for a socket, which is on this machine."""
        return "" if self.address.startswith("unix:") else urlsplit(self.address).hostname or ""

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


def load(
    address: str | None = None,
    auth: object = None,
    *,
    proxy_address: str | int | None = None,
    public_address: str | None = None,
    source: str = GIVEN,
) -> Settings:
    """Return settings; arguments win over configuration. ValueError says what is missing or wrong,
    and where it stands; what means nothing in the configuration is a GatewayWarning. `source` says
    whence an address is that is given."""
    for words in places.unknown(dask.config.get("gateway", None) or {}, KNOWN):
        errors.warn(words)
    if isinstance(auth, str) and "://" in auth:
        raise ValueError(
            f"auth: {reading.shown(auth)} is an address and no token; where the edge is"
            " stands in proxy_address"
        )
    where, source = _address(address, source)
    transport = setting("transport", _transport)
    if transport == "grpc" and not where.startswith("unix:") and urlsplit(where).path:
        raise ValueError(
            f"gateway.transport: gRPC knows no path, but the gateway's address is {where}, from"
            f" {source}; set auto or http{whence.said('gateway.transport')}"
        )
    who, told = resolve_auth(auth)
    if told.open or told.way == "oidc":
        kept = logins.stored(where)
        if told.way == "oidc" and isinstance(kept, logins.StoredSession):
            kept = None
        if kept is not None and not (told.open and identity.in_hub()):
            who, told = kept, identity.Identity(source=f"{identity.LOGGED_IN} at {where}")
        elif told.way == "oidc":
            raise ValueError(
                f"oidc: nobody has signed in at {where}: `daskgateway login`, or name a program in"
                f" {identity.KWARGS} (issuer, client_id, client_secret)"
            )
    found = Settings(
        address=where,
        source=source,
        auth=who,
        caller=told,
        ca_file=_ca_file() if where.startswith("https://") else None,
        transport=transport,
        timeout_s=configured_span("request-timeout", 30.0),
        retry_s=configured_span("retry-for", 30.0),
        insecure_ok=_insecure_ok(),
        proxy_address=_place(
            "proxy-address", proxy_address, lambda *a: places.edge(a[0], where, a[1])
        ),
        public_address=_place("public-address", public_address, places.root),
    )
    if isinstance(found.auth, MtlsAuth):
        _check_certified(found)
    elif type(found.auth) is not Auth:
        found.check_clear_text()  # at once, not with the first call
    return found


def _check_certified(found: Settings) -> None:
    """Raise ValueError if a client certificate cannot be shown to where the gateway is said to
    be."""
    why = ""
    if not found.address.startswith("https://"):
        why = f"the address {found.address}, from {found.source}, is not https://"
    elif found.prefix:
        why = f"the address {found.address}, from {found.source}, has a path, and gRPC knows none"
    elif found.transport == "http":
        why = (
            f"gateway.transport is http{whence.said('gateway.transport')}, and gRPC alone shows it"
        )
    if why:
        raise ValueError(
            "a client certificate is shown in TLS by gRPC, to the name that"
            f" `daskgateway sign-in-options` tells, such as https://mtls.dask.example.org: {why}"
        )


def _address(given: str | None, source: str) -> tuple[str, str]:
    """Return the gateway's address, and whence it is."""
    found: Any = given
    if not given and (found := configured("address")):
        source = whence.place("gateway.address", dask.config.get("gateway.address"))
    if not found and (found := os.environ.get(ADDRESS)):
        source = f"the environment variable {ADDRESS}"
    if not found:
        raise ValueError(
            "where is the gateway? give its address, or set gateway.address in Dask's"
            f" configuration or {ADDRESS}"
        )
    try:
        return normalized(reading.text(found, "the gateway's address")), source
    except ValueError as error:
        raise ValueError(f"{error}. It is from {source}") from None


def _transport(value: Any, what: str) -> str:
    found = str(value or "auto")
    if found not in ("auto", "grpc", "http"):
        raise ValueError(f"{what} must be auto, grpc or http, not {reading.shown(found)}")
    return found


def setting(name: str, read: Callable[[Any, str], T]) -> T:
    """Return a value of Dask's configuration below `gateway`, as a function reads it out of the
    value and its name; its ValueError says where the value stands too."""
    try:
        return read(configured(name), f"gateway.{name}")
    except ValueError as error:
        raise ValueError(f"{error}{whence.said(f'gateway.{name}')}") from None


def _place(name: str, given: Any, read: Callable[[Any, str], str]) -> str:
    """Return an address that was given or is configured, empty where there is none."""
    if given is not None:
        return read(given, name.replace("-", "_"))
    return setting(name, lambda value, what: read(value, what) if value else "")


def _ca_file() -> str | None:
    def read(value: Any, what: str) -> str | None:
        return trust.ca_file(reading.text(value, what), what) if value else None

    return setting("ca-file", read)


def _insecure_ok() -> bool:
    if configured("insecure-ok"):
        return setting("insecure-ok", reading.truth)
    variable = "DASKGATEWAY_INSECURE_OK"
    return reading.truth(os.environ.get(variable) or False, f"the environment variable {variable}")


def in_clear_text(address: str) -> bool:
    """Whether what is sent to a gateway's address leaves this machine, and without TLS."""
    return address.startswith("http://") and not is_loopback(urlsplit(address).hostname or "")


def configured(name: str) -> Any:
    """Return a value of Dask's configuration below `gateway`, under either spelling: variables of
    the environment have no hyphens. `{VARIABLE}` in a text is what the environment says."""
    return places.filled(dask.config.get(f"gateway.{name}", None), f"gateway.{name}", os.environ)


def configured_span(name: str, default_s: float) -> float:
    """Return a duration of Dask's configuration below `gateway`, in seconds; ValueError if it is
    none."""
    return setting(
        name, lambda value, what: default_s if value is None else reading.seconds(value, what)
    )


def shutdown_on_close() -> bool:
    """Return whether Dask's configuration has clusters stopped that are closed; ValueError if it
    says neither."""
    return setting(
        "cluster.shutdown-on-close", lambda value, what: value is None or reading.truth(value, what)
    )


def keepalive_timeout() -> float | None:
    """Return the seconds after which Dask's configuration has clusters end whose process is gone, 0
    for never, None if it does not say; ValueError if they are none."""
    return setting(
        "cluster.keepalive-timeout",
        lambda value, what: None if value is None else reading.seconds(value, what),
    )


def cluster_options() -> dict[str, Any]:
    """Return the options that Dask's configuration names for every new cluster; ValueError if it
    names none that could be."""
    return setting("cluster.options", lambda value, what: reading.mapping(value or {}, what))


def normalized(address: str) -> str:
    """Return an address as `scheme://host:port`, with a prefix behind where it has one, or
    `unix:/path`; ValueError if it is none."""
    address = address.strip()
    right = f"it looks like https://host or http://host:{DEFAULT_PORT}"
    if len(address) > places.MAX_ADDRESS:
        told = reading.shown(address) if "@" not in address else "it"
        raise ValueError(
            f"not a gateway's address: {told} has {len(address)} characters, and at most"
            f" {places.MAX_ADDRESS} are one; {right}"
        )
    if address.startswith("unix:"):
        path = os.path.expanduser(address.removeprefix("unix:"))
        if not path:
            raise ValueError("not a gateway's address: 'unix:' names no socket: unix:/path")
        return f"unix:{path}"
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        given = parts.port
    except ValueError:  # no port, or no IPv6 address
        shown = reading.shown(address) if "@" not in address else "(it holds a user)"
        raise ValueError(f"not a gateway's address: {shown}; {right}") from None
    if parts.username is not None or parts.password is not None:  # and no password is told
        shown = f"{parts.scheme}://…@{parts.hostname or ''}"
        raise ValueError(
            f"a gateway's address names nobody: {shown}; user and password are auth=(user,"
            f" password), or {identity.USER} and {identity.PASSWORD}"
        )
    scheme = "http" if parts.scheme == "dgw" else parts.scheme
    half = re.match(r"(?i)https?:?/", address) and "://" not in address  # http:/host, https//host
    spaced = any(letter.isspace() for letter in address)
    empty = not parts.hostname or given == 0 or parts.query or parts.fragment
    if scheme not in ("http", "https") or half or spaced or empty:
        raise ValueError(f"not a gateway's address: {reading.shown(address)}; {right}")
    # http://host is port 80, as everywhere; a host alone is where a gateway is by default
    usual = {"https": 443, "http": 80}.get(parts.scheme if "://" in address else "", DEFAULT_PORT)
    port = given or usual
    prefix = "" if parts.scheme == "dgw" else parts.path.rstrip("/")
    return f"{scheme}://{host_port(parts.hostname or '', port)}{prefix}"


def resolve_auth(auth: object = None) -> tuple[Auth, identity.Identity]:
    """Return who calls, and whence that is: the argument (an Auth, a token, user and password, or
    the name of a way to sign in), else configuration, environment, token file. ValueError for what
    is none of these: it never falls through to others."""
    if isinstance(auth, Auth):
        name = auth.user if isinstance(auth, BasicAuth) else ""
        source = f"{identity.ARGUMENT}, a {type(auth).__name__}"
        return auth, identity.Identity(user=name, source=source)
    told = "" if auth is None else identity.of_argument(auth)
    if isinstance(told, str):
        told = identity.around(told, _token_file, current_user)
    return of_identity(told), told


def of_identity(told: identity.Identity) -> Auth:
    """Return who calls as an object; ValueError if what makes it does not."""
    if told.kind:
        return _made(told)
    if told.token:
        return TokenAuth(told.token)
    if told.way == "kerberos":
        return KerberosAuth.of(dict(told.arguments), told.source)
    if told.way == "mtls":
        return MtlsAuth.of(dict(told.arguments), told.source)
    return BasicAuth(told.user, told.password) if told.user else Auth()


def _made(told: identity.Identity) -> Auth:
    """Return the object of a class that is configured; ValueError if it is no Auth."""
    try:
        made = pkgutil.resolve_name(told.kind)(**dict(told.arguments))
    except Exception as error:
        raise ValueError(f"{told.source}: {type(error).__name__}: {error}") from error
    if not isinstance(made, Auth):
        raise ValueError(f"{told.source}: {told.kind} makes no Auth of the gateway's client")
    return made


def _token_file() -> identity.Value | None:
    path = configured("auth.token-file")
    found = _from_file(path)
    return None if found is None else identity.Value(found, f"the token file {path}")


def _from_file(path: str | None) -> str | None:
    if not path:
        return None
    given = str(path) != DEFAULTS["gateway"]["auth"]["token-file"]
    place = os.path.expanduser(str(path))  # as it is, where there is no home directory
    try:
        token = pathlib.Path(place).read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError as error:
        if not given:
            return None  # the usual place, which need not exist
        wrong = f"cannot be read: {error.strerror}"
    except (OSError, UnicodeDecodeError) as error:
        wrong = f"cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
    else:
        if token or not given:
            return token or None
        wrong = "is empty"
    name = "gateway.auth.token-file"
    raise ValueError(f"{name}: the file {place} {wrong}{whence.said(name)}")
