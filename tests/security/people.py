"""An authenticator whose people change, go and come back, and which is away at times."""

from __future__ import annotations

import asyncio

from gateway.authenticators.contract import Authenticator, AuthenticatorUnavailable, Credentials
from gateway.server.core.model import Principal


class People(Authenticator):
    """Everybody's password is the own name."""

    schemes = ("basic",)

    def __init__(self, *people: Principal, **settings: float) -> None:
        super().__init__(**settings)
        self.people = {one.user: one for one in people}
        self.asked: list[str] = []
        self.away = False
        self.answering = asyncio.Event()  # cleared: it keeps silent
        self.answering.set()

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        return self.people.get(credentials.value)

    async def identity(self, user: str) -> Principal | None:
        self.asked.append(user)
        await self.answering.wait()
        if self.away:
            raise AuthenticatorUnavailable("away")
        return self.people.get(user)


class Unasked(Authenticator):
    """Knows people only while they sign in."""

    schemes = ("basic",)

    def __init__(self, *people: Principal, **settings: float) -> None:
        super().__init__(**settings)
        self.people = {one.user: one for one in people}

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        return self.people.get(credentials.value)
