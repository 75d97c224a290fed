"""What the writer knows of its file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.server.core.model import Cluster, Spec, State, Worker
from gateway.server.store.sqlite import mirror as module
from gateway.server.store.sqlite.mirror import Mirror, in_order


def cluster(uid: str, owner: str = "alice", state: State = State.ACTIVE) -> Cluster:
    """Return a cluster."""
    return Cluster(uid, owner, uid, Spec("noop"), state=state)


def workers(uid: str, count: int) -> dict[str, Worker]:
    """Return workers by name."""
    return {
        f"default-{n}": Worker(uid, f"default-{n}", "default", created_at=n) for n in range(count)
    }


def test_living_clusters_are_counted_as_they_come_finish_and_go() -> None:
    mirror = Mirror([cluster("a"), cluster("b", "bob"), cluster("c", state=State.STOPPED)])
    assert (mirror.living(), mirror.living("alice"), mirror.living("carol")) == (2, 1, 0)
    mirror.put([replace(cluster("a"), revision=2), cluster("d")], [], ())
    assert (mirror.living(), mirror.living("alice")) == (3, 2)
    mirror.put([cluster("a", state=State.FAILED)], [], ())
    assert mirror.living("alice") == 1
    mirror.put([], [], {"a", "d"})
    assert mirror.living() == 1
    assert mirror.cluster("a") is None


def test_workers_of_the_clusters_least_used_are_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEPT_WORKERS", 25)
    mirror = Mirror([])
    for uid in ("a", "b"):
        mirror.learn_workers(uid, workers(uid, 10))
    assert mirror.workers("a") is not None
    mirror.learn_workers("c", workers("c", 10))
    assert mirror.workers("b") is None
    assert mirror.workers("a") is not None
    mirror.learn_workers("big", workers("big", 100))
    assert mirror.workers("big") is not None
    assert mirror.workers("a") is None


def test_workers_are_told_oldest_first_then_by_name() -> None:
    made = [
        Worker("a", name, "default", created_at=at)
        for name, at in (("x-2", 5), ("x-1", 5), ("x-9", 1))
    ]
    assert [worker.name for worker in in_order(made)] == ["x-9", "x-1", "x-2"]
