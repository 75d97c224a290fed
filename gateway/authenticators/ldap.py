"""Who somebody is, by the password that a directory (LDAP) takes: the gateway binds as the user,
and looks for the user's groups.

It is asked in processes of their own (directory.py), so that one that hangs, or answers without
end, stops nothing else. An empty password is refused before it is sent: a directory takes it for
nobody's, and says yes.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from traitlets import Bool, Float, Set, Unicode

from gateway.authenticators import directory
from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    NameRefused,
    Sessions,
    why_no_groups,
)
from gateway.authenticators.directory import DN, USER
from gateway.authenticators.helpers import Helpers
from gateway.configfile import ConfigurationError
from gateway.custody import file_problem
from gateway.networks import is_loopback
from gateway.server.core.model import Principal
from gateway.wire import parse_basic

logger = logging.getLogger(__name__)

INSTALL = (
    "pip install 'dask-gateway-grpc[ldap]', which needs a C compiler and the headers of OpenLDAP"
    " and SASL (Debian: libldap-dev libsasl2-dev; Red Hat: openldap-devel cyrus-sasl-devel)"
)
PROCESSES = 4  # that ask; one question is a few messages there and back
MAX_WAITING = 64
MAX_NAME = 255
MAX_PASSWORD_BYTES = 1024


class LdapAuthenticator(Authenticator):
    """Users of a directory, by their passwords there."""

    schemes = ("basic",)
    description = "user name and password"
    client_way = "basic"
    sessions = Sessions.ADVISED
    at_a_time = PROCESSES + 1

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
                directory.bind_password(self.bind_password_file)
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
        patience_s = 4 * self.timeout_s
        asked: dict[str, Any] = {
            name: getattr(self, name) for name in directory.Settings._fields[1:-1]
        }
        settings = directory.Settings(urls=self.url.split(), patience_s=patience_s, **asked)
        self._helpers = Helpers(
            [sys.executable, "-I", directory.__file__],
            {"path": sys.path, "settings": settings._asdict()},
            "the directory",
            most=PROCESSES,
            most_waiting=MAX_WAITING,
            patience_s=patience_s,
        )

    async def close(self) -> None:
        """End what asks."""
        await self._helpers.close()

    def numbers(self) -> Mapping[str, float]:
        """Return how many processes and questions there are, and what became of them."""
        return self._helpers.numbers()

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
        name, password = pair
        told = await self._asked({"name": name, "password": password})
        if told is None or told.user == name:
            return told
        if self.any_case and told.user.lower() == name.lower():
            return told
        raise NameRefused(name, f"the user's name is written {told.user!r}")

    async def identity(self, user: str) -> Principal | None:
        """Return who a user of the directory is now."""
        if not self.askable:
            return await super().identity(user)
        if not _possible_name(user):
            return None
        told = await self._asked({"name": user})
        return told if told is not None and told.user == user else None

    async def _asked(self, question: Mapping[str, str]) -> Principal | None:
        """Return what the directory's answer means here, None if it knows nobody such;
        AuthenticatorUnavailable if there is none that can be read."""
        answer = await self._helpers.ask(question)
        for words in answer["said"]:
            logger.error("%s", words)
        if "away" in answer:
            raise AuthenticatorUnavailable(answer["away"])
        told = answer["told"]
        if told is None:
            return None
        user, groups = told["user"], tuple(told["groups"])
        if why := why_no_groups(groups):
            raise AuthenticatorUnavailable(f"the directory tells {why}")
        if self.allowed_groups and self.allowed_groups.isdisjoint(groups):
            logger.warning("%.100r is in none of allowed_groups, and is kept out", user)
            return None
        admin = user in self.admins or not self.admin_groups.isdisjoint(groups)
        return Principal(user, admin, groups, stamp=told["stamp"])


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
