"""Names of people become users' names by the site's rule: one-to-one, or not at all."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.core.names import valid_user
from gateway.server.core.user_names import (
    Function,
    Pattern,
    Patterns,
    Rule,
    Same,
    doubled,
    rule_of,
    together,
    user_of,
)

REALM = "{user}@EXAMPLE.ORG"
TWO = {"{user}@EXAMPLE.ORG": "{user}", "{user}@PARTNER.ORG": "{user}@partner"}
MAIL = "{lower}"


@pytest.mark.parametrize(
    ("setting", "name", "user"),
    [
        ("", "alice", "alice"),
        ("", "alice@example.org", "alice@example.org"),
        (REALM, "alice@EXAMPLE.ORG", "alice"),
        ("{lower}@EXAMPLE.ORG", "Alice@Example.org", "alice"),
        (MAIL, "Alice@Example.ORG", "alice@example.org"),
        (TWO, "alice@PARTNER.ORG", "alice@partner"),
        ("EXAMPLE\\{lower}", "Example\\Alice", "alice"),
        ("uid={user},ou=people", "uid=alice,ou=people", "alice"),
        ({"{user}": "x-{user}"}, "alice", "x-alice"),
    ],
)
def test_a_name_becomes_a_user_and_the_user_is_asked_about_by_a_name_of_the_source(
    setting: object, name: str, user: str
) -> None:
    rule = rule_of(setting)
    assert user_of(rule, name) == user
    asked = rule.name(user)
    assert asked is not None
    assert user_of(rule, asked) == user
    assert asked == name or (rule.folds and asked.lower() == name.lower())


@pytest.mark.parametrize(
    ("setting", "name", "why"),
    [
        ("", "Alice", "user names have no capitals; is it 'alice'?"),
        ("", "Alice Smith", "a user name must match"),
        ("", "", "a user name must match"),
        (REALM, "alice", "look like {user}@EXAMPLE.ORG"),
        (REALM, "alice@example.org", "look like {user}@EXAMPLE.ORG"),
        (REALM, "alice@PARTNER.ORG@EXAMPLE.ORG", "look like"),
        (REALM, "@EXAMPLE.ORG", "look like"),
        (REALM, "Alice@EXAMPLE.ORG", "it becomes 'Alice', and a user name must match"),
        (REALM, "HTTP/host@EXAMPLE.ORG", "a user name must match"),
        (REALM, "alice@EXAMPLE.ORG\n", "look like"),
        ("{lower}@EXAMPLE.ORG", "http/host@EXAMPLE.ORG", "a user name must match"),
        (MAIL, "\u212aate", "look like"),  # the sign for kelvin, whose small letter is k
        (TWO, "alice@OTHER.ORG", r"{user}@EXAMPLE.ORG or {user}@PARTNER.ORG"),
        (lambda name: None, "alice", "names no user"),
        (lambda name: name.partition("@")[3], "alice", "index out of range"),
        (lambda name: "Alice", "alice", "a user name must match"),
    ],
)
def test_a_name_that_becomes_no_user_is_refused_with_the_reason(
    setting: object, name: str, why: str
) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        user_of(rule_of(setting), name)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("alice", "must hold {user} or {lower} once"),
        ("{user}-{user}", "must hold {user} or {lower} once"),
        ("{name}@EXAMPLE.ORG", "must hold {user} or {lower} once"),
        (7, "must hold {user} or {lower} once"),
        ({"{user}@A": "{lower}"}, "{lower} stands in what names look like"),
        ({"{user}@A": "{user}/a"}, "makes no user names"),
        ({"{user}@A": "{user}", "{user}@B": "{user}"}, "could give one user's name to two people"),
        ({"{user}@A": "{user}", "{user}@B": "{user}.b"}, "could give one user's name to two"),
        ({"{user}@A": "a-{user}", "{user}@B": "{user}-b"}, "could give one user's name to two"),
        ({"{user}@A": "{user}@b", "{user}": "{user}"}, "could give one user's name to two"),
        ({"{user}b": "{user}b", "{lower}": "{user}a"}, "minds capitals, and {lower} takes the"),
        ({"{user}@A": "{user}.a", "{lower}@a": "{user}.b"}, "let both hold {lower}, or both"),
    ],
)
def test_a_rule_by_which_two_people_could_become_one_is_refused(setting: object, why: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        rule_of(setting)
    assert why in str(caught.value)


def test_sources_are_told_apart_by_their_patterns_alone() -> None:
    hub, other = rule_of({"{user}": "hub-{user}"}), rule_of({"{user}": "pw-{user}"})
    assert together(hub, other) == ""
    assert "two people" in together(hub, rule_of("{user}"))
    for loose in (Same(), Function(str.lower)):
        assert together(hub, loose)


PIECES = st.sampled_from(["", "a", "b", "a-", "-b", "@a", "@b", "a@", "b.", ".b"])
TARGETS = st.builds(lambda before, after: f"{before}{{user}}{after}", PIECES, PIECES)
SOURCES = st.builds(
    lambda before, kind, after: f"{before}{{{kind}}}{after}",
    PIECES,
    st.sampled_from(["user", "lower"]),
    PIECES,
)
NAMES = [
    "".join(letters) for size in range(1, 6) for letters in itertools.product("aB@-.", repeat=size)
]


def _known(setting: object) -> Rule | None:
    try:
        return rule_of(setting)
    except ValueError:
        return None


@given(st.dictionaries(SOURCES, TARGETS, min_size=1, max_size=3))
def test_no_patterns_that_are_accepted_make_one_user_of_two_people(
    setting: dict[str, str],
) -> None:
    rule = _known(setting)
    if not isinstance(rule, Patterns):
        return
    owners: dict[str, str] = {}
    for name in NAMES:
        try:
            user = user_of(rule, name)
        except ValueError:
            continue
        assert valid_user(user)
        owner = owners.setdefault(user, name)
        assert owner == name or (rule.folds and owner.lower() == name.lower())
        asked = rule.name(user)
        assert asked is not None
        assert user_of(rule, asked) == user


def test_names_that_are_known_beforehand_are_looked_at() -> None:
    assert doubled(rule_of(REALM), ["alice@EXAMPLE.ORG", "bob@EXAMPLE.ORG"]) == []
    assert doubled(rule_of(MAIL), ["Alice", "bob", "alice"]) == [
        "'Alice' and 'alice' would both be the user 'alice'"
    ]
    assert doubled(rule_of(lambda name: name[:1]), ["alice", "adam"]) == [
        "'alice' and 'adam' would both be the user 'a'"
    ]
    assert "'Alice': user names have no capitals" in doubled(Same(), ["Alice"])[0]


def test_a_pattern_shows_itself_as_it_was_written() -> None:
    for text in (REALM, MAIL, "{lower}@EXAMPLE.ORG"):
        assert str(Pattern.read(text)) == text
