"""Who makes the call that is being answered: set by the interceptors, read by the servicers."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from gateway.server.core.errors import CredentialsInvalid
from gateway.server.core.model import Principal
from gateway.server.rpc.peers import NOWHERE, Peer


@dataclass(slots=True)
class Caller:
    """What is known of a caller; `user` is told in the log."""

    correlation_id: str
    peer: Peer = NOWHERE
    metadata: Mapping[str, Any] = field(default_factory=dict)  # as it came with the call
    user: str = ""
    principal: Principal | None = None
    agent_uid: str = ""  # set for an agent that proved to be the one of this cluster
    edge: bool = False  # set for an edge


current: ContextVar[Caller] = ContextVar("caller")


def calling_user() -> str:
    """Return the user who makes the call that is being answered, empty outside of one."""
    caller = current.get(None)
    return caller.user if caller is not None else ""


def principal() -> Principal:
    """Return the authenticated caller."""
    caller = current.get()
    if caller.principal is None:
        raise CredentialsInvalid
    return caller.principal
