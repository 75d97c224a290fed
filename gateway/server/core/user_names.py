"""How a person's name in an identity source becomes a user's name here, and back: the site's rule.
Pure.

Two people never become one user. Patterns are one-to-one: what stands in braces is kept to the
letter, and whatever else differs is refused before the server starts. `{lower}` says that the
source itself does not tell capitals from small letters. Of a function that cannot be known: whom a
user's name belongs to is then written down at the first sign-in (accounts.py).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.printable import quoted
from gateway.server.core.names import USER_NAME, valid_user

_PLACE = re.compile(r"(?P<before>[^{}]*)\{(?P<kind>user|lower)\}(?P<after>[^{}]*)")
SEPARATORS = "@/\\"
SHOWN = 100  # letters of a name that an error tells
EXAMPLE = "{user}@EXAMPLE.ORG"


class Rule(Protocol):
    """From names in a source to users, and back."""

    @property
    def folds(self) -> bool:
        """Whether names that differ may become one user."""

    @property
    def any_case(self) -> bool:
        """Whether capitals mean nothing."""

    @property
    def one_way(self) -> bool:
        """Whether it cannot tell whom a user's name belongs to."""

    def user(self, name: str) -> str:
        """Return the user that a person of the source is; ValueError says why there is none."""

    def name(self, user: str) -> str | None:
        """Return by which name the source is asked about a user; None if it names no such."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text with one place for what differs."""

    before: str
    after: str
    lower: bool = False

    @classmethod
    def read(cls, text: object) -> Pattern:
        """Return the pattern in a text; ValueError if there is none."""
        found = _PLACE.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(
                f"{text!r:.100} must hold {{user}} or {{lower}} once, such as {EXAMPLE}"
            )
        return cls(found["before"], found["after"], found["kind"] == "lower")

    def __str__(self) -> str:
        return f"{self.before}{{{'lower' if self.lower else 'user'}}}{self.after}"

    @property
    def kept_out(self) -> str:
        """Separators that what differs cannot hold, since the pattern has them itself."""
        return "".join(one for one in SEPARATORS if one in self.before + self.after)

    def fits(self, text: str) -> str | None:
        """Return what stands in the place, None if the text does not fit."""
        inner = self.within(text)
        odd = inner is None or any(
            one in self.kept_out or one.isspace() or not one.isprintable() for one in inner
        )
        return None if odd else inner

    def within(self, text: str) -> str | None:
        """Return what stands in the place, whatever it is; None if nothing does."""
        before, after = self.before, self.after
        seen, size = text, len(text) - len(before) - len(after)
        if self.lower:  # only ASCII: elsewhere one small letter may have several capitals
            if not text.isascii():
                return None
            seen, before, after = text.lower(), before.lower(), after.lower()
        if size < 1 or not seen.startswith(before) or not seen.endswith(after):
            return None
        return seen[len(before) : len(before) + size]

    def filled(self, inner: str) -> str:
        """Return the text with something in the place."""
        return self.before + inner + self.after


@dataclass(frozen=True, slots=True)
class Same:
    """Every name as it is."""

    folds: bool = field(default=False, init=False)
    any_case: bool = field(default=False, init=False)
    one_way: bool = field(default=False, init=False)

    def user(self, name: str) -> str:
        """Return the name."""
        return name

    def name(self, user: str) -> str | None:
        """Return the name."""
        return user


@dataclass(frozen=True, slots=True)
class Patterns:
    """Names that fit patterns; the first that fits counts."""

    steps: tuple[tuple[Pattern, Pattern], ...]
    one_way: bool = field(default=False, init=False)

    @property
    def folds(self) -> bool:
        """Whether names that differ in capitals become one user."""
        return any(source.lower for source, _ in self.steps)

    @property
    def any_case(self) -> bool:
        """Whether capitals mean nothing."""
        return all(source.lower for source, _ in self.steps)

    def user(self, name: str) -> str:
        """Return what the first pattern makes of a name."""
        for source, target in self.steps:
            if (inner := source.fits(name)) is not None:
                return target.filled(inner)
        wanted = " or ".join(str(source) for source, _ in self.steps)
        raise ValueError(f"names of this identity source look like {wanted}")

    def name(self, user: str) -> str | None:
        """Return what becomes a user."""
        for source, target in self.steps:
            inner = target.within(user)
            if inner is not None:
                name = source.filled(inner)
                if self._user(name) == user:
                    return name
        return None

    def _user(self, name: str) -> str:
        try:
            return self.user(name)
        except ValueError:
            return ""


@dataclass(frozen=True, slots=True)
class Function:
    """What a function of the site's says."""

    function: Callable[[str], object]
    folds: bool = field(default=True, init=False)
    any_case: bool = field(default=False, init=False)
    one_way: bool = field(default=True, init=False)

    def user(self, name: str) -> str:
        """Return what the function says of a name."""
        try:
            user = self.function(name)
        except Exception as error:
            raise ValueError(str(error) or type(error).__name__) from error
        if not isinstance(user, str) or not user:
            raise ValueError("the administrator's c.DaskGateway.user_name names no user for it")
        return user

    def name(self, user: str) -> str | None:
        """Tell nothing: a function has no way back."""
        return None


def rule_of(setting: object) -> Rule:
    """Return the rule that an administrator wrote: nothing, a pattern, a mapping of patterns, or a
    function. ValueError says what is wrong with it."""
    if setting in ("", None):
        return Same()
    if callable(setting):
        if not _takes_a_name(setting):
            raise ValueError(f"{setting!r:.100} must take one argument, the name")
        return Function(setting)
    if isinstance(setting, Mapping):
        steps = tuple((Pattern.read(one), Pattern.read(to)) for one, to in setting.items())
        if not steps:
            return Same()
    else:
        steps = ((Pattern.read(setting), Pattern("", "")),)
    for _, target in steps:
        if target.lower:
            raise ValueError(f"{target}: {{lower}} stands in what names look like: {{user}} here")
        if not valid_user(target.filled("a")):
            raise ValueError(f"{target} makes no user names: they must match {USER_NAME}")
    if wrong := _overlaps(steps) or _half_folded(steps):
        raise ValueError(wrong)
    return Patterns(steps)


def _takes_a_name(function: Callable[..., object]) -> bool:
    """Whether a function can be called with a name; yes, where that cannot be told."""
    try:
        inspect.signature(function).bind("name")
    except TypeError:
        return False
    except ValueError:  # a builtin that tells no signature
        return True
    return True


def rules_by_authenticator(setting: object) -> Mapping[str, object] | None:
    """Return the rules that a setting has for each authenticator, None where it has one for all: a
    mapping of patterns has braces in its keys."""
    if not isinstance(setting, Mapping) or not setting:
        return None
    return setting if not any("{" in str(key) for key in setting) else None


def together(first: Rule, second: Rule) -> str:
    """Return why two sources could give one user's name to two people; empty if they cannot."""
    if isinstance(first, Patterns) and isinstance(second, Patterns):
        return _overlaps(first.steps, second.steps)
    return "names are not kept apart by patterns"


def _overlaps(
    steps: Sequence[tuple[Pattern, Pattern]], others: Sequence[tuple[Pattern, Pattern]] = ()
) -> str:
    """Return which two patterns could make the same user, one of `others` if there are such."""
    pairs = (
        [(one, two) for one in steps for two in others]
        if others
        else [(one, two) for n, one in enumerate(steps) for two in steps[:n]]
    )
    for (source, target), (other_source, other) in pairs:
        counted = "@" in source.kept_out and "@" in other_source.kept_out
        if counted and str(target).count("@") != str(other).count("@"):
            continue
        if _begin_alike(target.before, other.before) and _begin_alike(
            target.after[::-1], other.after[::-1]
        ):
            return (
                f"{other_source} and {source} could give one user's name to two people: let them"
                f" become different names, such as '{{user}}' and '{{user}}@partner'"
            )
    return ""


def _half_folded(steps: Sequence[tuple[Pattern, Pattern]]) -> str:
    """Return which pattern minds the capitals of names that a later one folds: of a user it could
    not be told any more by which name the source is asked."""
    for number, (later, _) in enumerate(steps):
        for earlier, _ in steps[:number]:
            if (
                later.lower
                and not earlier.lower
                and _begin_alike(earlier.before.lower(), later.before.lower())
                and _begin_alike(earlier.after.lower()[::-1], later.after.lower()[::-1])
            ):
                return (
                    f"{earlier} minds capitals, and {later} takes the same names in others: let"
                    " both hold {lower}, or both {user}"
                )
    return ""


def _begin_alike(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def user_of(rule: Rule, name: str) -> str:
    """Return the user that a person of a source is; ValueError says why there is none."""
    user = rule.user(name)
    if valid_user(user):
        return user
    if isinstance(rule, Same) and valid_user(user.lower()):
        raise ValueError(f"user names have no capitals; is it {user.lower()!r}?")
    of = "" if user == name else f"it becomes {shown(user)}, and "
    raise ValueError(f"{of}a user name must match {USER_NAME}")


def shown(name: Any) -> str:
    """Return a name as an error tells it."""
    return quoted(name, SHOWN)


def doubled(rule: Rule, names: Iterable[str]) -> list[str]:
    """Return what is wrong with names that are known beforehand: those that become one user, and
    those that become none."""
    wrong, owners = [], dict[str, str]()
    for name in names:
        try:
            user = user_of(rule, name)
        except ValueError as error:
            wrong.append(f"{shown(name)}: {error}")
            continue
        other = owners.setdefault(user, name)
        if other != name:
            wrong.append(f"{shown(other)} and {shown(name)} would both be the user {user!r}")
    return wrong
