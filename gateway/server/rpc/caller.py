"""Who makes the call that is being answered: set by the interceptors, read by the servicers."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from gateway.server.core.errors import CredentialsInvalid
from gateway.server.core.model import Principal


@dataclass(slots=True)
class Caller:
    """What is known of a caller; `user` is told in the log."""

    correlation_id: str
    user: str = ""
    principal: Principal | None = None
    agent_uid: str = ""  # set for an agent that proved to be the one of this cluster
    edge: bool = False  # set for an edge


current: ContextVar[Caller] = ContextVar("caller")


def principal() -> Principal:
    """Return the authenticated caller."""
    caller = current.get()
    if caller.principal is None:
        raise CredentialsInvalid
    return caller.principal
