"""Who calls, as objects that users make: each says what is sent, and whether a sign-in is exchanged
for a session (sessions.py)."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.client.calls import kerberos, reading
from gateway.client.calls.sessions import SignIn, Stored, When
from gateway.wire import basic_credentials

A = TypeVar("A")


@dataclass
class Plain:
    """A sign-in by what is sent as it is, to a gateway that TLS alone vouches for."""

    header: str

    def verify(self, told: str) -> None:
        """Nothing is to be proved."""


class Auth:
    """Says who calls, as the value of an `authorization` header; empty for nobody."""

    #: when its sign-in is exchanged for a session
    session: When = When.NEVER

    def header(self) -> str:
        """Return the header's value."""
        return ""

    def sign_in(self, host: str) -> SignIn:
        """Return a sign-in to a gateway at a host (empty: on this machine), good for one call."""
        return Plain(self.header())

    def begin(self, host: str) -> SignIn:
        """Return a sign-in that is exchanged for a session."""
        return self.sign_in(host)

    def stored(self) -> Stored | None:
        """Return a session that was made before; None if there is none."""
        return None

    def pair(self) -> tuple[bytes, bytes] | None:
        """Return key and certificate (PEM) that are shown in TLS; None for who sends a header."""
        return None

    def same(self) -> object:
        """Return what is equal for those who sign in alike, and so may share a session."""
        return id(self)


class BasicAuth(Auth):
    """A user with a password."""

    session = When.LATER

    def __init__(
        self, user: str | None = None, password: str = "", *, username: str | None = None
    ) -> None:
        """Take a user, by default who runs this program; `username` is `user`."""
        if user is not None and username is not None:
            raise TypeError("user and username are the same; give one")
        given = username if user is None else user
        self.user = reading.text(current_user() if given is None else given, "the user's name")
        self.user = self.user.strip()
        # a file, and so a secret that was made of one, ends with a line's end
        self._password = reading.text(password, "the password").rstrip("\r\n")

    def header(self) -> str:
        """Return the header's value."""
        return basic_credentials(self.user, self._password)

    def same(self) -> object:
        """Return what is equal for the same user and password."""
        return ("basic", hashlib.sha256(self.header().encode(errors="replace")).digest())

    def __repr__(self) -> str:
        return f"BasicAuth({self.user!r})"


class TokenAuth(Auth):
    """An API token, or a token of the institution's."""

    def __init__(self, token: str) -> None:
        self._token = reading.text(token, "an API token").strip()  # a file ends with a line's end
        if not self._token.isascii() or not self._token.isprintable() or " " in self._token:
            raise ValueError(
                "an API token must be one word of ASCII; this one has other characters within"
            )

    def header(self) -> str:
        """Return the header's value."""
        return f"Bearer {self._token}"

    def __repr__(self) -> str:
        return "TokenAuth()"


class KerberosAuth(Auth):
    """A Kerberos ticket: of the ticket cache, or got by a keytab. It is shown once, for a session;
    and the gateway has to prove itself too."""

    session = When.FIRST

    def __init__(
        self,
        *,
        keytab: str = "",
        principal: str = "",
        ccache: str = "",
        service: str = "HTTP",
        host: str = "",
        timeout: Any = kerberos.TIMEOUT_S,
    ) -> None:
        """Take the tickets of the system's cache, if nothing else is named.

        :param keytab: file with a key of `principal`, or of the only principal in it.
        :param principal: whose ticket is used, such as `alice@EXAMPLE.ORG`; by default the cache's.
        :param ccache: another ticket cache, such as `FILE:/tmp/krb5cc_1000`.
        :param service: name of the gateway's service in Kerberos.
        :param host: the gateway's host there, where it differs from that of its address.
        :param timeout: how long the KDC has to answer.
        """
        self._keytab, self._principal = (
            _file(keytab, "keytab"),
            reading.text(principal, "principal"),
        )
        self._ccache = reading.text(ccache, "ccache")
        self._service, self._host = reading.text(service, "service"), reading.text(host, "host")
        self._timeout_s = reading.seconds(timeout, "timeout")
        if not self._service or "@" in self._service or "/" in self._service:
            raise ValueError(
                f"service must be a name such as HTTP, not {reading.shown(self._service)}"
            )

    @classmethod
    def of(cls, arguments: Mapping[str, Any], where: str) -> KerberosAuth:
        """Return one by its configuration; ValueError names what is wrong, and where it stands."""
        return by_configuration(cls, "kerberos", arguments, where)

    def sign_in(self, host: str) -> SignIn:
        """Return a sign-in with a token of its own; NotSignedIn if there is no ticket."""
        service = f"{self._service}@{self._host or host or socket.getfqdn()}"
        return kerberos.handshake(
            service,
            principal=self._principal,
            keytab=self._keytab,
            ccache=self._ccache,
            timeout_s=self._timeout_s,
        )

    def same(self) -> object:
        """Return what is equal for the same tickets and service."""
        mine = (self._keytab, self._principal, self._ccache, self._service, self._host)
        return ("kerberos", *mine)

    def __repr__(self) -> str:
        return f"KerberosAuth({self._principal!r})" if self._principal else "KerberosAuth()"


def by_configuration(
    cls: Callable[..., A], way: str, arguments: Mapping[str, Any], where: str
) -> A:
    """Return the object of a way to sign in by what is configured for it; ValueError names what is
    wrong, and where it stands."""
    names = list(inspect.signature(cls).parameters)
    for name in arguments:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"
            raise ValueError(f"{where}: {way} takes no {name}{hint}")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _file(value: str, what: str) -> str:
    text = reading.text(value, what)
    return text.removeprefix("FILE:")


def current_user() -> str:
    """Return the name of whoever runs this process; ValueError if that has none."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # by the version of Python
        raise ValueError(
            "a password is given, but for whom? this process's user has no name here: set"
            " gateway.auth.user in Dask's configuration or DASKGATEWAY_USER"
        ) from None
