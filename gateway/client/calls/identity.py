"""Who calls: what each place says where credentials may stand, and which of them is taken. Nothing
that was given is passed over in silence, and no secret stands in an error.

Places in order: the argument `auth`; an API token of Dask's configuration, then of the environment;
user and password of these; a client certificate of the environment; the token file. If nobody is
named there, what the gateway takes is looked for (`found`): JupyterHub's variable, what
`daskgateway login` has left, a Kerberos ticket.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import dask.config

from gateway.client.calls import places, whence
from gateway.printable import quoted

ARGUMENT = "the argument auth"
TOKEN, USER, PASSWORD = "DASKGATEWAY_TOKEN", "DASKGATEWAY_USER", "DASKGATEWAY_PASSWORD"
CLIENT_CERT, CLIENT_KEY = "DASKGATEWAY_CLIENT_CERT", "DASKGATEWAY_CLIENT_KEY"
HUB_TOKEN = "JUPYTERHUB_API_TOKEN"
SECTION = "gateway.auth"
KWARGS = f"{SECTION}.kwargs"
# what `kwargs` call user and password
PAIR = {"user": ("user", "username"), "password": ("password",)}
KEYS = ("token", "token-file", "user", "password", "type", "kwargs")
OIDC = "gateway.client.calls.oidc.OIDCAuth"
# ways to sign in that have names, as users of other gateways know them
TYPES = ("token", "basic", "jupyterhub", "kerberos", "oidc", "mtls")
LOGIN, LOGGED_IN = "login", "`daskgateway login`"
WAYS = TYPES[1:]  # of the argument, where other texts are tokens
# classes of dask-gateway's that do what a way to sign in does
THEIRS = {
    f"dask_gateway.{module}{name}": way
    for module in ("", "auth.")
    for name, way in (("BasicAuth", "basic"), ("JupyterHubAuth", "jupyterhub"))
} | {f"dask_gateway.{module}KerberosAuth": "kerberos" for module in ("", "auth.")}
RIGHT = (
    "give auth=(user, password), an API token as text, or an Auth such as BasicAuth(user, password)"
)
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, §2.1


@dataclass(frozen=True)
class Identity:
    """Credentials, and whence they are. Of what is not used nothing is kept but the name."""

    token: str = ""
    user: str = ""
    password: str = ""
    kind: str = ""  # a class path, whose object says who calls
    way: str = ""  # a way to sign in that has a name, and needs no more: "kerberos"
    arguments: tuple[tuple[str, Any], ...] = ()  # of that class, or of that way
    open: bool = False  #: nobody is named: what the gateway takes may be looked for
    source: str = ""  #: in words, such as "the environment variable DASKGATEWAY_TOKEN"
    passed_over: tuple[str, ...] = ()  #: what was found too, and is not used

    def __repr__(self) -> str:
        return f"Identity({self.source or 'nobody'})"


@dataclass(frozen=True)
class Value:
    """A text that was found, and where."""

    text: str
    where: str


def of_argument(auth: object) -> Identity | str:
    """Return what the argument `auth` says: credentials, or the name of a way to sign in.
    ValueError if it is neither; what is no credential never falls through to others."""
    if isinstance(auth, str):
        text = auth.strip()
        if text.lower() in WAYS:
            return text.lower()
        near = difflib.get_close_matches(text.lower(), WAYS, n=1, cutoff=0.75)
        if near and text.replace("-", "").isalpha():  # no token is as short as the name of a way
            raise ValueError(
                f"auth: {quoted(text)} is no way to sign in; did you mean {near[0]!r}?"
            )
        return Identity(token=checked_token(text, ARGUMENT), source=f"{ARGUMENT}, an API token")
    if isinstance(auth, tuple | list):
        if len(auth) != 2:
            raise ValueError(f"auth: {len(auth)} values are no user and password; {RIGHT}")
        user, password = (_text(one, "auth") for one in auth)
        user, password = checked_pair(user, password, ARGUMENT)
        return Identity(user=user, password=password, source=f"{ARGUMENT}, a user and a password")
    kind = type(auth).__name__
    made = f"a{'n' * kind.lower().startswith(tuple('aeiou'))} {kind}"
    if isinstance(auth, type):
        made = f"the class {auth.__name__}"
    raise ValueError(f"auth: {made} says nobody's name; {RIGHT}")


def checked_token(token: str, where: str) -> str:
    """Return a bearer token; ValueError if it cannot be one, without telling it."""
    text = token.strip()
    if not text:
        raise ValueError(f"{where}: an API token must not be empty")
    if not _BEARER.fullmatch(text):
        hint = "; a user and a password are auth=(user, password)" if ":" in text else ""
        raise ValueError(
            f"{where}: an API token must be one word of ASCII letters, digits and ._~+/-{hint}"
        )
    return text


def checked_pair(user: str, password: str, where: str) -> tuple[str, str]:
    """Return user and password; ValueError if they cannot be sent (RFC 7617), without telling the
    password."""
    name, secret = user.strip(), password.rstrip("\r\n")
    if not name:
        raise ValueError(f"{where}: the user's name must not be empty")
    if ":" in name or not name.isprintable():
        raise ValueError(f"{where}: a user's name must not hold a colon, nor what is no letter")
    if not secret:
        raise ValueError(f"{where}: the password must not be empty")
    if any(ord(letter) < 32 for letter in secret):
        raise ValueError(f"{where}: a password must not hold control characters")
    return name, secret


def around(
    wanted: str,
    file: Callable[[], Value | None],
    whoever: Callable[[], str],
    environ: Mapping[str, str] = os.environ,
) -> Identity:
    """Return who calls by configuration, environment and token file; an empty one for nobody.

    `wanted` is the way to sign in that was asked for, empty for any: then nothing else is taken.
    `file` reads the token file, `whoever` tells who runs this program. ValueError says what is
    wrong where.
    """
    config = configured()
    way = wanted or _way(config)
    if "." in way:
        return Identity(
            kind=way,
            arguments=tuple(sorted(_arguments(config).items())),
            source=f"{way} of {whence.place(SECTION + '.type', config['type'])}",
        )
    if way == "jupyterhub":
        return _hub(config, environ)
    if way == "kerberos":
        return _kerberos(config, asked=bool(wanted))
    if way == "oidc":
        return _oidc(config)
    if way == "mtls":
        return _certificate(config, environ, asked=bool(wanted))
    token = _first(_setting(config, "token"), _variable(TOKEN, environ))
    user = _first(_setting(config, "user"), _variable(USER, environ))
    password = _first(_setting(config, "password"), _variable(PASSWORD, environ))
    certificate = _variable(CLIENT_CERT, environ)
    if token is not None and way != "basic":
        return Identity(
            token=checked_token(token.text, token.where),
            source=token.where,
            passed_over=_names(password, certificate),
        )
    if way != "token" and (user is not None or password is not None):
        return _pair(user, password, whoever, _names(token, certificate))
    if not way and certificate is not None:
        return _certificate({}, environ, asked=False)
    if way != "basic" and (found := file()) is not None:
        return Identity(token=checked_token(found.text, found.where), source=found.where)
    if way:
        needs = f"{USER} and {PASSWORD}" if way == "basic" else TOKEN
        raise ValueError(
            f"{'auth' if wanted else SECTION + '.type'} is {quoted(way)}, and nothing of that kind"
            f" is set: set {needs}, or {SECTION} in Dask's configuration"
        )
    return Identity(open=True)


def in_hub(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this runs in a user's server of a JupyterHub."""
    return bool(environ.get(HUB_TOKEN, "").strip())


def found(
    ways: Collection[str],
    has_ticket: Callable[[], bool],
    logged_in: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Identity:
    """Return who calls where nobody is named, by what the gateway takes (`client_way` of its
    sign-in options) and what is here; an empty one for nobody. `logged_in`: whether
    `daskgateway login` has left something."""
    text = environ.get(HUB_TOKEN, "").strip()
    if "jupyterhub" in ways and text:
        where = f"the environment variable {HUB_TOKEN}"
        return Identity(token=checked_token(text, where), source=where)
    if logged_in:
        return Identity(way=LOGIN, source=LOGGED_IN)
    if "kerberos" in ways and has_ticket():
        return Identity(way="kerberos", source="the Kerberos ticket")
    return Identity()


def _kerberos(config: Mapping[str, Any], *, asked: bool) -> Identity:
    """Return who calls by a Kerberos ticket; `kwargs` of the configuration say which, if they are
    of this way."""
    named = _way(config) == "kerberos"
    source = ARGUMENT if asked else whence.place(f"{SECTION}.type", config.get("type"))
    return Identity(
        way="kerberos",
        arguments=tuple(sorted(_arguments(config).items())) if named else (),
        source=f"a Kerberos ticket, as {source} says",
    )


def _certificate(config: Mapping[str, Any], environ: Mapping[str, str], *, asked: bool) -> Identity:
    """Return who calls by a client certificate, whose files `kwargs` of the configuration name, or
    the environment."""
    if _way(config) == "mtls" and (arguments := _arguments(config)):
        source = whence.place(KWARGS, config["kwargs"])
        return Identity(way="mtls", arguments=tuple(sorted(arguments.items())), source=source)
    cert, key = _variable(CLIENT_CERT, environ), _variable(CLIENT_KEY, environ)
    if cert is None:
        wanted = ARGUMENT if asked else f"{SECTION}.type"
        raise ValueError(
            f"{wanted} is 'mtls', and no certificate is named: set {CLIENT_CERT} and {CLIENT_KEY},"
            f" or cert and key in {KWARGS}"
        )
    files = (("cert", cert.text), *((("key", key.text),) if key is not None else ()))
    return Identity(way="mtls", arguments=files, source=cert.where)


def _pair(
    user: Value | None,
    password: Value | None,
    whoever: Callable[[], str],
    passed_over: tuple[str, ...],
) -> Identity:
    """Return user and password, of whom one may be missing."""
    if password is None:
        assert user is not None
        raise ValueError(
            f"{user.where} names a user, and no password is set; set {PASSWORD}, or an API token in"
            f" {TOKEN}"
        )
    name = user.text if user is not None else whoever()
    own = "the name of who runs this program" if user is None else user.where
    both = own if own == password.where else f"{own}, and {password.where}"
    name, secret = checked_pair(name, password.text, both)
    return Identity(user=name, password=secret, source=both, passed_over=passed_over)


def _oidc(config: Mapping[str, Any]) -> Identity:
    """Return a program that an OpenID provider knows, if one is configured; else whoever has signed
    in with `daskgateway login`."""
    arguments = tuple(sorted(_arguments(config).items()))
    if not arguments:
        return Identity(way="oidc", source=LOGGED_IN)
    return Identity(kind=OIDC, arguments=arguments, source=whence.place(KWARGS, config["kwargs"]))


def _hub(config: Mapping[str, Any], environ: Mapping[str, str]) -> Identity:
    given = _arguments(config).get("api_token")
    if given is not None:
        where = whence.place(KWARGS, config["kwargs"])
        return Identity(token=checked_token(_text(given, where), where), source=where)
    found = _variable(HUB_TOKEN, environ)
    if found is None:
        raise ValueError(
            f"jupyterhub: {HUB_TOKEN} is not set; JupyterHub sets it in its users' servers alone"
        )
    return Identity(token=checked_token(found.text, found.where), source=found.where)


def configured() -> dict[str, Any]:
    """Return Dask's configuration of who calls, each key in its usual spelling; ValueError if it
    holds what means nothing."""
    found = dask.config.get(SECTION, None)
    if isinstance(found, str) and found.strip().lower() in TYPES:
        found = {"type": found}
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{SECTION} must be a mapping with {', '.join(KEYS)}")
    config: dict[str, Any] = {}
    for key, value in found.items():
        usual = str(key).replace("_", "-")
        if usual not in KEYS:
            close = difflib.get_close_matches(usual, KEYS, n=1)
            meant = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(KEYS)}"
            raise ValueError(f"{SECTION}.{key}: there is no such setting{meant}")
        if value is not None:
            config[usual] = value
    return config


def _way(config: Mapping[str, Any]) -> str:
    """Return the way to sign in that is configured, empty for any."""
    if "type" not in config:
        return ""
    way = _text(config["type"], f"{SECTION}.type").strip()
    way = THEIRS.get(way, way)
    if "." not in way and way.lower() not in TYPES:
        close = difflib.get_close_matches(way.lower(), TYPES, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(
            f"{SECTION}.type: {quoted(way)} is no way to sign in; there are {', '.join(TYPES)}, and"
            f" classes such as package.module.Class{meant}"
        )
    return way if "." in way else way.lower()


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a class that is configured is handed: `{VARIABLE}` is what the environment
    says."""
    found = config.get("kwargs") or {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{SECTION}.kwargs must be a mapping")
    return {str(key): value for key, value in places.filled(found, KWARGS, os.environ).items()}


def _setting(config: Mapping[str, Any], key: str) -> Value | None:
    """Return a text of Dask's configuration, of `kwargs` where it has none of its own. Of a
    variable of Dask's its own text, as Dask makes numbers of what looks like one."""
    value, name = config.get(key), f"{SECTION}.{key}"
    if value is not None:
        return _found(value, value, name)
    arguments = {} if "." in _way(config) else _arguments(config)
    for word in PAIR.get(key, ()):
        if (value := arguments.get(word)) is not None:
            return _found(value, config["kwargs"][word], f"{KWARGS}.{word}")
    return None


def _found(value: object, written: object, name: str) -> Value:
    """Return a text out of Dask's configuration, where it may be written otherwise."""
    where, raw = whence.place(name, written), os.environ.get(whence.variable(name))
    if not isinstance(value, str) and raw is not None:
        return Value(raw, where)
    return Value(_text(value, name), where)


def _variable(name: str, environ: Mapping[str, str]) -> Value | None:
    text = environ.get(name)
    if text is None:
        return None
    if not text.strip():
        raise ValueError(f"{name} is set, and empty: set it to what it is to be, or unset it")
    return Value(text, f"the environment variable {name}")


def _first(*found: Value | None) -> Value | None:
    return next((one for one in found if one is not None), None)


def _names(*found: Value | None) -> tuple[str, ...]:
    return tuple(one.where for one in found if one is not None)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        quotes = "; put it in quotes" if isinstance(value, int | float) else ""
        raise ValueError(f"{where} must be text, not {type(value).__name__}{quotes}; {RIGHT}")
    return value
