"""Reports of very many workers are sent in parts, of which the server makes the whole."""

from __future__ import annotations

import pytest
from daskgateway.internal.v1 import agent_pb2 as pb

from gateway.agent.reports import MAX_NAMES, parts


def a_report(workers: int, left: int = 0, retired: int = 0) -> pb.AgentReport:
    """Return a snapshot."""
    return pb.AgentReport(
        sequence=3,
        snapshot=True,
        scheduler_address="tls://10.0.0.1:1",
        versions={"dask": "1"},
        workers=[f"default-{n}" for n in range(workers)],
        left=[f"gone-{n}" for n in range(left)],
        retired=[f"old-{n}" for n in range(retired)],
        idle_ms=-1,
        targets={"default": 7},
    )


@pytest.mark.parametrize("workers", [0, 1, MAX_NAMES])
def test_what_fits_is_sent_as_it_is(workers: int) -> None:
    report = a_report(workers)
    assert list(parts(report)) == [report]


def test_what_does_not_fit_is_sent_in_parts_and_only_the_first_is_a_snapshot() -> None:
    report = a_report(2 * MAX_NAMES + 5, 7, MAX_NAMES)
    sent = list(parts(report))
    assert [part.snapshot for part in sent] == [True, False, False, False]
    assert all(len(part.workers) + len(part.left) + len(part.retired) <= MAX_NAMES for part in sent)
    assert all((part.idle_ms, part.targets["default"]) == (-1, 7) for part in sent)
    assert [bool(part.versions or part.scheduler_address) for part in sent] == [
        True,
        False,
        False,
        False,
    ]
    for kind in ("workers", "left", "retired"):
        assert [name for part in sent for name in getattr(part, kind)] == list(
            getattr(report, kind)
        )
    longest = pb.AgentReport(workers=["g" * 32 + "-" + "9" * 20] * MAX_NAMES)
    assert longest.ByteSize() < 600 * 1024
