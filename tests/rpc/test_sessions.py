"""Sessions over the wire: a sign-in makes one, its token is renewed, shared and taken back; what it
may is asked anew with every call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from daskgateway.v1 import credential_service_pb2 as pb

from gateway.authenticators.contract import Authenticator, Credentials, Sessions
from gateway.server.core.model import Principal
from gateway.server.core.quotas import Quotas
from gateway.server.core.user_names import Same
from gateway.server.security import tokens
from gateway.server.security.doors import Doors
from gateway.server.security.sources import Part, Sources
from gateway.server.store.memory import MemoryStore
from gateway.wire import AUTHENTICATE, marked_user, user_mark
from tests.rpc.harness import Harness, as_
from tests.rpc.test_clusters import create, reason, trailers_of
from tests.rpc.test_rights import RealTokens, refusal
from tests.security.people import People, Unasked

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Port(RealTokens):
    """Tokens that the doors know, those of sessions too."""

    def mint_session(self, user: str) -> tuple[str, str, bytes]:
        minted = tokens.mint("session", user)
        return minted.text, minted.id, minted.secret_hash


class Tickets(Authenticator):
    """Takes what is good once, and proves itself."""

    schemes = ("negotiate",)
    sessions = Sessions.ADVISED
    challenge = "Negotiate"

    def __init__(self) -> None:
        super().__init__()
        self.used: set[str] = set()

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        if credentials.value in self.used or not credentials.value.startswith("carol"):
            return None
        self.used.add(credentials.value)
        return Principal("carol", admin=True, groups=("staff",), reply="Negotiate aGVsbG8=")


class Never(People):
    """Its credentials make no session."""

    schemes = ("token",)
    sessions = Sessions.NEVER


class Served:
    """A server with several authenticators, whose users are kept apart by nothing."""

    def __init__(
        self, *parts: tuple[str, Authenticator], store: Any = None, quotas: Quotas | None = None
    ) -> None:
        sources = Sources([Part(label, one, Same()) for label, one in parts], same_people=True)
        port = Port()
        self.harness = Harness(
            store=store or MemoryStore(),
            make_doors=lambda store: Doors(sources, store, None, b"", self.now),  # type: ignore[arg-type]
            credentials_port=port,
            quotas=quotas or Quotas(),
            sign_in_options=sources.options(),
        )
        self.port = port

    def now(self) -> int:
        return self.harness.now_ms()

    async def start(self) -> None:
        await self.harness.start()
        self.port.doors = self.harness.doors

    async def made(self, who: str, name: str = "") -> pb.CreateSessionResponse:
        """Sign in; `who` is what stands in an authorization header."""
        request = pb.CreateSessionRequest(display_name=name)
        return await self.harness.credentials.CreateSession(request, metadata=shown(who))

    async def whoami(self, who: str) -> pb.WhoAmIResponse:
        return await self.harness.credentials.WhoAmI(pb.WhoAmIRequest(), metadata=shown(who))

    async def renewed(self, who: str) -> pb.RenewSessionResponse:
        request = pb.RenewSessionRequest()
        return await self.harness.credentials.RenewSession(request, metadata=shown(who))

    async def ended(self, who: str, everywhere: bool = False) -> Sequence[str]:
        request = pb.EndSessionRequest(everywhere=everywhere)
        answer = await self.harness.credentials.EndSession(request, metadata=shown(who))
        return list(answer.ids)

    async def listed(self, who: str) -> list[pb.Token]:
        request = pb.ListTokensRequest()
        answer = await self.harness.credentials.ListTokens(request, metadata=shown(who))
        return list(answer.tokens)


def shown(who: str) -> Sequence[tuple[str, str]]:
    """Return metadata: a token's text, or a scheme and its value."""
    return (("authorization", who if " " in who else f"Bearer {who}"),)


def people() -> People:
    found = People(Principal("alice", groups=("physics",), stamp="one"), Principal("bob"))
    found.sessions = Sessions.ADVISED
    return found


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server whose people have passwords, tickets, and tokens of their own."""
    made = Served(("password", people()), ("tickets", Tickets()), ("hub", Never(Principal("dora"))))
    await made.start()
    yield made
    await made.harness.stop()


def people_of(served: Served) -> People:
    found: Any = served.harness.doors._authenticator.members[0]
    return found


async def test_a_sign_in_is_exchanged_for_a_session(served: Served) -> None:
    made = await served.made("Basic alice", "laptop")
    assert tokens.parse(made.secret) is not None
    assert made.secret.startswith("dgw_session_")
    assert (made.session.user, made.session.way) == ("alice", "password")
    assert made.authenticate == ""
    told = await served.whoami(made.secret)
    assert (told.user, told.way, list(told.groups)) == ("alice", "password", ["physics"])
    assert 0 < made.session.lasts.seconds <= 3600
    left_ms = made.session.expire_time.ToMilliseconds() - served.now()
    assert 3_590_000 < left_ms <= HOUR_MS
    assert made.session.end_time.ToMilliseconds() - served.now() > 6 * DAY_MS
    stored = await served.harness.store.read(lambda tx: tx.token(made.session.id))
    assert made.secret.encode() not in stored.secret_hash  # a hash alone is kept
    assert stored.secret_hash == tokens.hashed(made.secret)


async def test_a_session_is_listed_with_the_api_tokens_and_revoked_like_these(
    served: Served,
) -> None:
    made = await served.made("Basic alice", "laptop")
    api = await served.harness.credentials.CreateToken(
        pb.CreateTokenRequest(display_name="robot"), metadata=shown("Basic alice")
    )
    listed = {one.display_name: one for one in await served.listed(made.secret)}
    assert (listed["laptop"].way, listed["robot"].way) == ("password", "")
    assert listed["laptop"].expire_time == made.session.expire_time
    await served.harness.credentials.RevokeToken(
        pb.RevokeTokenRequest(id=made.session.id), metadata=shown(api.secret)
    )
    assert reason(await refusal(served.whoami(made.secret))) == "CREDENTIALS_INVALID"


async def test_the_id_of_a_session_tells_the_edge_whose_calls_are_one_users(served: Served) -> None:
    made = await served.made("Basic alice")
    assert marked_user(made.secret) == user_mark("alice")


async def test_a_session_lapses_unless_it_is_renewed(served: Served) -> None:
    made = await served.made("Basic alice")
    served.harness.ahead_ms = HOUR_MS // 2
    renewed = (await served.renewed(made.secret)).session
    assert renewed.id == made.session.id
    assert renewed.expire_time.ToMilliseconds() > made.session.expire_time.ToMilliseconds()
    assert renewed.end_time == made.session.end_time
    served.harness.ahead_ms = HOUR_MS + HOUR_MS // 4
    assert (await served.whoami(made.secret)).user == "alice"
    served.harness.ahead_ms = 2 * HOUR_MS
    assert reason(await refusal(served.whoami(made.secret))) == "CREDENTIALS_INVALID"
    assert reason(await refusal(served.renewed(made.secret))) == "CREDENTIALS_INVALID"


async def test_no_renewal_goes_beyond_the_longest_session(served: Served) -> None:
    made = await served.made("Basic alice")
    for half in range(1, 2 * 24 * 7):
        served.harness.ahead_ms = half * HOUR_MS // 2
        renewed = (await served.renewed(made.secret)).session
        assert renewed.expire_time.ToMilliseconds() <= made.session.end_time.ToMilliseconds()
    served.harness.ahead_ms = 7 * DAY_MS + 1000
    assert reason(await refusal(served.renewed(made.secret))) == "CREDENTIALS_INVALID"


async def test_clients_that_renew_at_once_all_have_the_session_that_there_is(
    served: Served,
) -> None:
    made = await served.made("Basic alice")
    served.harness.ahead_ms = HOUR_MS // 2
    renewed = await asyncio.gather(*(served.renewed(made.secret) for _ in range(8)))
    assert {one.session.id for one in renewed} == {made.session.id}
    assert (await served.whoami(made.secret)).user == "alice"
    assert len(await served.listed(made.secret)) == 1


async def test_all_servers_of_a_database_take_a_session_and_see_that_it_was_renewed() -> None:
    store = MemoryStore()
    one = Served(("password", people()), store=store)
    other = Served(("password", people()), store=store)
    await one.start()
    await other.start()
    try:
        made = await one.made("Basic alice")
        assert (await other.whoami(made.secret)).user == "alice"  # which it now remembers
        one.harness.ahead_ms = HOUR_MS - 1000
        await one.renewed(made.secret)
        other.harness.ahead_ms = HOUR_MS + 60_000
        assert (await other.whoami(made.secret)).user == "alice"
    finally:
        await one.harness.stop()
        await other.harness.stop()


async def test_who_ends_a_session_ends_what_was_made_by_it(served: Served) -> None:
    made = await served.made("Basic alice")
    api = await served.harness.credentials.CreateToken(
        pb.CreateTokenRequest(), metadata=shown(made.secret)
    )
    other = await served.made("Basic alice")
    assert set(await served.ended(made.secret)) == {made.session.id, api.token.id}
    for gone in (made.secret, api.secret):
        assert reason(await refusal(served.whoami(gone))) == "CREDENTIALS_INVALID"
    assert (await served.whoami(other.secret)).user == "alice"


async def test_all_sessions_of_a_user_are_ended_at_once_and_nobody_elses(served: Served) -> None:
    mine = [await served.made("Basic alice") for _ in range(3)]
    bobs = await served.made("Basic bob")
    ended = await served.ended(mine[0].secret, everywhere=True)
    assert set(ended) == {one.session.id for one in mine}
    for one in mine:
        assert reason(await refusal(served.whoami(one.secret))) == "CREDENTIALS_INVALID"
    assert (await served.whoami(bobs.secret)).user == "bob"
    assert await served.ended("Basic alice", everywhere=True) == []


async def test_a_stream_ends_with_its_session(served: Served) -> None:
    made = await served.made("Basic alice")
    watch = served.harness.clusters.WatchClusters(
        create_watch(), metadata=shown(made.secret), timeout=60
    )
    changes = aiter(watch)
    await anext(changes)
    await served.ended(made.secret)

    async def over() -> None:
        async for _ in changes:
            pass

    assert reason(await refusal(over())) == "CREDENTIALS_INVALID"


def create_watch() -> Any:
    from daskgateway.v1 import cluster_service_pb2

    return cluster_service_pb2.WatchClustersRequest()


@pytest.mark.parametrize(
    ("who", "why"), [("api", "a token is shown already"), ("session", "a token is shown already")]
)
async def test_a_token_makes_no_session(served: Served, who: str, why: str) -> None:
    api = await served.harness.credentials.CreateToken(
        pb.CreateTokenRequest(), metadata=shown("Basic alice")
    )
    made = await served.made("Basic alice")
    refused = await refusal(served.made(api.secret if who == "api" else made.secret))
    assert (refused.code(), reason(refused)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "NO_SESSION",
    )
    assert why in (refused.details() or "")


async def test_credentials_that_are_taken_back_one_by_one_make_no_session(served: Served) -> None:
    refused = await refusal(served.made("token dora"))
    assert reason(refused) == "NO_SESSION"
    assert "hub" in (refused.details() or "")


@pytest.mark.parametrize("who", ["Basic alice", "api"])
async def test_what_is_no_session_is_neither_renewed_nor_ended(served: Served, who: str) -> None:
    api = await served.harness.credentials.CreateToken(
        pb.CreateTokenRequest(), metadata=shown("Basic alice")
    )
    caller = api.secret if who == "api" else who
    for call in (served.renewed(caller), served.ended(caller)):
        assert reason(await refusal(call)) == "NO_SESSION"


async def test_a_changed_password_ends_the_sessions_that_it_made(served: Served) -> None:
    made = await served.made("Basic alice")
    people_of(served).people["alice"] = Principal("alice", stamp="two")
    served.harness.doors.identities._known.clear()
    assert reason(await refusal(served.whoami(made.secret))) == "CREDENTIALS_INVALID"


async def test_a_users_end_is_the_sessions_end(served: Served) -> None:
    made = await served.made("Basic alice")
    del people_of(served).people["alice"]
    served.harness.doors.identities._known.clear()
    assert reason(await refusal(served.whoami(made.secret))) == "CREDENTIALS_INVALID"


async def test_rights_are_those_of_now(served: Served) -> None:
    made = await served.made("Basic bob")
    people_of(served).people["bob"] = Principal("bob", admin=True, groups=("ops",))
    served.harness.doors.identities._known.clear()
    told = await served.whoami(made.secret)
    assert (told.admin, list(told.groups)) == (True, ["ops"])


async def test_what_a_sign_in_told_holds_where_nobody_can_be_asked(served: Served) -> None:
    made = await served.made("Negotiate carol-1")
    told = await served.whoami(made.secret)
    assert (told.user, told.admin, list(told.groups)) == ("carol", True, ["staff"])
    assert told.way == "tickets"
    assert made.session.end_time.ToMilliseconds() - served.now() <= DAY_MS
    served.harness.ahead_ms = DAY_MS + 1000
    assert reason(await refusal(served.whoami(made.secret))) == "CREDENTIALS_INVALID"


async def test_a_session_by_who_cannot_be_asked_holds_beside_one_who_can() -> None:
    ticket, password = Tickets(), People(Principal("carol", stamp="pw"))
    served = Served(("tickets", ticket), ("password", password))
    await served.start()
    try:
        made = await served.made("Negotiate carol-1")
        assert (await served.whoami(made.secret)).user == "carol"
    finally:
        await served.harness.stop()


async def test_the_servers_half_of_a_mutual_authentication_is_told_back(served: Served) -> None:
    call = served.harness.credentials.CreateSession(
        pb.CreateSessionRequest(), metadata=shown("Negotiate carol-1")
    )
    assert (await call).authenticate == "Negotiate aGVsbG8="
    assert dict(await call.trailing_metadata())[AUTHENTICATE] == "Negotiate aGVsbG8="


async def test_who_shows_nothing_is_told_by_what_to_sign_in(served: Served) -> None:
    refused = await refusal(
        served.harness.credentials.CreateSession(pb.CreateSessionRequest(), metadata=())
    )
    assert reason(refused) == "CREDENTIALS_INVALID"
    assert trailers_of(refused)[AUTHENTICATE] == "Negotiate"


async def test_a_replayed_sign_in_makes_no_second_session(served: Served) -> None:
    await served.made("Negotiate carol-1")
    refused = await refusal(served.made("Negotiate carol-1"))
    assert reason(refused) == "CREDENTIALS_INVALID"


async def test_one_session_more_ends_the_one_that_was_renewed_longest_ago() -> None:
    served = Served(("password", people()), quotas=Quotas(tokens=2, sessions=3))
    await served.start()
    try:
        first = await served.made("Basic alice", "first")
        kept = await served.harness.credentials.CreateToken(
            pb.CreateTokenRequest(), metadata=shown(first.secret)
        )
        second = await served.made("Basic alice", "second")
        third = await served.made("Basic alice", "third")
        served.harness.ahead_ms = 60_000
        await served.renewed(second.secret)
        await served.made("Basic alice", "fourth")
        names = {one.display_name for one in await served.listed("Basic alice")}
        assert names == {"first", "second", "fourth", ""}  # by the first a token was made
        assert reason(await refusal(served.whoami(third.secret))) == "CREDENTIALS_INVALID"
        assert (await served.whoami(kept.secret)).user == "alice"
        # and sessions are no API tokens, of which two may be
        await served.harness.credentials.CreateToken(
            pb.CreateTokenRequest(), metadata=shown("Basic alice")
        )
        refused = await refusal(
            served.harness.credentials.CreateToken(
                pb.CreateTokenRequest(), metadata=shown("Basic alice")
            )
        )
        assert reason(refused) == "OVERLOADED"
    finally:
        await served.harness.stop()


async def test_a_name_that_is_too_long_is_refused(served: Served) -> None:
    refused = await refusal(served.made("Basic alice", "x" * 101))
    assert reason(refused) == "FIELD_INVALID"
    assert await served.listed("Basic alice") == []


async def test_a_provider_that_is_away_keeps_no_session_out_and_is_named(served: Served) -> None:
    away = Unasked()
    other = Served(("directory", Away()), ("own", away))
    await other.start()
    try:
        refused = await refusal(other.made("Basic alice"))
        assert (refused.code(), reason(refused)) == (
            grpc.StatusCode.UNAVAILABLE,
            "IDENTITY_UNAVAILABLE",
        )
        assert "directory" in (refused.details() or "")
    finally:
        await other.harness.stop()
    made = await served.made("Basic alice")
    people_of(served).away = True
    assert (await served.whoami(made.secret)).user == "alice"


class Away(People):
    """Does not answer."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        from gateway.authenticators.contract import AuthenticatorUnavailable

        raise AuthenticatorUnavailable("it is away")


async def test_a_session_makes_clusters(served: Served) -> None:
    made = await served.made("Basic alice")
    cluster = await served.harness.clusters.CreateCluster(create("etl"), metadata=as_(made.secret))
    assert cluster.name.startswith("users/alice/")
