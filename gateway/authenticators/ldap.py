"""Who somebody is, by the password that a directory (LDAP) takes: the gateway binds as the user,
and looks for the user's groups.

What users send is never part of a filter or a name as it is (RFC 4514, RFC 4515), and an empty
password is refused before it is sent: a directory takes it for nobody's, and says yes.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib
import importlib.util
import logging
import os
import pathlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

from traitlets import Bool, Float, Set, Unicode

from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    NameRefused,
    Sessions,
)
from gateway.configfile import ConfigurationError
from gateway.custody import file_problem
from gateway.networks import is_loopback
from gateway.server.core.model import Principal
from gateway.wire import parse_basic

logger = logging.getLogger(__name__)
T = TypeVar("T")

INSTALL = (
    "pip install 'dask-gateway-grpc[ldap]', which needs a C compiler and the headers of OpenLDAP"
    " and SASL (Debian: libldap-dev libsasl2-dev; Red Hat: openldap-devel cyrus-sasl-devel)"
)
THREADS = 8  # one question is a few messages there and back
MAX_WAITING = 64
MAX_NAME = 255
MAX_PASSWORD_BYTES = 1024
MAX_GROUPS = 5000
USER, DN = "{user}", "{dn}"


class LdapAuthenticator(Authenticator):
    """Users of a directory, by their passwords there."""

    schemes = ("basic",)
    description = "user name and password"
    client_way = "basic"
    sessions = Sessions.ADVISED
    at_a_time = THREADS + 1

    url = Unicode(
        "", help="Address of the directory, such as ldaps://ldap.example.org; several with blanks."
    ).tag(config=True)
    start_tls = Bool(False, help="Whether to ask an ldap:// server for TLS first.").tag(config=True)
    ca_file = Unicode(
        "", help="PEM bundle that the directory's certificate is verified by. Empty: the system's."
    ).tag(config=True)
    clear_text = Bool(
        False, help="Whether passwords may be sent to the directory without TLS."
    ).tag(config=True)
    bind_dn = Unicode(
        "",
        help="Account that looks for users and groups. Empty: nobody looks for users (user_dn says"
        " where they are), and who a user is is known only while the user signs in.",
    ).tag(config=True)
    bind_password_file = Unicode("", help="File with its password; mode 0600.").tag(config=True)
    user_dn = Unicode(
        "",
        help="Where users are, such as uid={user},ou=people,dc=example,dc=org. Empty: they are"
        " looked for, below user_base.",
    ).tag(config=True)
    user_base = Unicode("", help="Below what users are looked for.").tag(config=True)
    user_filter = Unicode(
        "(uid={user})",
        help="By what a user is looked for, such as (sAMAccountName={user}) in Active Directory.",
    ).tag(config=True)
    user_attribute = Unicode(
        "uid", help="Attribute that tells a user's name, such as sAMAccountName."
    ).tag(config=True)
    group_base = Unicode("", help="Below what groups are looked for. Empty: there are none.").tag(
        config=True
    )
    group_filter = Unicode(
        "(|(member={dn})(uniqueMember={dn})(memberUid={user}))",
        help="By what a user's groups are looked for: {dn} is the user's entry, {user} the name.",
    ).tag(config=True)
    group_attribute = Unicode("cn", help="Attribute that tells a group's name.").tag(config=True)
    stamp_attribute = Unicode(
        "",
        help="Attribute that changes with a user's password, such as pwdChangedTime (OpenLDAP's"
        " ppolicy) or pwdLastSet (Active Directory): then a changed password ends what the old one"
        " had opened.",
    ).tag(config=True)
    admins = Set(Unicode(), help="Users that may act for every user.").tag(config=True)
    admin_groups = Set(Unicode(), help="Groups whose members may act for every user.").tag(
        config=True
    )
    allowed_groups = Set(
        Unicode(), help="Groups whose members are let in. Empty: everybody of the directory is."
    ).tag(config=True)
    timeout_s = Float(
        5.0, min=0.1, max=30, help="Seconds that the directory has for one answer."
    ).tag(config=True)

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, and with what is installed."""
        if importlib.util.find_spec("bonsai") is None:
            return [f"c.DaskGateway.authenticator: ldap needs bonsai: {INSTALL}"]
        return [
            f"c.LdapAuthenticator.{line}"
            for line in (*self._wrong_address(), *self._wrong_places(), *self._wrong_files())
        ]

    def _wrong_address(self) -> Iterable[str]:
        if not self.url:
            yield "url: must be set, such as ldaps://ldap.example.org"
        for one in self.url.split():
            try:
                parts = urlsplit(one)
                right = parts.scheme in ("ldap", "ldaps", "ldapi") and bool(parts.netloc)
            except ValueError:
                right = False
            if not right:
                yield f"url: must look like ldaps://ldap.example.org, not {one!r:.200}"
            elif (
                parts.scheme == "ldap"
                and not self.start_tls
                and not self.clear_text
                and not is_loopback(parts.hostname or "")
            ):
                yield (
                    f"url: {one} would have passwords in clear text; use ldaps://, or set"
                    " start_tls = True (clear_text = True if nobody can listen on the way)"
                )
            if right and parts.scheme == "ldaps" and self.start_tls:
                yield f"start_tls: {one} has TLS already; set one of the two"

    def _wrong_places(self) -> Iterable[str]:
        if bool(self.user_dn) == bool(self.user_base):
            yield (
                "user_dn, user_base: set one of the two: user_dn where names tell the entries, such"
                " as uid={user},ou=people,dc=example,dc=org; user_base where users are looked for"
            )
        if self.user_dn and self.user_dn.count(USER) != 1:
            yield f"user_dn: must hold {USER} once, not {self.user_dn!r}"
        if self.user_base and not self.bind_dn:
            yield "bind_dn: must be set, as users are looked for below user_base"
        for name, filtered in (
            ("user_filter", self.user_filter),
            ("group_filter", self.group_filter),
        ):
            if not _is_filter(filtered):
                yield f"{name}: must be a filter such as (uid={USER}), not {filtered!r}"
            elif USER not in filtered and (name == "user_filter" or DN not in filtered):
                places = USER if name == "user_filter" else f"{DN} or {USER}"
                yield f"{name}: must hold {places}"
        if (self.admin_groups or self.allowed_groups) and not self.group_base:
            yield "group_base: must be set, as admin_groups or allowed_groups name groups"

    def _wrong_files(self) -> Iterable[str]:
        if self.bind_dn and not self.bind_password_file:
            yield "bind_password_file: must be set, as bind_dn is"
        if self.bind_password_file:
            try:
                self._bind_password()
            except (OSError, ValueError) as error:
                words = getattr(error, "strerror", None) or str(error)
                yield f"bind_password_file: {self.bind_password_file}: {words}"
            if wrong := file_problem(pathlib.Path(self.bind_password_file), secret=True):
                yield f"bind_password_file: {wrong}"
        if self.ca_file and not os.access(self.ca_file, os.R_OK):
            yield f"ca_file: {self.ca_file} cannot be read"

    async def open(self) -> None:
        """Make ready to ask; the directory need not answer yet."""
        if wrong := self.problems():
            raise ConfigurationError("\n".join(wrong))
        self._bonsai: Any = importlib.import_module("bonsai")
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ldap")
        self._waiting = 0

    async def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def askable(self) -> bool:
        """Whether there is an account that asks about users."""
        return bool(self.bind_dn)

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return the user whose password the directory takes."""
        pair = (
            parse_basic(f"basic {credentials.value}")
            if credentials.scheme in self.schemes
            else None
        )
        if pair is None or not _possible(*pair):
            return None
        return await self._in_thread(functools.partial(self._signed_in, *pair))

    async def identity(self, user: str) -> Principal | None:
        """Return who a user of the directory is now."""
        if not self.askable:
            return await super().identity(user)
        if not _possible_name(user):
            return None
        return await self._in_thread(functools.partial(self._known, user))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Do what asks the directory; AuthenticatorUnavailable if that does not answer."""
        if self._waiting >= MAX_WAITING:
            raise AuthenticatorUnavailable(f"{MAX_WAITING} questions to the directory are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(4 * self.timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            raise AuthenticatorUnavailable("the directory does not answer in time") from None
        except (OSError, UnicodeDecodeError):
            raise AuthenticatorUnavailable("bind_password_file cannot be read") from None
        except self._bonsai.LDAPError as error:
            raise AuthenticatorUnavailable(
                f"the directory does not answer: {type(error).__name__}"
            ) from None  # its text may tell names
        finally:
            self._waiting -= 1

    # In a thread

    def _signed_in(self, name: str, password: str) -> Principal | None:
        bonsai = self._bonsai
        found = self._looked_for(name) if self.user_base else None
        if self.user_base and found is None:
            # as long as a wrong password takes: an entry that there is not is asked for
            where = f"{self.user_attribute}=nobody-{secrets.token_hex(8)},{self.user_base}"
        else:
            where = str(found.dn) if found is not None else self._place(name)
        try:
            own = self._connected(where, password)
        except (bonsai.AuthenticationError, bonsai.errors.InvalidDN):
            return None
        try:
            if self.bind_dn:
                own.close()
                own = self._connected(self.bind_dn, self._bind_password(), ours=True)
            entry = self._entry(own, where)
            told = None if entry is None else self._told(own, where, entry, name)
        finally:
            own.close()
        if told is None or told.user == name:
            return told
        if self.any_case and told.user.lower() == name.lower():
            return told
        raise NameRefused(name, f"the user's name is written {told.user!r}")

    def _known(self, user: str) -> Principal | None:
        own = self._connected(self.bind_dn, self._bind_password(), ours=True)
        try:
            found = self._looked_for(user, own) if self.user_base else None
            where = str(found.dn) if found is not None else self._place(user)
            entry = self._entry(own, where) if found is not None or self.user_dn else None
            told = None if entry is None else self._told(own, where, entry, user)
        finally:
            own.close()
        return told if told is not None and told.user == user else None

    def _place(self, name: str) -> str:
        return _filled(self.user_dn, {USER: escaped_in_dn(name)})

    def _looked_for(self, name: str, connection: Any = None) -> Any:
        """Return the only entry of a name, None if there is none, or more than one."""
        own = connection or self._connected(self.bind_dn, self._bind_password(), ours=True)
        try:
            wanted = _filled(self.user_filter, {USER: escaped_in_filter(name)})
            found = own.search(
                self.user_base,
                self._bonsai.LDAPSearchScope.SUB,
                wanted,
                [self.user_attribute],
                timeout=self.timeout_s,
                sizelimit=2,
            )
        except self._bonsai.errors.SizeLimitError:
            found = [None, None]
        finally:
            if connection is None:
                own.close()
        if len(found) > 1:
            logger.error("c.LdapAuthenticator.user_filter: several entries are %.100r", name)
        return found[0] if len(found) == 1 else None

    def _entry(self, connection: Any, where: str) -> Any:
        """Return an entry, None if there is none."""
        wanted = [self.user_attribute, *([self.stamp_attribute] if self.stamp_attribute else [])]
        try:
            found = connection.search(
                where,
                self._bonsai.LDAPSearchScope.BASE,
                "(objectClass=*)",
                wanted,
                timeout=self.timeout_s,
            )
        except (self._bonsai.NoSuchObjectError, self._bonsai.errors.InvalidDN):
            return None
        return found[0] if found else None

    def _told(self, connection: Any, where: str, entry: Any, name: str) -> Principal | None:
        """Return what an entry and its groups mean here."""
        names = _texts(entry, self.user_attribute)
        if not names:
            raise AuthenticatorUnavailable(
                f"the directory tells no {self.user_attribute} of a user; see user_attribute"
            )
        same = [one for one in names if one == name] or [
            one for one in names if one.lower() == name.lower()
        ]
        user = (same or names)[0]
        groups = self._groups(connection, where, user)
        if self.allowed_groups and self.allowed_groups.isdisjoint(groups):
            logger.warning("%.100r is in none of allowed_groups, and is kept out", user)
            return None
        admin = user in self.admins or not self.admin_groups.isdisjoint(groups)
        stamp = "".join(_texts(entry, self.stamp_attribute)) if self.stamp_attribute else ""
        stamp = hashlib.sha256(stamp.encode()).hexdigest()[:16] if stamp else ""
        return Principal(user, admin, groups, stamp=stamp)

    def _groups(self, connection: Any, where: str, user: str) -> tuple[str, ...]:
        if not self.group_base:
            return ()
        values = {DN: escaped_in_filter(where), USER: escaped_in_filter(user)}
        wanted = _filled(self.group_filter, values)
        found = connection.search(
            self.group_base,
            self._bonsai.LDAPSearchScope.SUB,
            wanted,
            [self.group_attribute],
            timeout=self.timeout_s,
            sizelimit=MAX_GROUPS,
        )
        return tuple(
            sorted({one for entry in found for one in _texts(entry, self.group_attribute)})
        )

    def _connected(self, where: str, password: str, *, ours: bool = False) -> Any:
        """Return a connection of an account; AuthenticationError if its password is wrong, unless
        it is the gateway's own."""
        bonsai = self._bonsai
        away: Exception | None = None
        for url in self.url.split():
            client = bonsai.LDAPClient(url, tls=self.start_tls)
            client.set_credentials("SIMPLE", user=where, password=password)
            client.set_cert_policy("demand")
            if self.ca_file:
                client.set_ca_cert(self.ca_file)
            try:
                return client.connect(timeout=self.timeout_s)
            except (bonsai.AuthenticationError, bonsai.errors.InvalidDN) as error:
                if not ours:
                    raise
                logger.error("c.LdapAuthenticator.bind_dn: the directory does not take it")
                raise AuthenticatorUnavailable(
                    "the directory does not take the gateway's own account"
                ) from error
            except bonsai.LDAPError as error:
                away = error
        assert away is not None
        raise away

    def _bind_password(self) -> str:
        text = pathlib.Path(self.bind_password_file).read_text(encoding="utf-8").rstrip("\r\n")
        if not text:
            raise OSError(0, "it is empty")
        return text


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Return a template with each place filled, and nothing of what was filled in looked at."""
    return re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], template)


def _texts(entry: Mapping[str, Sequence[object]], attribute: str) -> list[str]:
    return [one for one in entry.get(attribute, ()) if isinstance(one, str) and one]


def _possible_name(name: str) -> bool:
    """Whether a directory may have a user of a name. Blanks at its ends a directory passes over."""
    return 0 < len(name) <= MAX_NAME and name.isprintable() and name == name.strip()


def _possible(name: str, password: str) -> bool:
    size = len(password.encode(errors="replace"))
    return _possible_name(name) and 0 < size <= MAX_PASSWORD_BYTES and "\0" not in password


def _is_filter(text: str) -> bool:
    """Whether a text looks like a filter: brackets around it, and each has its other."""
    depth = 0
    for place, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth < 0 or (depth == 0 and place < len(text) - 1):
            return False
    return depth == 0 and text.startswith("(")


def escaped_in_filter(text: str) -> str:
    """Return a text that stands for itself in a filter (RFC 4515, §3)."""
    return "".join(
        f"\\{byte:02x}" if byte < 32 or byte > 126 or byte in b"\\*()" else chr(byte)
        for byte in text.encode()
    )


def escaped_in_dn(text: str) -> str:
    """Return a text that stands for itself as a value in a distinguished name (RFC 4514, §2.4)."""
    return "".join(
        f"\\{byte:02x}"
        if not (chr(byte).isalnum() and byte < 128) and byte not in b"-_."
        else chr(byte)
        for byte in text.encode()
    )
