"""Asks a directory (LDAP) one question after the other, in a process of its own: by standard input
and output, a line of JSON each.

The C library holds Python's lock while it waits for a connection, for TLS without any end, and
reads as much as it is sent. Here that stops this process alone, which ends itself when a question
takes too long or too much memory. Standard library and bonsai only: it is started as a script.

What users send is never part of a filter or a name as it is (RFC 4514, RFC 4515).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import re
import resource
import secrets
import signal
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

MEMORY_BYTES = 1024 * 1024 * 1024  # address space; what is answered has some MiB
MAX_GROUPS, MAX_GROUP = 5000, 255  # and letters of each
USER, DN = "{user}", "{dn}"
# before a question of a user who is nobody: passwords that are wrong take as long
NOBODY = "nobody"


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
            return None
        try:
            if settings.bind_dn:
                own.close()
                own = self._ours()
            entry = self._entry(own, where)
            return None if entry is None else self._told(own, where, entry, name)
        finally:
            own.close()

    def known(self, user: str) -> Mapping[str, object] | None:
        """Return what the directory tells of a user, None if there is none."""
        settings, own = self._settings, self._ours()
        try:
            found = self._looked_for(user, own) if settings.user_base else None
            where = str(found.dn) if found is not None else self._place(user)
            entry = self._entry(own, where) if found is not None or settings.user_dn else None
            return None if entry is None else self._told(own, where, entry, user)
        finally:
            own.close()

    def _place(self, name: str) -> str:
        return filled(self._settings.user_dn, {USER: escaped_in_dn(name)})

    def _looked_for(self, name: str, connection: Any = None) -> Any:
        """Return the only entry of a name, None if there is none, or more than one."""
        own = connection or self._ours()
        try:
            wanted = filled(self._settings.user_filter, {USER: escaped_in_filter(name)})
            found = self._entries(
                own,
                self._settings.user_base,
                self._bonsai.LDAPSearchScope.SUB,
                wanted,
                [self._settings.user_attribute],
                sizelimit=2,
            )
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
            found = self._entries(connection, where, scope, "(objectClass=*)", wanted)
        except (self._bonsai.NoSuchObjectError, self._bonsai.errors.InvalidDN):
            return None
        return found[0] if found else None

    def _entries(
        self,
        connection: Any,
        base: str,
        scope: Any,
        wanted: str,
        attributes: list[str],
        sizelimit: int = 0,
    ) -> list[Any]:
        """Return what is found. Where it is said to be elsewhere, nobody is asked there."""
        found = connection.search(
            base,
            scope,
            wanted,
            attributes,
            timeout=self._settings.timeout_s,
            sizelimit=sizelimit,
        )
        return [one for one in found if isinstance(one, self._bonsai.LDAPEntry)]

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
        found = self._entries(
            connection,
            settings.group_base,
            scope,
            wanted,
            [settings.group_attribute],
            sizelimit=MAX_GROUPS,
        )
        groups = {one for entry in found for one in texts(entry, settings.group_attribute)}
        if len(groups) > MAX_GROUPS:
            raise Away(f"the directory tells more than {MAX_GROUPS} groups of a user")
        if any(len(one) > MAX_GROUP for one in groups):
            raise Away(f"the directory tells a group of more than {MAX_GROUP} letters")
        return sorted(groups)

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
        known = isinstance(error, bonsai.LDAPError)
        words = "does not answer" if known else "answers what cannot be read"
        return {"away": f"the directory {words}: {type(error).__name__}"}


def main() -> None:
    """Answer questions until there are no more. The first line holds path and settings."""
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
