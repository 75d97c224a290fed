"""What the edge asks the server of those whom it lets in. Knows the server's words, not what
follows from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import grpc
from daskgateway.internal.v1 import access_pb2 as pb
from daskgateway.internal.v1 import access_pb2_grpc

from gateway.proxy.http.access import SessionGrant
from gateway.proxy.routes.routes import edge_token
from gateway.proxy.upstream.channels import Channels
from gateway.wire import AUTHORIZATION, Ticket

logger = logging.getLogger(__name__)

ASK_S = 5.0  # until the server is taken not to answer
MOST_CHECKED = 500  # in one call
VERDICTS = {pb.ACCESS_VERDICT_ALLOWED: True, pb.ACCESS_VERDICT_DENIED: False}


class TicketRefused(Exception):
    """The server does not take the ticket: it was used, or what it rests on is over."""


class Unanswered(Exception):
    """The server does not answer, or cannot tell."""


class Server:
    """The server's AccessService."""

    def __init__(self, channels: Channels, token_file: str) -> None:
        self._channels, self._token_file = channels, token_file

    def _stub(self) -> Any:
        return access_pb2_grpc.AccessServiceStub(self._channels.own())  # type: ignore[no-untyped-call]

    async def redeem(self, text: str) -> Ticket:
        """Take a ticket for what it permits; a server that starts again is waited for.
        TicketRefused; Unanswered, then maybe later."""
        try:
            await self._channels.there(ASK_S)
            answer = await self._stub().RedeemTicket(
                pb.RedeemTicketRequest(ticket=text),
                metadata=self._credentials(),
                timeout=ASK_S,
                wait_for_ready=True,
            )
        except grpc.aio.AioRpcError as error:
            if error.code() in (
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.PERMISSION_DENIED,
                grpc.StatusCode.INVALID_ARGUMENT,
            ):
                raise TicketRefused from None
            raise Unanswered(f"{error.code().name}: {error.details()}") from None
        except OSError as error:
            raise Unanswered(str(error)) from None
        told = answer.access
        return Ticket(
            told.uid, told.user, 0, "", told.token_id, told.stamp, told.admin, told.expires_at_ms
        )

    async def check(self, grants: Sequence[SessionGrant]) -> Sequence[bool | None]:
        """Return of each grant whether it still holds, None where that cannot be told; Unanswered
        if nobody tells anything."""
        request = pb.CheckAccessRequest(accesses=[_access(grant) for grant in grants])
        try:
            answer = await self._stub().CheckAccess(
                request, metadata=self._credentials(), timeout=ASK_S
            )
        except (grpc.aio.AioRpcError, OSError) as error:
            raise Unanswered(
                f"{error.code().name}: {error.details()}"
                if isinstance(error, grpc.aio.AioRpcError)
                else str(error)
            ) from None
        verdicts = [VERDICTS.get(verdict) for verdict in answer.verdicts]
        return verdicts if len(verdicts) == len(grants) else [None] * len(grants)

    async def end_session(self, grant: SessionGrant) -> None:
        """Have a session ended everywhere; Unanswered if that is not told."""
        try:
            await self._stub().EndSession(
                pb.EndSessionRequest(access=_access(grant)),
                metadata=self._credentials(),
                timeout=ASK_S,
            )
        except (grpc.aio.AioRpcError, OSError) as error:
            raise Unanswered(str(error)) from None

    def _credentials(self) -> tuple[tuple[str, str]]:
        return ((AUTHORIZATION, f"Bearer {edge_token(self._token_file)}"),)


def _access(grant: SessionGrant) -> pb.Access:
    return pb.Access(
        uid=grant.uid,
        user=grant.user,
        token_id=grant.token_id,
        stamp=grant.stamp,
        admin=grant.admin,
        session_id=grant.session_id,
        expires_at_ms=grant.expires_at,
    )
