"""What the edge asks the server of browsers that sign in: which login pages there are, and to begin
and finish a login. Each caller has few at a time, so that strangers take nobody's turn."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from daskgateway.internal.v1 import access_pb2 as pb
from daskgateway.internal.v1 import access_pb2_grpc

from gateway.fair import FairPool
from gateway.networks import group_of
from gateway.proxy.routes.routes import edge_token
from gateway.proxy.upstream.asking import Unanswered
from gateway.proxy.upstream.channels import Channels
from gateway.turns import Turns
from gateway.wire import AUTHORIZATION

ASK_S = 5.0
FINISH_S = 40.0  # an identity source is waited for
KEPT_S = 20.0  # for so long it is known which login pages there are
AT_A_TIME, EACH, WAITING = 32, 4, 16


class Refused(Exception):
    """There is no login; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Pages:
    """The login pages there are, by way, and whether passwords are another."""

    ways: Sequence[pb.LoginPage] = ()
    passwords: bool = True

    @property
    def only(self) -> str:
        """The way that browsers are sent without a question; empty if they are asked."""
        found = self.ways
        return found[0].way if len(found) == 1 and found[0].at_once and not self.passwords else ""


class Logins:
    """The server's part of logins."""

    def __init__(self, channels: Channels, token_file: str) -> None:
        self._channels, self._token_file = channels, token_file
        self._turns = Turns(FairPool(AT_A_TIME, EACH, most_waiting=WAITING))
        self._pages, self._asked_at = Pages(), -KEPT_S

    async def pages(self) -> Pages:
        """Return the login pages there are; while the server is away, those there were."""
        if time.monotonic() - self._asked_at >= KEPT_S:
            try:
                answer = await self._stub().ListLoginPages(
                    pb.ListLoginPagesRequest(), metadata=self._credentials(), timeout=ASK_S
                )
            except (grpc.aio.AioRpcError, OSError):
                return self._pages
            self._pages = Pages(tuple(answer.pages), answer.passwords)
            self._asked_at = time.monotonic()
        return self._pages

    async def begin(self, way: str, goes_to: str, address: str) -> pb.BeginLoginResponse:
        """Return where a browser is sent; Refused, Unanswered, Crowded."""
        request = pb.BeginLoginRequest(way=way, goes_to=goes_to)
        begun: pb.BeginLoginResponse = await self._asked("BeginLogin", request, address)
        return begun

    async def finish(
        self, way: str, sealed: str, answer: Mapping[str, str], address: str
    ) -> pb.FinishLoginResponse:
        """Return the session of a browser that has come back; Refused, Unanswered, Crowded."""
        request = pb.FinishLoginRequest(way=way, sealed=sealed, answer=answer, address=address)
        found: pb.FinishLoginResponse = await self._asked("FinishLogin", request, address)
        return found

    async def _asked(self, name: str, request: Any, address: str) -> Any:
        async with self._turns.turn(group_of(address)):
            try:
                answer = await getattr(self._stub(), name)(
                    request, metadata=self._credentials(), timeout=FINISH_S
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                    raise Refused("The browser came back with what is no answer.") from None
                raise Unanswered(f"{error.code().name}: {error.details()}") from None
            except OSError as error:
                raise Unanswered(str(error)) from None
        if answer.refused:
            raise Refused(answer.refused)
        return answer

    def _stub(self) -> Any:
        return access_pb2_grpc.AccessServiceStub(self._channels.own())  # type: ignore[no-untyped-call]

    def _credentials(self) -> tuple[tuple[str, str]]:
        return ((AUTHORIZATION, f"Bearer {edge_token(self._token_file)}"),)
