"""Who may do what. Decided from the caller and the name alone, before anything is read: what is another's and what does not
exist look the same."""

from __future__ import annotations

from gateway.server.core.errors import NotPermitted
from gateway.server.core.model import Principal, Scope


def require(principal: Principal, scope: Scope, owner: str | None = None) -> None:
    """Raise NotPermitted unless the caller's credentials have the scope and the owner is the caller (None: everybody)."""
    if scope not in principal.scopes:
        raise NotPermitted
    if owner != principal.user and not principal.admin:
        raise NotPermitted
