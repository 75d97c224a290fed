"""What an authenticator promises: to say who credentials belong to, and who a user is now. What
password, Kerberos, JupyterHub, OIDC share.

A call's `authorization` is taken apart into scheme and value. An authenticator names the schemes it
reads:

* password: `basic` (RFC 7617); Kerberos: `negotiate` (RFC 4559); JupyterHub and OIDC: `bearer` (RFC
  6750) with tokens of their own.

API tokens of the gateway itself are also `bearer`; they are told by their form and never reach an
authenticator. They hold no rights:
with every call by one, what its user is and may do is what `identity` says (identities.py keeps
that for a short while). So is whose name an administrator acts in, and what is open in somebody's
name.

A sign-in that is dear, or whose credentials are good only once, is exchanged for a session:
`sessions` says so. Where `identity` is not told, what the sign-in told holds for the session, for
`sign_in_holds_s` at most.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from traitlets import Float
from traitlets.config import Configurable

from gateway.server.core.model import Principal, Scope
from gateway.server.core.sign_in_options import DeviceLogin, Sessions
from gateway.server.core.user_names import Same, shown, user_of

__all__ = [
    "Authenticator",
    "AuthenticatorUnavailable",
    "Credentials",
    "DeviceLogin",
    "IdentityNotTold",
    "NameRefused",
    "Sessions",
    "SignInRefused",
    "short_stamp",
    "why_no_groups",
    "why_unsound",
]

MAX_STAMP = 32  # letters
MAX_GROUPS, MAX_GROUP = 5000, 255  # of a user, and letters of each
_NOT_WRITTEN = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")  # such as NUL, or half a letter


class AuthenticatorUnavailable(Exception):
    """The identity source does not answer, so nobody can be let in or kept out."""

    provider = ""  #: its name, as users are told it; the gateway sets what the site calls it


class IdentityNotTold(Exception):
    """The authenticator knows this user only while the user signs in, and cannot be asked."""


class NameRefused(Exception):
    """The credentials are right, and the name that stands in them can be no user's. Raised of right
    credentials alone: of others it would tell who there is."""

    def __init__(self, name: str, why: str) -> None:
        """`why` is for the user: what is wrong with the name, and what would be right."""
        super().__init__(f"{shown(name)}: {why}")
        self.name, self.why = name, why


def why_not_as_it_is(name: str) -> str:
    """Return why a name cannot be a user's, where the site names no rule; empty if it can."""
    try:
        user_of(Same(), name)
    except ValueError as error:
        return str(error)
    return ""


class SignInRefused(Exception):
    """The credentials prove nothing, and the caller may know why: it tells nothing of who there is,
    nor of what would be right. Otherwise return None."""

    def __init__(self, why: str) -> None:
        """`why` is for the caller, such as that a token has expired."""
        super().__init__(why)
        self.why = why


async def _first_here(once_id: str, whose: str, seconds: float) -> bool:
    """Whether something is used for the first time, where nothing is written down."""
    return True


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller sent."""

    scheme: str  #: lower case
    value: str  #: everything after the scheme
    #: the address it came from (of IPv6 a network of 64 bits), also where an edge or a trusted
    #: proxy stands between
    peer: str


class Authenticator(Configurable):
    """Base of authenticators; configured by traitlets, found by entry point."""

    schemes: tuple[str, ...] = ()
    #: what it takes, for people: such as "user name and password"
    description: str = ""
    #: how the gateway's own clients name it, as in `Gateway(auth="basic")`; empty if they do not
    client_way: str = ""
    #: whether clients exchange a sign-in for a session
    sessions: Sessions = Sessions.ALLOWED
    #: what it is called to who shows no credentials, as in `WWW-Authenticate: Negotiate`; empty
    #: where programs cannot do anything with that
    challenge: str = ""
    #: how many `authenticate` may be asked about at a time; others wait, addresses and names in
    #: turn
    at_a_time: int = 16

    identity_kept_s = Float(
        60.0,
        min=0,
        max=60,
        help="Seconds that what the authenticator says of a user is kept. Asked anew after a third"
        " of it.",
    ).tag(config=True)
    identity_outage_s = Float(
        900.0,
        min=0,
        help="Seconds that what was last known of a user holds while the authenticator does not"
        " answer. Then calls are UNAVAILABLE.",
    ).tag(config=True)
    sign_in_holds_s = Float(
        86400.0,
        min=60,
        help="Where the authenticator cannot be asked about a user: seconds that all holds which a"
        " sign-in opened or made, tokens too.",
    ).tag(config=True)

    #: why a name of the source cannot be a user's, by the site's rule; empty if it can. Set before
    #: `open`
    why_not: Callable[[str], str] = staticmethod(why_not_as_it_is)

    #: whether something is used for the first time, in all servers of the database, and note that
    #: it was: by its id, of 64 letters at most, for whom, and for how many seconds. Set before
    #: `open`
    once: Callable[[str, str, float], Awaitable[bool]] = staticmethod(_first_here)

    #: whether the site's rule takes capitals for small letters. Set before `open`
    any_case: bool = False

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, one line each, as far as they and the files that
        they name tell: `c.Class.setting: what is there, and what would be right`. Nobody is asked,
        and nothing is changed."""
        return []

    def listed(self) -> Collection[str]:
        """Return the names of the source that are known beforehand, such as those in a file. Two of
        them that would become one user are refused."""
        return ()

    async def open(self) -> None:
        """Make ready; ConfigurationError if that cannot be."""

    async def close(self) -> None:
        """Let go of everything."""

    def remembered(self, credentials: Credentials) -> Principal | None:
        """Return who this is if these very credentials were right a moment ago; must cost next to
        nothing. Others may wait for a turn."""
        return None

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return who this is now, None if the credentials prove nothing, or SignInRefused if the
        caller may know why. AuthenticatorUnavailable if that cannot be told.

        The user is called as the source has it: the site's rule makes a user's name of that, and
        whoever cannot have one is told so. NameRefused if the credentials are right, and it is
        known what name was meant.

        Must take the same time for an unknown user and for a wrong password, must not block the
        event loop, and must go by nothing older than a minute. Tell `expires_at` where the user's
        authority itself ends then: tokens made now end then too. Tell a `stamp` where what
        credentials are checked by can be changed, such as a password. `reply` is told back to the
        caller, such as the server's half of a mutual authentication.
        """
        raise AuthenticatorUnavailable("this authenticator lets nobody in")

    async def identity(self, user: str) -> Principal | None:
        """Return who a user is now, None if there is no such user any more. Only admin, groups,
        scopes, expires_at and stamp are read.

        AuthenticatorUnavailable if that cannot be told now, which `identity_outage_s` bridges.
        IdentityNotTold if it never can: then tokens of this user act with no groups and not as
        admin's, and whatever a sign-in opened or made ends after `sign_in_holds_s`. It is asked for
        some users at a time, each once, and given ten seconds.
        """
        raise IdentityNotTold

    def stands(self, opened: Principal, now: Principal) -> bool:
        """Whether a sign-in is still good, by what it told and what is told now."""
        return opened.stamp == now.stamp

    def holds_untold(self, opened: Principal) -> bool:
        """Whether what a sign-in told holds until it ends, where `identity` is not told."""
        return True

    @property
    def device_login(self) -> DeviceLogin | None:
        """How people sign in by a code that they enter in a browser, None where they do not. It is
        told to whoever asks."""
        return None

    @property
    def askable(self) -> bool:
        """Whether `identity` may know users. One that knows only some gives an `expires_at` to all
        others who sign in."""
        return type(self).identity is not Authenticator.identity


def short_stamp(stamp: str) -> str:
    """Return a stamp as it is kept and travels: one that is long, or no plain text, as its hash."""
    plain = len(stamp) <= MAX_STAMP and stamp.isascii() and stamp.isprintable()
    return (
        stamp
        if plain
        else hashlib.sha256(stamp.encode(errors="surrogatepass")).hexdigest()[:MAX_STAMP]
    )


def why_no_groups(groups: Sequence[object]) -> str:
    """Return why a source's groups are none that the gateway can keep; empty if they are."""
    if len(groups) > MAX_GROUPS:
        return f"more than {MAX_GROUPS} groups"
    if not all(isinstance(one, str) and 0 < len(one) <= MAX_GROUP for one in groups):
        return f"a group that is no text of 1 to {MAX_GROUP} letters"
    if any(_NOT_WRITTEN.search(str(one)) for one in groups):
        return "a group with a letter that no name has, such as NUL"
    return ""


def why_unsound(told: object) -> str:
    """Return what of an authenticator's answer no person can be; empty if it is sound. Whether the
    name can be a user's is the site's rule's to say."""
    if not isinstance(told, Principal):
        return f"{type(told).__name__}, which is no Principal"
    if not isinstance(told.user, str) or not told.user:
        return "a user's name that is no text, or empty"
    if not isinstance(told.admin, bool):
        return "an admin that is neither True nor False"
    if not isinstance(told.groups, tuple):
        return "groups that are no tuple"
    if why := why_no_groups(told.groups):
        return why
    if not isinstance(told.scopes, frozenset) or not told.scopes <= frozenset(Scope):
        return "a scope that there is not"
    if type(told.expires_at) is not int:
        return "an expires_at that is no whole number of milliseconds"
    return "" if isinstance(told.stamp, str) else "a stamp that is no text"
