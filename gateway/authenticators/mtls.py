"""Who somebody is, by a client certificate that was shown in TLS: the one URI among its alternative
names, which the site's rule makes a user of.

The server listens for them at an address of its own, where TLS ends in the server itself. A
certificate is good until it expires, until the deny list names it, or until the authority that
signed it is no more in `client_ca`, whichever comes first; so does what it opened.
"""

from __future__ import annotations

import logging
import os
import pathlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from cryptography import x509
from traitlets import Dict, List, Set, Unicode

from gateway import checks
from gateway.authenticators import client_certificates as certificates
from gateway.authenticators import deny_list as deny_lists
from gateway.authenticators.client_certificates import NotTold, Shown
from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    Sessions,
    SignInRefused,
)
from gateway.configfile import ConfigurationError
from gateway.custody import file_problem
from gateway.server.core.model import Principal
from gateway.wire import CLIENT_CERTIFICATE

logger = logging.getLogger(__name__)

KEPT = 10_000  # certificates that were right
STAMP_LETTERS = 24  # of a fingerprint
MAX_CA_BYTES = 2**20
LOOK_S = 1.0
OURS = "c.MutualTlsAuthenticator"
URI_LIKE = "spiffe://example.org/robot/nightly"


class MutualTlsAuthenticator(Authenticator):
    """Robots with client certificates."""

    schemes = (CLIENT_CERTIFICATE,)
    client_way = "mtls"
    # a certificate is taken back by itself, and a session would outlive it
    sessions = Sessions.NEVER

    address = Unicode(
        "127.0.0.1:0",
        help="host:port where the server listens for who shows a certificate; port 0: any free one,"
        " which is kept. Callers reach it through the edge by server_name.",
    ).tag(config=True)
    server_name = Unicode(
        "",
        help="Name by which callers reach this listener through the edge's port, such as"
        " mtls.dask.example.org. It leads to the edge in DNS, and no browser uses it.",
    ).tag(config=True)
    tls_cert = Unicode(
        "",
        help="PEM file with the listener's own certificate chain, for server_name; read again when"
        " it changes. Empty: c.Proxy.tls_cert, if that is good for both names.",
    ).tag(config=True)
    tls_key = Unicode("", help="PEM file with the key of tls_cert. Empty: c.Proxy.tls_key.").tag(
        config=True
    )
    client_ca = Unicode(
        "",
        help="PEM file with the authorities whose client certificates are taken; read again when it"
        " changes. Whoever can sign by them can be any user that the rule leads to.",
    ).tag(config=True)
    deny_list = Unicode(
        "",
        help="File with certificates that count no longer, one a line: serial=0A1B… or sha256"
        " Fingerprint=AA:BB:…, as openssl prints them; read again when it changes.",
    ).tag(config=True)
    admins = Set(Unicode(), help=f"URIs that may act for every user, such as {URI_LIKE}.").tag(
        config=True
    )
    groups = Dict(List(Unicode()), help="Groups by URI: certificates tell none.").tag(config=True)

    #: the wall clock, in ms
    now: Callable[[], int] = staticmethod(lambda: time.time_ns() // 1_000_000)

    @property
    def description(self) -> str:  # type: ignore[override]
        """Where a certificate is to be shown."""
        where = f" shown to {self.server_name}" if self.server_name else ""
        return f"a client certificate{where}"

    def problems(self) -> list[str]:
        """Return what is wrong with addresses, names and files."""
        found = checks.named(f"{OURS}.address", checks.address(self.address))
        found += checks.named(f"{OURS}.server_name", self._wrong_name())
        if not self.client_ca:
            found.append(
                f"{OURS}.client_ca: must name a PEM file with the authorities whose client"
                " certificates are taken"
            )
        else:
            found += checks.named(f"{OURS}.client_ca", _wrong_ca(self.client_ca, self.now()))
        if bool(self.tls_cert) != bool(self.tls_key):
            found.append(
                f"{OURS}.tls_cert and tls_key: set both or none; tls_cert is {self.tls_cert!r},"
                f" tls_key is {self.tls_key!r}"
            )
        elif self.tls_cert:
            certificate, key = checks.key_pair(self.tls_cert, self.tls_key)
            found += checks.named(f"{OURS}.tls_cert", certificate)
            found += checks.named(f"{OURS}.tls_key", key)
        found += checks.named(f"{OURS}.deny_list", _wrong_list(self.deny_list))
        for setting, names in (("admins", self.admins), ("groups", self.groups)):
            found += checks.named(
                f"{OURS}.{setting}",
                *(
                    f"{name!r} is no URI such as {URI_LIKE}"
                    for name in sorted(names)
                    if ":" not in name
                ),
            )
        return found

    def _wrong_name(self) -> str:
        name = self.server_name
        like = "must be a name by which the edge is reached too, such as mtls.dask.example.org"
        if not name:
            return like
        if not checks.is_host(name) or ":" in name or name.replace(".", "").isdigit():
            return f"{like}, not {name!r}"
        if name != name.lower() or name.endswith(".") or "_" in name:
            return f"{like}, in small letters and without a dot at its end, not {name!r}"
        return ""

    async def open(self) -> None:
        """Read the files; ConfigurationError if nobody could be let in."""
        if wrong := self.problems():
            raise ConfigurationError("\n".join(wrong))
        self._kept: OrderedDict[str, Shown] = OrderedDict()
        self._by_stamp: OrderedDict[str, Shown] = OrderedDict()
        try:
            self._denied = deny_lists.DenyList(self.deny_list, self.identity_outage_s)
            self._authorities = Authorities(self.client_ca)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{OURS}: {error}") from None

    def authorities(self) -> bytes:
        """Return those whose certificates are taken now, as PEM. May be called in any thread."""
        return self._authorities.pem()

    def remembered(self, credentials: Credentials) -> Principal | None:
        """Return who this is, if the certificate was right before and still is."""
        shown = self._kept.get(credentials.value)
        if shown is None or credentials.scheme != CLIENT_CERTIFICATE:
            return None
        try:
            return None if self._doubt(shown) else self._principal(shown)
        except AuthenticatorUnavailable:  # which `authenticate` says
            return None

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return who a certificate names; SignInRefused says why it does not."""
        if credentials.scheme != CLIENT_CERTIFICATE or not credentials.value:
            return None
        if len(credentials.value) > certificates.MAX_LETTERS:
            raise SignInRefused("the client certificate is too large")
        chain = certificates.certificates(credentials.value)
        if not chain:
            return None
        try:
            shown = certificates.read(chain)
        except NotTold as error:
            raise SignInRefused(f"the client certificate says not who calls: {error}") from None
        except (ValueError, OverflowError):
            return None
        if why := self._doubt(shown):
            raise SignInRefused(why)
        self._keep(self._kept, credentials.value, shown)
        self._keep(self._by_stamp, _stamp(shown), shown)
        return self._principal(shown)

    def holds_untold(self, opened: Principal) -> bool:
        """Whether the certificate that opened something is still good. One that is not remembered
        any more, of ten thousand, is to be shown again."""
        shown = self._by_stamp.get(opened.stamp)
        try:
            return shown is not None and not self._doubt(shown)
        except AuthenticatorUnavailable:
            return False

    def _doubt(self, shown: Shown) -> str:
        """Return why a certificate counts not, or no longer; empty if it does.
        AuthenticatorUnavailable if it is not known whether it was taken back."""
        now = self.now()
        if now >= shown.expires_at:
            return "the client certificate has expired"
        if now < shown.begins_at:
            return "the client certificate is not valid yet; one of the clocks may be wrong"
        if self._denied.now().names(shown.serial, shown.fingerprint):
            return "the client certificate was taken back"
        if not self._authorities.vouch(shown):
            return "the client certificate is of no authority that counts here now"
        return ""

    def _principal(self, shown: Shown) -> Principal:
        return Principal(
            shown.uri,
            shown.uri in self.admins,
            tuple(self.groups.get(shown.uri, ())),
            expires_at=shown.expires_at,
            stamp=_stamp(shown),
        )

    def _keep(self, kept: OrderedDict[str, Shown], key: str, shown: Shown) -> None:
        kept[key] = shown
        kept.move_to_end(key)
        while len(kept) > KEPT:
            kept.popitem(last=False)


class Authorities:
    """The file of those who sign client certificates, as it is now. Asked in gRPC's threads too."""

    def __init__(self, path: str) -> None:
        """OSError or ValueError if it cannot be used."""
        self._path, self._lock, self._looked_at = pathlib.Path(path), threading.Lock(), 0.0
        self._stamp = self._stamp_now()
        self._pem, self._roots = _bundle(self._path)
        self._vouched: OrderedDict[str, None] = OrderedDict()  # fingerprints

    def pem(self) -> bytes:
        """Return them; where the file cannot be used that is logged once, and the old ones stay."""
        with self._lock:
            self._follow()
            return self._pem

    def vouch(self, shown: Shown) -> bool:
        """Whether one of them stands for a certificate."""
        with self._lock:
            self._follow()
            if shown.fingerprint in self._vouched:
                return True
            if not certificates.vouched(shown.chain, self._roots):
                return False
            self._vouched[shown.fingerprint] = None
            while len(self._vouched) > KEPT:
                self._vouched.popitem(last=False)
            return True

    def _follow(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._pem, self._roots = _bundle(self._path)
            self._vouched.clear()
            logger.info("%s was read again", self._path)
        except (OSError, ValueError) as error:
            words = f"{self._path}: {error.strerror}" if isinstance(error, OSError) else str(error)
            logger.error("%s.client_ca: %s; the old ones stay", OURS, words)

    def _stamp_now(self) -> tuple[int, ...]:
        try:
            status = os.stat(self._path)
        except OSError:
            return ()
        return (status.st_ino, status.st_mtime_ns, status.st_size)


def _bundle(path: pathlib.Path) -> tuple[bytes, tuple[x509.Certificate, ...]]:
    with path.open("rb") as file:
        content = file.read(MAX_CA_BYTES + 1)
    if len(content) > MAX_CA_BYTES:
        raise ValueError(f"{path}: it has more than {MAX_CA_BYTES // 1024} KiB")
    try:
        return content, tuple(x509.load_pem_x509_certificates(content))
    except ValueError:
        raise ValueError(f"{path} holds no certificate (PEM)") from None


def _stamp(shown: Shown) -> str:
    return shown.fingerprint[:STAMP_LETTERS]


def _wrong_ca(path: str, now: int) -> str:
    """What is wrong with the file of authorities."""
    if wrong := checks.bundle(path):
        return wrong
    if wrong := file_problem(pathlib.Path(path), secret=False):
        return wrong
    try:
        _, roots = _bundle(pathlib.Path(path))
    except (OSError, ValueError) as error:
        return str(error)
    if not any(_signs(one) for one in roots):
        return (
            f"{path} holds no authority's certificate: name that of who signs client certificates,"
            " not a client's own"
        )
    if all(one.not_valid_after_utc.timestamp() * 1000 <= now for one in roots):
        return f"{path}: every certificate in it has expired"
    return ""


def _signs(one: x509.Certificate) -> bool:
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return one.issuer == one.subject  # of the first version, which knows no extensions
    except (ValueError, x509.DuplicateExtension):
        return False


def _wrong_list(path: str) -> str:
    """What is wrong with the file of certificates that were taken back."""
    if not path:
        return ""
    if wrong := checks.file(path):
        return wrong
    try:
        deny_lists.read(pathlib.Path(path))
    except OSError as error:
        return f"{path}: {error.strerror}"
    except ValueError as error:
        return str(error)
    return ""
