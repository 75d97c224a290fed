"""CredentialService: from a message to a use case and back, nothing more."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc

from gateway.server.core.errors import FieldInvalid, Violation
from gateway.server.core.model import Token
from gateway.server.core.sign_in_options import Sessions
from gateway.server.rpc import messages, requests
from gateway.server.rpc.caller import principal
from gateway.server.rpc.passed_over import PassedOver
from gateway.server.usecases import credentials, sessions
from gateway.server.usecases.services import Services
from gateway.wire import AUTHENTICATE, server_name

logger = logging.getLogger(__name__)


def _ttl(request: Any) -> float | None:
    violations: list[Violation] = []
    ttl_s = requests.optional_seconds(request, "ttl", "ttl", violations)
    if violations:
        raise FieldInvalid(violations)
    return ttl_s


def _check(token: Token) -> None:
    """Raise FieldInvalid if a token that is about to be stored could not be shown."""
    try:
        messages.token(token)
    except ValueError as error:
        raise FieldInvalid([Violation("ttl", f"it cannot be shown: {error}")]) from None


class CredentialServicer(credential_service_pb2_grpc.CredentialServiceServicer):
    """The service."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._passed_over = PassedOver(logger, "this token cannot be shown; lists pass it over")

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Any) -> pb.WhoAmIResponse:
        caller = principal()
        scopes = sorted(messages.SCOPES[scope] for scope in caller.scopes)
        return pb.WhoAmIResponse(
            user=caller.user,
            admin=caller.admin,
            scopes=scopes,
            groups=caller.groups,
            expire_time=messages.timestamp(caller.expires_at) if caller.expires_at else None,
            way=caller.way,
        )

    async def CreateToken(
        self, request: pb.CreateTokenRequest, context: Any
    ) -> pb.CreateTokenResponse:
        call, scopes = requests.call("CreateToken", request), requests.scopes(request.scopes)
        name, ttl_s = request.display_name, _ttl(request)
        token, secret = await credentials.create_token(
            self._services, principal(), name, ttl_s, scopes, call, check=_check
        )
        return pb.CreateTokenResponse(token=messages.token(token), secret=secret)

    async def ListTokens(
        self, request: pb.ListTokensRequest, context: Any
    ) -> pb.ListTokensResponse:
        tokens, more = await credentials.list_tokens(
            self._services, principal(), request.page_size, request.page_token
        )
        return pb.ListTokensResponse(
            tokens=[told for token in tokens if (told := self._token(token))], next_page_token=more
        )

    def _token(self, token: Token) -> pb.Token | None:
        try:
            return messages.token(token)
        except Exception as error:  # it must not be the end of the others
            self._passed_over.tell(f"token {token.id} of {token.user}", error)
            return None

    async def RevokeToken(
        self, request: pb.RevokeTokenRequest, context: Any
    ) -> pb.RevokeTokenResponse:
        return pb.RevokeTokenResponse(
            ids=await credentials.revoke_token(self._services, principal(), request.id)
        )

    async def CreateSession(
        self, request: pb.CreateSessionRequest, context: Any
    ) -> pb.CreateSessionResponse:
        caller = principal()
        token, secret = await sessions.create_session(self._services, caller, request.display_name)
        if caller.reply:
            context.set_trailing_metadata(((AUTHENTICATE, caller.reply),))
        return pb.CreateSessionResponse(
            session=self._session(token), secret=secret, authenticate=caller.reply
        )

    async def RenewSession(
        self, request: pb.RenewSessionRequest, context: Any
    ) -> pb.RenewSessionResponse:
        token = await sessions.renew_session(self._services, principal())
        return pb.RenewSessionResponse(session=self._session(token))

    async def EndSession(
        self, request: pb.EndSessionRequest, context: Any
    ) -> pb.EndSessionResponse:
        ended = await sessions.end_session(
            self._services, principal(), everywhere=request.everywhere
        )
        return pb.EndSessionResponse(ids=ended)

    def _session(self, token: Token) -> pb.Session:
        return messages.session(token, self._services.now())

    async def GetSignInOptions(
        self, request: pb.GetSignInOptionsRequest, context: Any
    ) -> pb.GetSignInOptionsResponse:
        return pb.GetSignInOptionsResponse(
            options=[
                pb.SignInOption(
                    name=one.name,
                    description=one.description,
                    schemes=one.schemes,
                    client_way=one.client_way,
                    session=one.sessions is Sessions.ADVISED,
                    device=None if one.device is None else pb.DeviceLogin(**asdict(one.device)),
                )
                for one in self._services.sign_in_options()
            ]
        )

    async def GenerateClientCertificate(
        self, request: pb.GenerateClientCertificateRequest, context: Any
    ) -> pb.GenerateClientCertificateResponse:
        cluster, certificate, authority, expires_at = await credentials.generate_client_certificate(
            self._services, principal(), request.name, request.public_key, _ttl(request)
        )
        return pb.GenerateClientCertificateResponse(
            certificate=certificate,
            ca_certificate=authority,
            expire_time=messages.timestamp(expires_at),
            server_name=server_name(cluster.uid),
        )

    async def CreateDashboardTicket(
        self, request: pb.CreateDashboardTicketRequest, context: Any
    ) -> pb.CreateDashboardTicketResponse:
        url, expires_at = credentials.create_dashboard_ticket(
            self._services, principal(), request.name
        )
        return pb.CreateDashboardTicketResponse(url=url, expire_time=messages.timestamp(expires_at))
