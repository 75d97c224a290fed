"""Asks a directory (LDAP) one question after the other, in a process of its own: by standard input
and output, a line of JSON each.

The C library holds Python's lock while it waits for a connection, for TLS without any end, and
reads as much as it is sent. Here that stops this process alone, which ends itself when a question
takes too long or too much memory. Standard library and bonsai only: it is started as a script.

What users send is never part of a filter or a name as it is (RFC 4514, RFC 4515).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import pathlib
import re
import resource
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MEMORY_BYTES = 1024 * 1024 * 1024  # address space; what is answered has some MiB
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
MAX_GROUPS, MAX_GROUP = 5000, 255  # and letters of each
USER, DN = "{user}", "{dn}"
# before a question of a user who is nobody: passwords that are wrong take as long
NOBODY = "nobody"
SEEN_S = 30.0  # for so long a place that was there is not looked at again
REFERRAL = 10  # result code (RFC 4511, §4.1.9)
NO_ATTRIBUTES = ["1.1"]  # (RFC 4511, §4.5.1.8)
# parts of Active Directory that no users are in, to which each search from the top refers
OWN_PARTS = ("dc=domaindnszones,", "dc=forestdnszones,", "cn=configuration,")


class Settings(NamedTuple):
    """Those of the authenticator that say how the directory is asked."""

    urls: list[str]
    start_tls: bool
    ca_file: str
    bind_dn: str
    bind_password_file: str
    user_dn: str
    user_base: str
    user_filter: str
    user_attribute: str
    group_base: str
    group_filter: str
    group_attribute: str
    stamp_attribute: str
    timeout_s: float
    patience_s: float  # for a whole question


class Away(Exception):
    """Nobody can tell: why, in words that tell no names."""


class WrongPassword(Exception):
    """The directory does not take it."""


class Directory:
    """One directory, asked with a connection for each question."""

    def __init__(self, bonsai: Any, settings: Settings) -> None:
        self._bonsai, self._settings = bonsai, settings
        self._seen: dict[str, tuple[float, bool]] = {}  # places of the settings: when, whether
        self._told_once: set[str] = set()

    def signed_in(self, name: str, password: str) -> Mapping[str, object] | None:
        """Return what the directory tells of who signs in, None if the password is wrong."""
        bonsai, settings = self._bonsai, self._settings
        found = self._looked_for(name) if settings.user_base else None
        if settings.user_base and found is None:
            # as long as a wrong password takes: an entry that there is not is asked for
            where = (
                f"{settings.user_attribute}={NOBODY}-{secrets.token_hex(8)},{settings.user_base}"
            )
        else:
            where = str(found.dn) if found is not None else self._place(name)
        try:
            own = self._connected(where, password)
        except (WrongPassword, bonsai.errors.InvalidDN):
            if settings.user_dn and settings.bind_dn:
                self._check_above(where)
            return None
        try:
            if settings.bind_dn:
                own.close()
                own = self._ours()
            entry = self._entry(own, where)
            if entry is None:  # the password is right, so this is no verdict
                raise Away(
                    "the directory takes a user's password and shows no entry of the user: it may"
                    " not be read, or is elsewhere (a referral)"
                )
            return self._told(own, where, entry, name)
        finally:
            own.close()

    def known(self, user: str) -> Mapping[str, object] | None:
        """Return what the directory tells of a user, None if there is none."""
        settings, own = self._settings, self._ours()
        try:
            found = self._looked_for(user, own) if settings.user_base else None
            where = str(found.dn) if found is not None else self._place(user)
            entry = self._entry(own, where) if found is not None or settings.user_dn else None
            if entry is None and settings.user_dn:
                self._check_above(where, own)
            return None if entry is None else self._told(own, where, entry, user)
        finally:
            own.close()

    def _place(self, name: str) -> str:
        return filled(self._settings.user_dn, {USER: escaped_in_dn(name)})

    def _looked_for(self, name: str, connection: Any = None) -> Any:
        """Return the only entry of a name, None if there is none, or more than one."""
        own, base = connection or self._ours(), self._settings.user_base
        try:
            here = self._is_here(own, base)  # first, so that it takes as long whoever is meant
            wanted = filled(self._settings.user_filter, {USER: escaped_in_filter(name)})
            found, elsewhere = self._search(
                own,
                base,
                self._bonsai.LDAPSearchScope.SUB,
                wanted,
                [self._settings.user_attribute],
                sizelimit=2,
            )
            if not found and elsewhere:
                raise Away(
                    f"the directory says that a part of user_base, {base!r}, is at {elsewhere}"
                    " (a referral), where nobody is asked: narrow user_base, or name in url a"
                    " directory that holds all of it, such as Active Directory's global catalog"
                )
            if not found:
                self._must_be_here("user_base", base, here)
        except self._bonsai.errors.SizeLimitError:
            found = [None, None]
        finally:
            if connection is None:
                own.close()
        if len(found) > 1:
            say(f"c.LdapAuthenticator.user_filter: several entries are {name!r:.100}")
        return found[0] if len(found) == 1 else None

    def _entry(self, connection: Any, where: str) -> Any:
        """Return an entry, None if there is none."""
        settings = self._settings
        stamps = [settings.stamp_attribute] if settings.stamp_attribute else []
        wanted = [settings.user_attribute, *stamps]
        scope = self._bonsai.LDAPSearchScope.BASE
        try:
            found, _ = self._search(connection, where, scope, "(objectClass=*)", wanted)
        except (self._bonsai.NoSuchObjectError, self._bonsai.errors.InvalidDN):
            return None
        return found[0] if found else None

    def _is_here(self, connection: Any, base: str) -> bool:
        """Whether the directory shows a place: it does not where it refers elsewhere, which the
        library tells from nothing in no other way."""
        at, here = self._seen.get(base, (0.0, False))
        if not here or time.monotonic() - at > SEEN_S:
            scope = self._bonsai.LDAPSearchScope.BASE
            try:
                found, _ = self._search(connection, base, scope, "(objectClass=*)", NO_ATTRIBUTES)
            except (self._bonsai.NoSuchObjectError, self._bonsai.errors.InvalidDN):
                found = []
            here = bool(found)
            self._seen[base] = (time.monotonic(), here)
        return here

    def _check_above(self, where: str, connection: Any = None) -> None:
        """Away if what users' entries are below is not shown."""
        above = str(self._bonsai.LDAPDN(where)[1:])
        own = connection or self._ours()
        try:
            self._must_be_here("user_dn", above, self._is_here(own, above))
        finally:
            if connection is None:
                own.close()

    def _must_be_here(self, setting: str, base: str, here: bool) -> None:
        """Away where nobody can be found, as the place itself is not shown."""
        if not here:
            raise Away(
                f"the directory shows no entry {base!r}, where {setting} says that users are: it"
                " is elsewhere (a referral), is written otherwise, or may not be read"
            )

    def _search(
        self,
        connection: Any,
        base: str,
        scope: Any,
        wanted: str,
        attributes: list[str],
        sizelimit: int = 0,
    ) -> tuple[list[Any], str]:
        """Return what is found, and the address at which more is said to be, where nobody is asked;
        empty if all is here."""
        found = connection.search(
            base,
            scope,
            wanted,
            attributes,
            timeout=self._settings.timeout_s,
            sizelimit=sizelimit,
        )
        references = [one for one in found if isinstance(one, self._bonsai.LDAPReference)]
        entries = [one for one in found if isinstance(one, self._bonsai.LDAPEntry)]
        return entries, _elsewhere(references)

    def _told(
        self, connection: Any, where: str, entry: Any, name: str
    ) -> Mapping[str, object] | None:
        """Return what an entry and its groups say."""
        settings = self._settings
        names = texts(entry, settings.user_attribute)
        if not names:
            raise Away(
                f"the directory tells no {settings.user_attribute} of a user; see user_attribute"
            )
        same = [one for one in names if one == name] or [
            one for one in names if one.lower() == name.lower()
        ]
        user = (same or names)[0]
        groups = self._groups(connection, where, user)
        stamp = "".join(texts(entry, settings.stamp_attribute)) if settings.stamp_attribute else ""
        stamp = hashlib.sha256(stamp.encode()).hexdigest()[:16] if stamp else ""
        return {"user": user, "groups": groups, "stamp": stamp}

    def _groups(self, connection: Any, where: str, user: str) -> list[str]:
        settings = self._settings
        if not settings.group_base:
            return []
        values = {DN: escaped_in_filter(where), USER: escaped_in_filter(user)}
        wanted = filled(settings.group_filter, values)
        scope = self._bonsai.LDAPSearchScope.SUB
        here = self._is_here(connection, settings.group_base)
        found, elsewhere = self._search(
            connection,
            settings.group_base,
            scope,
            wanted,
            [settings.group_attribute],
            sizelimit=MAX_GROUPS,
        )
        if elsewhere:
            self._say_once(
                f"c.LdapAuthenticator.group_base: the directory says that a part of it is at"
                f" {elsewhere} (a referral), where nobody is asked: groups there count for nothing"
            )
        elif not found and not here:
            self._say_once(
                f"c.LdapAuthenticator.group_base: the directory shows no entry"
                f" {settings.group_base!r}: it is elsewhere (a referral), is written otherwise, or"
                " may not be read, and nobody has groups"
            )
        groups = {one for entry in found for one in texts(entry, settings.group_attribute)}
        if len(groups) > MAX_GROUPS:
            raise Away(f"the directory tells more than {MAX_GROUPS} groups of a user")
        if any(len(one) > MAX_GROUP for one in groups):
            raise Away(f"the directory tells a group of more than {MAX_GROUP} letters")
        return sorted(groups)

    def _say_once(self, words: str) -> None:
        """Tell the log, once as long as this process lives."""
        if words not in self._told_once and len(self._told_once) < MAX_GROUPS:
            self._told_once.add(words)
            say(words)

    def _ours(self) -> Any:
        """Return a connection of the gateway's own account."""
        settings = self._settings
        try:
            password = bind_password(settings.bind_password_file)
        except (OSError, UnicodeDecodeError):
            raise Away("bind_password_file cannot be read") from None
        try:
            return self._connected(settings.bind_dn, password)
        except (WrongPassword, self._bonsai.errors.InvalidDN):
            say("c.LdapAuthenticator.bind_dn: the directory does not take it")
            raise Away("the directory does not take the gateway's own account") from None

    def _connected(self, where: str, password: str) -> Any:
        """Return a connection of an account; WrongPassword, InvalidDN."""
        bonsai, settings = self._bonsai, self._settings
        away: Exception | None = None
        for url in settings.urls:
            client = bonsai.LDAPClient(url, tls=settings.start_tls)
            client.set_credentials("SIMPLE", user=where, password=password)
            client.set_cert_policy("demand")
            client.set_server_chase_referrals(False)
            client.set_ignore_referrals(False)  # they are told, and not followed
            if settings.ca_file:
                client.set_ca_cert(settings.ca_file)
            try:
                return client.connect(timeout=settings.timeout_s)
            except bonsai.AuthenticationError:
                raise WrongPassword from None
            except bonsai.errors.InvalidDN:
                raise
            except bonsai.LDAPError as error:
                away = error
        assert away is not None
        raise away


def _elsewhere(references: Sequence[Any]) -> str:
    """Return the first address at which users or groups are said to be; empty if none."""
    for one in references:
        for url in one.references:
            if not str(url.basedn).lower().startswith(OWN_PARTS):
                return f"{url.get_address()}/{url.basedn}"[:200]
    return ""


def bind_password(path: str) -> str:
    """Return the password in a file; OSError if there is none, ValueError if it is no text."""
    text = pathlib.Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    if not text:
        raise OSError(0, "it is empty")
    return text


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return a template with each place filled, and nothing of what was filled in looked at."""
    return re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], template)


def texts(entry: Any, attribute: str) -> list[str]:
    """Return the values of an attribute; Away if one is no text."""
    values = [one for one in entry.get(attribute, ()) if one]
    if not all(isinstance(one, str) for one in values):
        raise Away(f"the directory tells a value of {attribute} that is no text (UTF-8)")
    return values


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


# The process

_said: list[str] = []


def say(words: str) -> None:
    """Tell the gateway's log, with the answer."""
    _said.append(words)


def answered(directory: Directory, bonsai: Any, question: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the answer to a question."""
    try:
        if "password" in question:
            return {"told": directory.signed_in(question["name"], question["password"])}
        return {"told": directory.known(question["name"])}
    except Away as error:
        return {"away": str(error)}
    except Exception as error:  # its text may tell names; whatever it is, nobody was judged
        if isinstance(error, bonsai.LDAPError) and error.hexcode == REFERRAL:
            return {"away": "the directory says that an account is elsewhere (a referral)"}
        known = isinstance(error, bonsai.LDAPError)
        words = "does not answer" if known else "answers what cannot be read"
        return {"away": f"the directory {words}: {type(error).__name__}"}


def keep_to_itself() -> None:
    """End with the server, however that ends (prctl(2)), and leave no memory behind: there are
    passwords in it."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answer questions until there are no more. The first line holds path and settings."""
    keep_to_itself()
    first = json.loads(sys.stdin.readline())
    sys.path[:] = first["path"]
    import bonsai

    with contextlib.suppress(ValueError, OSError):  # where less is allowed, less it is
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    settings = Settings(**first["settings"])
    directory = Directory(bonsai, settings)
    for line in sys.stdin:
        # ends this process: no handler of Python's would run while the library waits
        signal.setitimer(signal.ITIMER_REAL, settings.patience_s)
        answer = answered(directory, bonsai, json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps({**answer, "said": _said}), flush=True)
        _said.clear()


if __name__ == "__main__":
    main()
