"""Who may do what, and when what was opened must end because its caller's rights have changed."""

from __future__ import annotations

import pytest

from gateway.server.core.errors import CredentialsInvalid, NotPermitted, RightsChanged
from gateway.server.core.model import Principal, Scope
from gateway.server.core.policy import lapsed, require

READ = frozenset({Scope.CLUSTERS_READ})
BOTH = frozenset({Scope.CLUSTERS_READ, Scope.TOKENS})
ALICE = Principal("alice", scopes=READ)
ROOT = Principal("root", admin=True, scopes=READ)


@pytest.mark.parametrize(
    ("principal", "scope", "owner", "allowed"),
    [
        (ALICE, Scope.CLUSTERS_READ, "alice", True),
        (ALICE, Scope.CLUSTERS_READ, "bob", False),
        (ALICE, Scope.CLUSTERS_READ, None, False),
        (ALICE, Scope.CLUSTERS_READ, "", False),
        (ALICE, Scope.CLUSTERS_WRITE, "alice", False),
        (ROOT, Scope.CLUSTERS_READ, "root", True),
        (ROOT, Scope.CLUSTERS_READ, "bob", True),
        (ROOT, Scope.CLUSTERS_READ, None, True),
        (ROOT, Scope.CLUSTERS_WRITE, "root", False),
    ],
)
def test_who_may(principal: Principal, scope: Scope, owner: str | None, allowed: bool) -> None:
    if allowed:
        require(principal, scope, owner)
        return
    with pytest.raises(NotPermitted):
        require(principal, scope, owner)


@pytest.mark.parametrize(
    ("opened", "present", "expected"),
    [
        (ALICE, ALICE, None),
        (ALICE, None, CredentialsInvalid),
        (ROOT, ROOT, None),
        (ROOT, Principal("root", scopes=READ), RightsChanged),
        (ALICE, Principal("alice", admin=True, scopes=READ), None),
        (ALICE, Principal("alice", scopes=BOTH), None),
        (Principal("alice", scopes=BOTH), ALICE, RightsChanged),
        (ALICE, Principal("alice", scopes=frozenset({Scope.TOKENS})), RightsChanged),
        (ALICE, Principal("alice", scopes=frozenset()), RightsChanged),
    ],
)
def test_what_was_opened_ends_with_the_rights_it_was_opened_by(
    opened: Principal, present: Principal | None, expected: type[Exception] | None
) -> None:
    found = lapsed(opened, present)
    assert (type(found) if found is not None else None) is expected
