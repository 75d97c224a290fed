"""Names of people become users' names, whichever source knows them: nobody becomes somebody else,
and who cannot be named is told so."""

from __future__ import annotations

import asyncio
import pathlib

import pytest
from traitlets.config import Config

from gateway.authenticators.contract import (
    Authenticator,
    AuthenticatorUnavailable,
    Credentials,
    IdentityNotTold,
    NameRefused,
)
from gateway.authenticators.password import PasswordAuthenticator, hash_password
from gateway.configfile import ConfigurationError
from gateway.server.boot.settings import settings
from gateway.server.core.errors import (
    CredentialsInvalid,
    IdentityUnavailable,
    ServiceError,
    UserNameRefused,
)
from gateway.server.core.model import Principal
from gateway.server.core.user_names import rule_of
from gateway.server.security.doors import Doors
from gateway.server.security.sources import TAKEN, Part, Sources
from gateway.server.store.memory import MemoryStore
from gateway.wire import basic_credentials
from tests.security.people import People, Unasked
from tests.security.test_identities import Clock, a_token

HASH = hash_password("wonderland")
REALM = "{user}@EXAMPLE.ORG"


def basic(user: str, password: str = "wonderland") -> str:
    """Return what stands behind the scheme."""
    return basic_credentials(user, password).partition(" ")[2]


class Hub(People):
    """Tells people by tokens, which are their names."""

    schemes = ("bearer",)


async def doors_of(
    *parts: tuple[str, Authenticator, object],
    same_people: bool = False,
    store: MemoryStore | None = None,
) -> tuple[Doors, MemoryStore, Clock]:
    """Return doors for sources with their rules."""
    clock = Clock()
    kept = store or MemoryStore()
    if store is None:
        await kept.open()
    made = Sources(
        [Part(label, one, rule_of(rule)) for label, one, rule in parts],
        same_people=same_people,
        now=clock,
    )
    made.keep_in(kept)
    await made.open()
    doors = Doors(made, kept, None, b"", clock.ms)  # type: ignore[arg-type]
    doors.identities._clock = clock
    return doors, kept, clock


async def refusal(doors: Doors, scheme: str, value: str) -> ServiceError:
    """Return the error that somebody is kept out with."""
    with pytest.raises(ServiceError) as caught:
        await doors.principal(scheme, value, "")
    return caught.value


async def test_a_user_called_alice_with_a_capital_is_told_that_the_name_is_wrong() -> None:
    one = PasswordAuthenticator(users={"alice": HASH})
    doors, _, _ = await doors_of(("password", one, ""))
    try:
        for name in ("Alice", "ALICE", " alice", "alice@example.org", "EXAMPLE\\Alice"):
            error = await refusal(doors, "basic", basic(name))
            assert isinstance(error, UserNameRefused)
            assert str(error) == (
                f"Your credentials are right, but {name!r} can be no user here: the user's name is"
                " written 'alice'."
            )
            assert isinstance(
                await refusal(doors, "basic", basic(name, "guess")), CredentialsInvalid
            )
        assert isinstance(await refusal(doors, "basic", basic("Bob")), CredentialsInvalid)
    finally:
        await one.close()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Alice", "user names have no capitals; is it 'alice'?"),
        ("alice smith", "a user name must match"),
        ("é", "a user name must match"),
        ("a" * 64, "a user name must match"),
    ],
)
async def test_whatever_source_tells_a_name_that_can_be_no_user_its_owner_is_told_why(
    name: str, why: str
) -> None:
    shared = PasswordAuthenticator(password=HASH)  # one password for everybody
    doors, _, _ = await doors_of(("password", shared, ""), ("hub", Hub(Principal(name)), ""))
    try:
        for scheme, value in (("basic", basic(name)), ("bearer", name)):
            error = await refusal(doors, scheme, value)
            assert isinstance(error, UserNameRefused)
            assert why in str(error)
        assert isinstance(await refusal(doors, "basic", basic(name, "guess")), CredentialsInvalid)
    finally:
        await shared.close()


async def test_a_realm_is_taken_off_and_put_on_again_where_the_source_is_asked() -> None:
    hub = Hub(Principal("alice@EXAMPLE.ORG", groups=("physics",)), Principal("alice@OTHER.ORG"))
    doors, store, _ = await doors_of(("hub", hub, REALM))
    assert (await doors.principal("bearer", "alice@EXAMPLE.ORG", "")).user == "alice"
    by_token = await doors.principal("bearer", await a_token(store), "")
    assert (by_token.user, by_token.groups) == ("alice", ("physics",))
    assert hub.asked == ["alice@EXAMPLE.ORG"]
    error = await refusal(doors, "bearer", "alice@OTHER.ORG")
    assert "'alice@OTHER.ORG' can be no user here: names of this identity source look like" in str(
        error
    )


async def test_who_leaves_a_realm_off_is_told_so_unless_two_could_be_meant() -> None:
    users = {
        "alice@EXAMPLE.ORG": HASH,
        "bob@EXAMPLE.ORG": HASH,
        "bob@PARTNER.ORG": hash_password("other"),
    }
    one = PasswordAuthenticator(users=users)
    rule = {"{user}@EXAMPLE.ORG": "{user}", "{user}@PARTNER.ORG": "{user}@partner"}
    doors, _, _ = await doors_of(("password", one, rule))
    try:
        error = await refusal(doors, "basic", basic("alice"))
        assert "the user's name is written 'alice@EXAMPLE.ORG'" in str(error)
        assert isinstance(await refusal(doors, "basic", basic("bob")), CredentialsInvalid)
        assert (await doors.principal("basic", basic("bob@PARTNER.ORG", "other"), "")).user == (
            "bob@partner"
        )
    finally:
        await one.close()


async def test_capitals_mean_nothing_where_the_site_says_so() -> None:
    one = PasswordAuthenticator(users={"Alice@Example.ORG": HASH}, admins={"Alice@Example.ORG"})
    doors, store, _ = await doors_of(("password", one, "{lower}@example.org"))
    try:
        for name in ("Alice@Example.ORG", "alice@example.org"):
            told = await doors.principal("basic", basic(name), "")
            assert (told.user, told.admin) == ("alice", True)
        assert (await doors.principal("bearer", await a_token(store), "")).admin
    finally:
        await one.close()


async def test_two_names_that_became_one_user_while_the_server_ran_are_both_kept_out(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "users"
    file.touch(0o600)
    file.write_text(f"Alice:{HASH}\n")
    one = PasswordAuthenticator(users_file=str(file))
    doors, store, clock = await doors_of(("password", one, "{lower}"))
    try:
        assert (await doors.principal("basic", basic("Alice"), "")).user == "alice"
        file.write_text(f"Alice:{HASH}\nalice:{hash_password('another')}\n")
        for name, password in (("Alice", "wonderland"), ("alice", "another")):
            error = await refusal(doors, "basic", basic(name, password))
            assert TAKEN in str(error)
        assert "'Alice', 'alice' would all be 'alice'" in caplog.text
        clock.s += 61
        text = await a_token(store)
        assert isinstance(await refusal(doors, "bearer", text), CredentialsInvalid)
    finally:
        await one.close()


async def test_by_a_function_a_name_stays_with_whom_it_was_given_to_first() -> None:
    store = MemoryStore()
    await store.open()
    people = [Principal("alice@a.org", groups=("a",)), Principal("alice@b.org", groups=("b",))]

    def rule(name: str) -> str:
        return name.partition("@")[0]

    doors, _, _ = await doors_of(("hub", Hub(*people), rule), store=store)
    assert (await doors.principal("bearer", "alice@a.org", "")).user == "alice"
    assert TAKEN in str(await refusal(doors, "bearer", "alice@b.org"))
    again, _, _ = await doors_of(("hub", Hub(*people), rule), store=store)  # after a restart
    assert TAKEN in str(await refusal(again, "bearer", "alice@b.org"))
    assert (await again.principal("bearer", "alice@a.org", "")).user == "alice"
    text = await a_token(store)
    assert (await again.principal("bearer", text, "")).groups == ("a",)

    def other_rule(name: str) -> str:
        return name.replace("@", ".") if name.endswith("a.org") else rule(name)

    changed, _, _ = await doors_of(("hub", Hub(*people), other_rule), store=store)
    assert (await changed.principal("bearer", "alice@b.org", "")).user == "alice"
    assert (await changed.principal("bearer", "alice@a.org", "")).user == "alice.a.org"


async def test_two_who_come_first_at_the_same_time_are_told_apart() -> None:
    people = [Principal(f"alice@{house}.org") for house in "abcdefgh"]
    doors, _, _ = await doors_of(("hub", Hub(*people), lambda name: name[:5]))
    told = await asyncio.gather(
        *(doors.principal("bearer", one.user, "") for one in people), return_exceptions=True
    )
    assert len([one for one in told if isinstance(one, Principal)]) == 1
    assert len([one for one in told if isinstance(one, UserNameRefused)]) == len(people) - 1


async def test_what_a_function_of_the_sites_says_reaches_the_user() -> None:
    def rule(name: str) -> str:
        raise ValueError("guests have no account here")

    doors, _, _ = await doors_of(("hub", Hub(Principal("guest")), rule))
    assert "guests have no account here" in str(await refusal(doors, "bearer", "guest"))


async def test_several_sources_are_asked_in_turn_and_each_by_its_own_rule() -> None:
    hub, own = Hub(Principal("alice", admin=True)), People(Principal("alice", groups=("robots",)))
    doors, store, _ = await doors_of(
        ("hub", hub, {"{user}": "{user}@hub"}), ("own", own, {"{user}": "{user}@own"})
    )
    by_hub = await doors.principal("bearer", "alice", "")
    by_own = await doors.principal("basic", "alice", "")
    assert (by_hub.user, by_hub.admin) == ("alice@hub", True)
    assert (by_own.user, by_own.groups) == ("alice@own", ("robots",))
    text = await a_token(store, "alice@own")
    assert (await doors.principal("bearer", text, "")).groups == ("robots",)
    assert hub.asked == []  # it has no such user
    assert await doors.present(by_hub) is not None
    assert await doors.present(by_own) is not None
    for scheme in ("negotiate", "digest"):
        assert isinstance(await refusal(doors, scheme, "alice"), CredentialsInvalid)


async def test_a_source_that_is_away_keeps_out_nobody_whom_another_knows() -> None:
    class Away(People):
        async def authenticate(self, credentials: Credentials) -> Principal | None:
            raise AuthenticatorUnavailable("away")

    doors, _, _ = await doors_of(
        ("one", Away(), {"{user}": "{user}@one"}),
        ("two", People(Principal("alice")), {"{user}": "{user}@two"}),
    )
    assert (await doors.principal("basic", "alice", "")).user == "alice@two"
    assert isinstance(await refusal(doors, "basic", "bob"), IdentityUnavailable)


async def test_the_same_people_of_two_sources_stay_signed_in_while_one_is_away() -> None:
    hub, own = Hub(Principal("alice", admin=True, stamp="h")), People(Principal("alice", stamp="o"))
    doors, store, clock = await doors_of(("hub", hub, ""), ("own", own, ""), same_people=True)
    by_hub = await doors.principal("bearer", "alice", "")
    by_own = await doors.principal("basic", "alice", "")
    assert {by_hub.user, by_own.user} == {"alice"}
    for opened in (by_hub, by_own):
        now = await doors.present(opened)
        assert now is not None
        assert now.admin  # by the first that knows the user
    clock.s += 61
    own.away = True
    assert await doors.present(by_own) is not None
    assert await doors.present(by_hub) is not None
    own.away = False
    own.people["alice"] = Principal("alice", stamp="changed")
    clock.s += 61
    assert await doors.present(by_own) is None
    assert await doors.present(by_hub) is not None
    text = await a_token(store)
    assert (await doors.principal("bearer", text, "")).admin


async def test_who_signed_in_by_a_source_that_cannot_be_asked_has_an_end_beside_one_that_can() -> (
    None
):
    unasked = Unasked(Principal("alice"), sign_in_holds_s=100.0)
    doors, store, clock = await doors_of(
        ("unasked", unasked, {"{user}": "{user}@u"}), ("hub", Hub(), {"{user}": "{user}@h"})
    )
    told = await doors.principal("basic", "alice", "")
    assert told.expires_at == clock.ms() + 100_000
    assert await doors.present(told) is not None
    by_token = await doors.principal("bearer", await a_token(store, "alice@u"), "")
    assert (by_token.admin, by_token.groups) == (False, ())


async def test_a_source_that_does_not_open_leaves_no_other_open() -> None:
    closed = []

    class Opens(People):
        async def close(self) -> None:
            closed.append(self)

    class Broken(People):
        async def open(self) -> None:
            raise ConfigurationError("no")

    one = Opens()
    with pytest.raises(ConfigurationError):
        await doors_of(("one", one, ""), ("two", Broken(), ""), same_people=True)
    assert closed == [one]


async def test_alone_it_tells_what_its_source_tells() -> None:
    with pytest.raises(IdentityNotTold):
        await Sources([Part("unasked", Unasked(), rule_of(""))]).identity("alice")
    with pytest.raises(NameRefused, match=r"'Alice': user names have no capitals"):
        await Sources([Part("own", People(Principal("Alice")), rule_of(""))]).authenticate(
            Credentials("basic", "Alice", "")
        )


def config(text: str) -> Config:
    """Return a configuration as a file has it."""
    made = Config()
    exec(text, {"c": made, "HASH": HASH})  # noqa: S102 (as a configuration file is)
    return made


USERS = "c.PasswordAuthenticator.users = {'alice': HASH}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "c.DaskGateway.user_name = 'alice'",
            ["c.DaskGateway.user_name", "must hold {user} or {lower} once"],
        ),
        ("c.DaskGateway.user_name = 3", ["c.DaskGateway.user_name", "must hold"]),
        (
            "c.DaskGateway.user_name = {'{user}@A': '{user}', '{user}@B': '{user}'}",
            ["c.DaskGateway.user_name", "could give one user's name to two people"],
        ),
        (
            "c.DaskGateway.user_name = {'pasword': '{user}@A'}",
            ["c.DaskGateway.user_name: 'pasword' is neither a pattern", "authenticators password"],
        ),
        (
            "c.DaskGateway.user_name = {'password': '{user'}",
            ["c.DaskGateway.user_name", "must hold"],
        ),
        (
            "c.PasswordAuthenticator.users = {'Alice': HASH}",
            ["password: 'Alice': user names have no capitals; is it 'alice'?"],
        ),
        (
            "c.PasswordAuthenticator.users = {'Alice': HASH, 'alice': HASH}\n"
            "c.DaskGateway.user_name = '{lower}'",
            ["password: 'Alice' and 'alice' would both be the user 'alice'"],
        ),
        (
            "c.PasswordAuthenticator.users = {'al@a.org': HASH, 'al@b.org': HASH}\n"
            "c.DaskGateway.user_name = lambda name: name.partition('@')[0]",
            ["password: 'al@a.org' and 'al@b.org' would both be the user 'al'"],
        ),
        (
            "c.DaskGateway.authenticators = ['password', 'password']",
            ["c.DaskGateway.authenticators: 'password' is named twice"],
        ),
        (
            "c.DaskGateway.authenticators = ['pasword']",
            ["no authenticator 'pasword' is installed; did you mean password?"],
        ),
        (
            "c.DaskGateway.authenticators = ['password']\nc.DaskGateway.authenticator = 'password'",
            ["c.DaskGateway.authenticator and authenticators: set one of the two"],
        ),
    ],
)
def test_check_config_refuses_by_what_two_people_could_become_one(
    text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(config(USERS + text))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "rule", "words"),
    [
        (["Alice"], "", "password: 'Alice': user names have no capitals; is it 'alice'?"),
        (["Alice", "alice"], "{lower}", "'Alice' and 'alice' would both be the user 'alice'"),
        (["alice@A", "bob@B"], "{user}@A", "'bob@B': names of this identity source look like"),
    ],
)
def test_check_config_reads_the_names_in_the_users_file_too(
    lines: list[str], rule: str, words: str, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "users"
    file.touch(0o600)
    file.write_text("# users\n" + "".join(f"{line}:{HASH}\n" for line in lines))
    made = config(
        f"c.PasswordAuthenticator.users_file = {str(file)!r}\nc.DaskGateway.user_name = {rule!r}"
    )
    with pytest.raises(ConfigurationError) as caught:
        settings(made)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c.DaskGateway.authenticators = ['password']",
        "c.DaskGateway.user_name = {}",
        "c.DaskGateway.user_name = '{lower}'",
        "c.DaskGateway.user_name = {'password': '{user}'}",
        "c.DaskGateway.user_name = lambda name: name.lower()",
    ],
)
def test_check_config_takes_a_rule_that_keeps_people_apart(text: str) -> None:
    found = settings(config(USERS + text))
    assert [type(one) for one in found.authenticator.members] == [PasswordAuthenticator]


def test_sources_whose_users_could_be_mixed_up_are_refused_unless_they_are_the_same_people() -> (
    None
):
    parts = [Part("one", People(), rule_of("")), Part("two", People(), rule_of(""))]
    assert "one and two" in Sources(parts).problems()[0]
    assert "c.DaskGateway.same_people = True" in Sources(parts).problems()[0]
    assert Sources(parts, same_people=True).problems() == []
    parts = [
        Part("one", People(), rule_of({"{user}": "{user}@one"})),
        Part("two", People(), rule_of({"{user}": "{user}@two"})),
    ]
    assert Sources(parts).problems() == []
