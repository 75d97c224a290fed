"""Which authenticators are configured, and by which rule the names that they tell become users'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from traitlets.config import Config

from gateway.authenticators.contract import Authenticator
from gateway.authenticators.registry import authenticator_class
from gateway.configfile import ConfigurationError
from gateway.server.boot.config import DaskGateway
from gateway.server.core.user_names import Rule, rule_of, rules_by_authenticator
from gateway.server.security.sources import Part, Sources


def classes(server: DaskGateway) -> list[type[Authenticator]]:
    """Return the classes of the authenticators named; LookupError names those there are."""
    return [authenticator_class(name) for name in labels(server)]


def labels(server: DaskGateway) -> Sequence[str]:
    """Return the names of the authenticators, in the order in which they are asked."""
    return tuple(server.authenticators) or (server.authenticator,)


def sources(server: DaskGateway, config: Config) -> Sources:
    """Return them as one; ConfigurationError with all that is wrong with how they are named."""
    names = labels(server)
    wrong = [
        f"c.DaskGateway.authenticators: {name!r} is named twice"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if server.authenticators and "authenticator" in config.get("DaskGateway", {}):
        wrong.append(
            "c.DaskGateway.authenticator and authenticators: set one of the two; authenticators"
            f" = {sorted({server.authenticator, *server.authenticators})} names them all"
        )
    setting = server.user_name
    each = rules_by_authenticator(setting)
    if each is not None:
        strange = [name for name in each if name not in names]
        wrong += [
            f"c.DaskGateway.user_name: {name!r} is neither a pattern such as '{{user}}@EXAMPLE.ORG'"
            f" nor one of the authenticators {', '.join(names)}"
            for name in strange
        ]
    if wrong:
        raise ConfigurationError("\n".join(wrong))
    return Sources(
        [
            Part(name, authenticator_class(name)(config=config), _rule(setting, each, name))
            for name in names
        ],
        same_people=server.same_people,
    )


def _rule(setting: object, each: Mapping[str, object] | None, name: str) -> Rule:
    return rule_of(setting if each is None else each.get(name, ""))
