"""What an administrator may set of who people are: traits of DaskGateway."""

from __future__ import annotations

from collections.abc import Mapping

from traitlets import Any, Bool, Float, Int, List, TraitError, Unicode, validate
from traitlets.config import Configurable

from gateway.server.core.user_names import rule_of, rules_by_authenticator


class SignInSettings(Configurable):
    """Which authenticators there are, and what becomes of the names that they tell."""

    authenticator = Unicode(
        "password", help="Name of an authenticator (entry points gateway.authenticators)."
    ).tag(config=True)
    authenticators = List(
        Unicode(),
        [],
        help="Names of several authenticators, asked in this order. Empty: `authenticator` alone.",
    ).tag(config=True)
    user_name = Any(
        "",
        help="What becomes of the names that authenticators tell. Empty: they are users' names as"
        " they are. A pattern, such as '{user}@EXAMPLE.ORG': the user is what stands in braces;"
        " {lower} where capitals mean nothing. A mapping of patterns, such as"
        " {'{user}@EXAMPLE.ORG': '{user}', '{user}@PARTNER.ORG': '{user}@partner'}. A function"
        " from a name to a user, or to None: to whom a user's name was given first, it stays"
        " with. A mapping of authenticators to any of these.",
    ).tag(config=True)
    same_people = Bool(
        False,
        help="Whether users of equal names, whom different authenticators tell, are the same"
        " people. Groups and admin are then those of the first that knows a user.",
    ).tag(config=True)

    session_ttl_s = Float(
        3600.0,
        min=60,
        max=86400,
        help="Seconds that a session's token is good for after it was made or renewed. Clients"
        " renew it by themselves.",
    ).tag(config=True)
    max_session_s = Float(
        7 * 86400.0,
        min=60,
        max=366 * 86400.0,
        help="Seconds after which a user has to sign in again, however often the session is"
        " renewed; and it lasts no longer than the authenticator says that the sign-in holds.",
    ).tag(config=True)
    max_sessions_per_user = Int(
        50,
        min=1,
        help="Sessions of one user. Who signs in once more ends the one that was renewed longest"
        " ago, of those by which no API token was made.",
    ).tag(config=True)

    @validate("user_name")
    def _is_rule(self, proposal: Mapping[str, object]) -> object:
        value = proposal["value"]
        each = rules_by_authenticator(value)
        try:
            for one in (value,) if each is None else each.values():
                rule_of(one)
        except ValueError as error:
            raise TraitError(str(error)) from None
        return value
