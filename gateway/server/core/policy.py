"""Who may do what. Decided from the caller and the name alone, before anything is read: what is
another's and what does not exist look the same."""

from __future__ import annotations

from gateway.server.core.errors import (
    CredentialsInvalid,
    NotPermitted,
    OfAnother,
    RightsChanged,
    ScopeMissing,
    ServiceError,
)
from gateway.server.core.model import Principal, Scope


def require(principal: Principal, scope: Scope, owner: str | None = None) -> None:
    """Raise NotPermitted unless the caller's credentials have the scope (ScopeMissing names it) and
    the owner is the caller (None: everybody)."""
    if scope not in principal.scopes:
        raise ScopeMissing(metadata={"scope": f"SCOPE_{scope.name}"})
    if owner != principal.user and not principal.admin:
        if owner is None:
            raise NotPermitted
        raise OfAnother(metadata={"owner": owner, "user": principal.user})


def lapsed(opened: Principal, present: Principal | None) -> ServiceError | None:
    """Return why what a caller has opened must end, given who the caller is now; None if it may go
    on.

    Whoever has lost a right, and may go on without it, opens it anew.
    """
    if present is None:
        return CredentialsInvalid()
    if (opened.admin and not present.admin) or opened.scopes - present.scopes:
        return RightsChanged()
    return None
