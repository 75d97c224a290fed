"""What an edge asks of those whom it lets in: tickets are taken once, and accesses last as long as
what they rest on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest
from daskgateway.internal.v1 import access_pb2 as pb
from daskgateway.v1 import cluster_pb2
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credential_pb

from gateway.server.core.model import Principal
from gateway.server.security.keys import Keys
from gateway.server.security.tickets import TicketSigner
from gateway.server.usecases import access as usecase
from gateway.wire import Ticket
from tests.rpc.harness import PretendAgent, as_
from tests.rpc.test_clusters import create, reason
from tests.rpc.test_rights import RealTokens, Room, by, people_room, refusal
from tests.security.people import Unasked

EDGE = as_("edge")
ALLOWED, DENIED, UNKNOWN = (
    pb.ACCESS_VERDICT_ALLOWED,
    pb.ACCESS_VERDICT_DENIED,
    pb.ACCESS_VERDICT_UNSPECIFIED,
)
SIGNER = TicketSigner(b"s" * 32)


class Tickets(RealTokens):
    """Signs tickets too."""

    issue_ticket = Keys.issue_ticket
    read_ticket = Keys.read_ticket
    _signer = SIGNER


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    """A server that asks for real and signs for real."""
    async with people_room(Tickets()) as made:
        yield made


async def active(room: Room, who: str = "alice") -> cluster_pb2.Cluster:
    """Return an active cluster."""
    made = await room.harness.clusters.CreateCluster(create(), metadata=by(who))
    await PretendAgent(room.harness, made.uid, token="agent").hello()
    wait = service_pb.WaitClusterRequest(name=made.name, states=[cluster_pb2.CLUSTER_STATE_ACTIVE])
    return await room.harness.clusters.WaitCluster(wait, metadata=by(who))


async def ticket(room: Room, cluster: cluster_pb2.Cluster, who: str = "alice") -> str:
    """Return a ticket as it stands in its link."""
    request = credential_pb.CreateDashboardTicketRequest(name=cluster.name)
    answer = await room.harness.credentials.CreateDashboardTicket(request, metadata=by(who))
    return parse_qs(urlsplit(answer.url).query)["ticket"][0]


async def redeem(room: Room, text: str) -> pb.Access:
    """Take a ticket for what it permits."""
    answer = await room.harness.access.RedeemTicket(
        pb.RedeemTicketRequest(ticket=text), metadata=EDGE
    )
    return answer.access


async def check(room: Room, *accesses: pb.Access) -> list[int]:
    """Return the verdicts."""
    answer = await room.harness.access.CheckAccess(
        pb.CheckAccessRequest(accesses=accesses), metadata=EDGE
    )
    return list(answer.verdicts)


def forget(room: Room) -> None:
    """Let what is known of people be too old."""
    room.harness.doors.identities._known.clear()


async def test_a_ticket_is_taken_once_however_many_come_with_it(room: Room) -> None:
    cluster = await active(room)
    text = await ticket(room, cluster)
    outcomes = await asyncio.gather(
        *(redeem(room, text) for _ in range(10)), return_exceptions=True
    )
    (found,) = [one for one in outcomes if isinstance(one, pb.Access)]
    assert (found.uid, found.user, found.token_id, found.expires_at_ms) == (
        cluster.uid,
        "alice",
        "",
        0,
    )
    assert {reason(one) for one in outcomes if isinstance(one, grpc.aio.AioRpcError)} == {
        "CREDENTIALS_INVALID"
    }
    await redeem(room, await ticket(room, cluster))  # another is another


@pytest.mark.parametrize(
    "text", ["", "x", "a.b", "e30.e30", SIGNER.issue(Ticket("c" + "a" * 20, "alice", 10**15))]
)
async def test_what_is_no_ticket_of_this_server_is_taken_for_nothing(room: Room, text: str) -> None:
    assert reason(await refusal(redeem(room, text))) == "CREDENTIALS_INVALID"
    forged = TicketSigner(b"t" * 32).issue(
        Ticket((await active(room)).uid, "alice", 10**15, "nonce")
    )
    assert reason(await refusal(redeem(room, forged))) == "CREDENTIALS_INVALID"


async def test_a_ticket_is_worth_nothing_once_its_time_or_what_it_rests_on_is_over(
    room: Room,
) -> None:
    cluster = await active(room)
    token = await room.token("alice")
    by_token, by_password, foreign = [
        await ticket(room, cluster, who) for who in (token.secret, "alice", "root")
    ]
    await room.harness.credentials.RevokeToken(
        credential_pb.RevokeTokenRequest(id=token.token.id), metadata=by("alice")
    )
    room.people.people["root"] = Principal("root")
    forget(room)
    for text in (by_token, foreign):
        assert reason(await refusal(redeem(room, text))) == "CREDENTIALS_INVALID"
    room.people.away = True
    forget(room)
    assert reason(await refusal(redeem(room, by_password))) == "IDENTITY_UNAVAILABLE"
    room.people.away = False
    forget(room)
    assert (await redeem(room, by_password)).user == "alice"  # it was not used up by that
    late = await ticket(room, cluster)
    room.harness.ahead_ms += 61_000
    assert reason(await refusal(redeem(room, late))) == "CREDENTIALS_INVALID"


async def test_an_access_ends_with_its_token_its_user_its_right_its_session_and_its_cluster(
    room: Room,
) -> None:
    cluster = await active(room)
    token = await room.token("alice", ttl_s=600)
    accesses = {
        who: await redeem(room, await ticket(room, cluster, who))
        for who in (token.secret, "alice", "root")
    }
    by_token, by_password, admins = accesses.values()
    assert by_token.token_id == token.token.id
    assert 0 < by_token.expires_at_ms <= token.token.expire_time.ToMilliseconds()
    session, other = [
        pb.Access(uid=cluster.uid, user="alice", session_id=name) for name in ("one", "other")
    ]
    everything = [by_token, by_password, admins, session, other]
    nothing = [
        pb.Access(uid=cluster.uid, user="bob"),
        pb.Access(uid="c" + "z" * 20, user="alice"),
        pb.Access(uid=cluster.uid, user="x"),
    ]
    assert await check(room, *everything, *nothing) == [ALLOWED] * 5 + [DENIED] * 3
    await room.harness.access.EndSession(pb.EndSessionRequest(access=session), metadata=EDGE)
    assert await check(room, *everything) == [ALLOWED, ALLOWED, ALLOWED, DENIED, ALLOWED]
    room.people.people["root"] = Principal("root")
    forget(room)
    assert await check(room, *everything) == [ALLOWED, ALLOWED, DENIED, DENIED, ALLOWED]
    await room.harness.credentials.RevokeToken(
        credential_pb.RevokeTokenRequest(id=token.token.id), metadata=by("alice")
    )
    assert await check(room, *everything) == [DENIED, ALLOWED, DENIED, DENIED, ALLOWED]
    room.people.people["alice"] = Principal("alice", stamp="another password's")
    forget(room)
    assert await check(room, by_password, other) == [DENIED, DENIED]
    room.people.people["alice"] = Principal("alice")
    forget(room)
    assert await check(room, by_password) == [ALLOWED]
    await room.harness.clusters.StopCluster(
        service_pb.StopClusterRequest(name=cluster.name), metadata=by("alice")
    )
    wait = service_pb.WaitClusterRequest(
        name=cluster.name, states=[cluster_pb2.CLUSTER_STATE_STOPPED]
    )
    await room.harness.clusters.WaitCluster(wait, metadata=by("alice"))
    assert await check(room, by_password) == [DENIED]


async def test_what_cannot_be_told_is_said_so(room: Room) -> None:
    cluster = await active(room)
    mine, unknown = (
        pb.Access(uid=cluster.uid, user="alice"),
        pb.Access(uid="c" + "z" * 20, user="alice"),
    )
    room.people.away = True
    forget(room)
    assert await check(room, mine, unknown) == [UNKNOWN, UNKNOWN]
    room.people.away = False
    forget(room)
    room.harness.doubted = True  # the database may lack clusters that run
    assert await check(room, mine, unknown) == [ALLOWED, UNKNOWN]


async def test_an_admin_who_cannot_be_asked_about_stays_one_as_long_as_the_sign_in_holds() -> None:
    async with people_room(
        Tickets(), Unasked(Principal("root", admin=True), Principal("alice"), sign_in_holds_s=600.0)
    ) as room:
        cluster = await active(room)
        found = await redeem(room, await ticket(room, cluster, "root"))
        assert found.admin
        assert await check(room, found) == [ALLOWED]
        assert await check(room, pb.Access(uid=cluster.uid, user="root")) == [DENIED]
        room.harness.ahead_ms += 601_000
        assert await check(room, found) == [DENIED]


async def test_one_users_used_tickets_and_ended_sessions_are_bounded(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usecase, "MAX_SPENT", 5)
    cluster = await active(room)
    for _ in range(5):
        await redeem(room, await ticket(room, cluster))
    text = await ticket(room, cluster)
    assert reason(await refusal(redeem(room, text))) == "OVERLOADED"
    await redeem(room, await ticket(room, cluster, "root"))  # another user's are others
    room.harness.ahead_ms += 61_000
    await redeem(room, await ticket(room, cluster))
    assert len(room.harness.store._tables.spent) == 2


@pytest.mark.parametrize("who", ["dgw_edge_no", "alice", "agent"])
async def test_only_an_edge_may_ask(room: Room, who: str) -> None:
    metadata = (*by(who), ("dgw-uid", "c" + "a" * 20)) if who != "agent" else as_("agent")
    calls: list[Any] = [
        room.harness.access.CheckAccess(pb.CheckAccessRequest(), metadata=metadata),
        room.harness.access.RedeemTicket(pb.RedeemTicketRequest(), metadata=metadata),
        room.harness.access.EndSession(pb.EndSessionRequest(), metadata=metadata),
    ]
    for call in calls:
        assert reason(await refusal(call)) == "CREDENTIALS_INVALID"


async def test_what_an_edge_asks_is_bounded(room: Room) -> None:
    for call in (
        room.harness.access.CheckAccess(
            pb.CheckAccessRequest(accesses=[pb.Access()] * 501), metadata=EDGE
        ),
        room.harness.access.EndSession(pb.EndSessionRequest(), metadata=EDGE),
        room.harness.access.EndSession(
            pb.EndSessionRequest(access=pb.Access(session_id="x" * 57)), metadata=EDGE
        ),
    ):
        assert reason(await refusal(call)) == "FIELD_INVALID"
