"""AccessService: from a message of the edge to a use case and back, nothing more."""

from __future__ import annotations

from typing import Any

from daskgateway.internal.v1 import access_pb2 as pb
from daskgateway.internal.v1 import access_pb2_grpc

from gateway.server.core.errors import CredentialsInvalid
from gateway.server.core.login_pages import LoginRefused
from gateway.server.rpc.caller import current
from gateway.server.usecases import access, browsers
from gateway.server.usecases.access import Access, Verdict
from gateway.server.usecases.services import Services

VERDICTS = {
    Verdict.UNKNOWN: pb.ACCESS_VERDICT_UNSPECIFIED,
    Verdict.ALLOWED: pb.ACCESS_VERDICT_ALLOWED,
    Verdict.DENIED: pb.ACCESS_VERDICT_DENIED,
}


class AccessServicer(access_pb2_grpc.AccessServiceServicer):
    """The service."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def RedeemTicket(
        self, request: pb.RedeemTicketRequest, context: Any
    ) -> pb.RedeemTicketResponse:
        _only_edges()
        found = await access.redeem_ticket(self._services, request.ticket)
        told = pb.Access(
            uid=found.uid,
            user=found.user,
            token_id=found.token_id,
            stamp=found.stamp,
            admin=found.admin,
            expires_at_ms=found.expires_at,
        )
        return pb.RedeemTicketResponse(access=told)

    async def CheckAccess(
        self, request: pb.CheckAccessRequest, context: Any
    ) -> pb.CheckAccessResponse:
        _only_edges()
        verdicts = await access.check(self._services, [_access(one) for one in request.accesses])
        return pb.CheckAccessResponse(verdicts=[VERDICTS[verdict] for verdict in verdicts])

    async def EndSession(
        self, request: pb.EndSessionRequest, context: Any
    ) -> pb.EndSessionResponse:
        _only_edges()
        await access.end_session(self._services, _access(request.access))
        return pb.EndSessionResponse()

    async def ListLoginPages(
        self, request: pb.ListLoginPagesRequest, context: Any
    ) -> pb.ListLoginPagesResponse:
        _only_edges()
        found = browsers.pages(self._services)
        return pb.ListLoginPagesResponse(
            pages=[
                pb.LoginPage(way=one.way, description=one.description, at_once=one.at_once)
                for one in found
            ],
            passwords=any("basic" in one.schemes for one in self._services.sign_in_options()),
        )

    async def BeginLogin(
        self, request: pb.BeginLoginRequest, context: Any
    ) -> pb.BeginLoginResponse:
        _only_edges()
        try:
            begun, back = await browsers.begin(self._services, request.way, request.goes_to)
        except LoginRefused as error:
            return pb.BeginLoginResponse(refused=str(error))
        return pb.BeginLoginResponse(url=begun.url, sealed=begun.sealed, redirect_uri=back)

    async def FinishLogin(
        self, request: pb.FinishLoginRequest, context: Any
    ) -> pb.FinishLoginResponse:
        _only_edges()
        try:
            token, secret, goes_to = await browsers.finish(
                self._services, request.way, request.sealed, request.answer, request.address
            )
        except LoginRefused as error:
            return pb.FinishLoginResponse(refused=str(error))
        return pb.FinishLoginResponse(
            secret=secret, expires_at_ms=token.expires_at, goes_to=goes_to
        )


def _only_edges() -> None:
    if not current.get().edge:
        raise CredentialsInvalid


def _access(told: pb.Access) -> Access:
    return Access(
        told.uid,
        told.user,
        told.token_id,
        told.stamp,
        told.admin,
        told.session_id,
        told.expires_at_ms,
    )
