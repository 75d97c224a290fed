"""Doors over an authenticator whose clock is the test's."""

from __future__ import annotations

from gateway.authenticators.contract import Authenticator
from gateway.server.core.model import Principal, Token
from gateway.server.security import tokens
from gateway.server.security.doors import Doors
from gateway.server.store.memory import MemoryStore

ADMIN = Principal("alice", admin=True, groups=("physics",))


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s

    def ms(self) -> int:
        """Return the instant in milliseconds."""
        return int(self.s * 1000)


async def doors_of(authenticator: Authenticator, clock: Clock) -> tuple[Doors, MemoryStore]:
    """Return doors, and the store behind them."""
    store = MemoryStore()
    await store.open()
    doors = Doors(authenticator, store, None, b"", clock.ms)  # type: ignore[arg-type]
    doors.identities._clock = clock
    return doors, store


async def a_token(
    store: MemoryStore, user: str = "alice", expires_at: int = 10**12, **fields: object
) -> str:
    """Return the text of a new token."""
    minted = tokens.mint("api")
    token = Token(minted.id, user, minted.secret_hash, expires_at=expires_at, **fields)  # type: ignore[arg-type]
    await store.transact(lambda tx: tx.put_token(token))
    return minted.text
