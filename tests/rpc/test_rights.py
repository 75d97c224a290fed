"""Rights that are taken away, over the wire: tokens made by tokens, what an admin does in another's
name, streams that stand open."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from daskgateway.v1 import cluster_pb2 as pb
from daskgateway.v1 import cluster_service_pb2 as service_pb
from daskgateway.v1 import credential_service_pb2 as credential_pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from gateway.server.core.admission import Offer
from gateway.server.core.errors import CredentialsInvalid
from gateway.server.core.model import Principal
from gateway.server.core.options import Integer
from gateway.server.security import tokens
from gateway.server.security.doors import Doors
from gateway.server.usecases import credentials
from tests.rpc.harness import Harness, Offers, PretendCredentials, now_ms
from tests.rpc.test_clusters import create, details, fields, reason
from tests.security.people import People

PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----"


class RealTokens(PretendCredentials):
    """Tokens that the doors know."""

    doors: Doors

    def mint_token(self, user: str) -> tuple[str, str, bytes]:
        minted = tokens.mint("api", user)
        return minted.text, minted.id, minted.secret_hash

    def forget_token(self, token_id: str) -> None:
        self.doors.forget_token(token_id)


class OffersByUser(Offers):
    """More for admins, and a queue for each group."""

    async def offer(self, principal: Principal) -> Offer:
        self.asked = principal
        most = 100 if principal.admin else 2
        own = [Integer(f"of_{group}", 0, minimum=0, maximum=9) for group in principal.groups]
        return dataclasses.replace(
            await super().offer(principal),
            fields=(Integer("cores", 1, minimum=1, maximum=most), *own),
        )


@dataclasses.dataclass
class Room:
    """A server whose people can change."""

    harness: Harness
    people: People

    async def token(
        self, who: str, ttl_s: int | None = None, **fields: Any
    ) -> credential_pb.CreateTokenResponse:
        """Make a token; `who` is what stands in an authorization header."""
        request = credential_pb.CreateTokenRequest(
            ttl=None if ttl_s is None else Duration(seconds=ttl_s), **fields
        )
        return await self.harness.credentials.CreateToken(request, metadata=by(who))

    async def whoami(self, who: str) -> credential_pb.WhoAmIResponse:
        """Ask who that is."""
        return await self.harness.credentials.WhoAmI(
            credential_pb.WhoAmIRequest(), metadata=by(who)
        )


def by(who: str) -> Sequence[tuple[str, str]]:
    """Return metadata: a token's text, or a user's name, which is the password."""
    return (("authorization", f"Bearer {who}" if who.startswith("dgw_") else f"Basic {who}"),)


class EdgeToo(Doors):
    """The edge's token is `edge`, an agent's `agent`."""

    async def agent(self, uid: str, token: str) -> None:
        if token != "agent":
            raise CredentialsInvalid

    async def edge(self, token: str) -> None:
        if token != "edge":
            raise CredentialsInvalid


@asynccontextmanager
async def people_room(port: RealTokens, people: Any = None) -> AsyncIterator[Room]:
    """Serve for people that can change, with real doors."""
    people = people or People(
        Principal("root", admin=True, groups=("staff",)),
        Principal("alice", groups=("physics",)),
        Principal("bob"),
    )
    harness = Harness(
        make_doors=lambda store: EdgeToo(people, store, None, b"", lambda: harness.now_ms()),  # type: ignore[arg-type]
        credentials_port=port,
        offers=OffersByUser(),
    )
    await harness.start()
    port.doors = harness.doors
    try:
        yield Room(harness, people)
    finally:
        await harness.stop()


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    """A server that asks for real."""
    async with people_room(RealTokens()) as made:
        yield made


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    """Return how a call failed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_child_lives_no_longer_than_its_parent(room: Room) -> None:
    parent = await room.token("alice", ttl_s=3600)
    refused = await refusal(room.token(parent.secret, ttl_s=3700))
    assert fields(refused) == {"ttl"}
    assert "the credentials expire that you show" in (refused.details() or "")
    child = await room.token(parent.secret)
    assert child.token.expire_time.ToMilliseconds() <= parent.token.expire_time.ToMilliseconds()
    assert (child.token.parent, parent.token.parent) == (parent.token.id, "")


async def test_a_child_of_a_sign_in_that_ends_ends_with_it(room: Room) -> None:
    ends_at = now_ms() + 500_000
    room.people.people["alice"] = Principal("alice", expires_at=ends_at)
    made = await room.token("alice")
    assert made.token.expire_time.ToMilliseconds() <= ends_at


async def test_a_revoked_token_takes_all_with_it_that_were_made_by_it_and_no_other(
    room: Room,
) -> None:
    first, other = await room.token("alice"), await room.token("alice")
    second = await room.token(first.secret)
    third, sibling = await room.token(second.secret), await room.token(first.secret)
    watch = room.harness.clusters.WatchClusters(
        service_pb.WatchClustersRequest(), metadata=by(third.secret)
    )
    await watch.read()
    request = credential_pb.RevokeTokenRequest(id=second.token.id)
    told = await room.harness.credentials.RevokeToken(request, metadata=by("alice"))
    assert list(told.ids) == [second.token.id, third.token.id]
    assert reason(await refusal(watch.read())) == "CREDENTIALS_INVALID"
    for secret in (second.secret, third.secret):
        assert reason(await refusal(room.whoami(secret))) == "CREDENTIALS_INVALID"
    for secret in (first.secret, other.secret, sibling.secret):
        assert (await room.whoami(secret)).user == "alice"
    refused = room.harness.credentials.RevokeToken(
        credential_pb.RevokeTokenRequest(id=first.token.id), metadata=by("bob")
    )
    assert reason(await refusal(refused)) == "TOKEN_NOT_FOUND"


async def test_a_token_revoked_while_it_makes_another_makes_none(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await room.token("alice")
    mint = RealTokens.mint_token

    def revoked_meanwhile(self: RealTokens, user: str) -> tuple[str, str, bytes]:
        del room.harness.store._tables.tokens[parent.token.id]
        return mint(self, user)

    monkeypatch.setattr(RealTokens, "mint_token", revoked_meanwhile)
    assert reason(await refusal(room.token(parent.secret))) == "CREDENTIALS_INVALID"


async def test_tokens_made_by_tokens_go_so_deep(room: Room) -> None:
    secret = (await room.token("alice")).secret
    for _ in range(credentials.MAX_TOKEN_DEPTH):
        secret = (await room.token(secret)).secret
    refused = await refusal(room.token(secret))
    assert fields(refused) == {"request"}


async def test_an_admin_acts_in_an_owners_name_by_the_owners_rights(room: Room) -> None:
    harness = room.harness
    for options, wrong in (
        ({"cores": 50}, "cluster.spec.options.cores"),
        ({"of_staff": 1}, "cluster.spec.options.of_staff"),
    ):
        request = create()
        request.parent = "users/alice"
        request.cluster.spec.options.update(options)
        refused = await refusal(harness.clusters.CreateCluster(request, metadata=by("root")))
        assert fields(refused) == {wrong}
    request = create()
    request.parent = "users/alice"
    request.cluster.spec.options.update({"cores": 2, "of_physics": 3})
    made = await harness.clusters.CreateCluster(request, metadata=by("root"))
    update = service_pb.UpdateClusterRequest(
        cluster=pb.Cluster(name=made.name, labels={"a": "b"}),
        update_mask=FieldMask(paths=["labels"]),
    )
    await harness.clusters.UpdateCluster(update, metadata=by("root"))
    assert harness.offers.asked == Principal("alice", groups=("physics",))  # type: ignore[attr-defined]
    room.people.people.pop("alice")
    harness.doors.identities._known.clear()
    # of one who is gone what there is can still be changed
    await harness.clusters.UpdateCluster(update, metadata=by("root"))
    assert harness.offers.asked == Principal("alice")  # type: ignore[attr-defined]


async def test_nothing_is_made_for_who_does_not_exist_or_cannot_be_asked_about(room: Room) -> None:
    request = create()
    request.parent = "users/nobody"
    assert fields(
        await refusal(room.harness.clusters.CreateCluster(request, metadata=by("root")))
    ) == {"parent"}
    assert (
        reason(await refusal(room.harness.clusters.CreateCluster(request, metadata=by("alice"))))
        == "NOT_PERMITTED"
    )
    room.people.away = True
    request.parent = "users/bob"
    refused = await refusal(room.harness.clusters.CreateCluster(request, metadata=by("root")))
    assert reason(refused) == "IDENTITY_UNAVAILABLE"


@pytest.mark.parametrize("how", ["demoted", "removed"])
async def test_an_admins_watch_of_all_ends_with_the_right_to_it(room: Room, how: str) -> None:
    token = (await room.token("root")).secret
    watches = {
        who: room.harness.clusters.WatchClusters(
            service_pb.WatchClustersRequest(parent=parent), metadata=by(who)
        )
        for who, parent in ((token, "users/*"), ("root", "users/*"), ("bob", ""))
    }
    for watch in watches.values():
        assert (await watch.read()).bookmark.initial_state_complete
    room.people.people["root"] = Principal("root")
    if how == "removed":
        del room.people.people["root"]
    room.harness.doors.identities._known.clear()
    await room.harness.doors.holds.check()
    for who in (token, "root"):
        refused = await refusal(watches[who].read())
        assert reason(refused) == ("RIGHTS_CHANGED" if how == "demoted" else "CREDENTIALS_INVALID")
        again = room.harness.clusters.WatchClusters(
            service_pb.WatchClustersRequest(parent="users/*"), metadata=by(who)
        )
        assert reason(await refusal(again.read())) == (
            "NOT_PERMITTED" if how == "demoted" else "CREDENTIALS_INVALID"
        )
    await room.harness.clusters.CreateCluster(create(), metadata=by("bob"))
    assert (await watches["bob"].read()).event.cluster.name == "users/bob/clusters/etl"
    watches["bob"].cancel()


async def test_a_former_admin_is_answered_nothing_of_what_the_admin_did(room: Room) -> None:
    request = create()
    request.parent = "users/alice"
    await room.harness.clusters.CreateCluster(request, metadata=by("root"))
    room.people.people["root"] = Principal("root")
    # a repetition, by its request_id
    refused = await refusal(room.harness.clusters.CreateCluster(request, metadata=by("root")))
    assert reason(refused) == "NOT_PERMITTED"
    assert set(details(refused)) == {"ErrorInfo"}


async def test_a_certificate_lasts_no_longer_than_the_credentials_and_for_anothers_cluster_an_hour(
    room: Room,
) -> None:
    made = await room.harness.clusters.CreateCluster(create(), metadata=by("alice"))
    token = (await room.token("alice", ttl_s=1800)).secret

    async def lasts_s(who: str, ttl_s: int | None = None) -> int:
        ttl = None if ttl_s is None else Duration(seconds=ttl_s)
        request = credential_pb.GenerateClientCertificateRequest(
            name=made.name, public_key=PUBLIC_KEY, ttl=ttl
        )
        answer = await room.harness.credentials.GenerateClientCertificate(request, metadata=by(who))
        # as the pretended signer has it
        return int(answer.expire_time.ToMilliseconds()) - 1_000_000

    assert await lasts_s("alice") == 86400
    assert 1700 < await lasts_s(token) <= 1800
    assert await lasts_s("root") == 3600
    for who, ttl_s in (("root", 3601), (token, 1801), ("alice", 8 * 86400)):
        assert fields(await refusal(lasts_s(who, ttl_s))) == {"ttl"}
