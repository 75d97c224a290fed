"""How a report of very many workers is sent: in parts that the server takes."""

from __future__ import annotations

from collections.abc import Iterator

from daskgateway.internal.v1 import agent_pb2 as pb

MAX_NAMES = 10_000  # of workers in one report, at most 64 bytes each: the server takes 512 KiB


def parts(report: pb.AgentReport) -> Iterator[pb.AgentReport]:
    """Yield a report, or the first of its names and then the others as reports of what has joined,
    left and retired since."""
    names = len(report.workers) + len(report.left) + len(report.retired)
    if names <= MAX_NAMES:
        yield report
        return
    told = [("workers", name) for name in report.workers]
    told += [("left", name) for name in report.left] + [
        ("retired", name) for name in report.retired
    ]
    for start in range(0, names, MAX_NAMES):
        part = pb.AgentReport()
        part.CopyFrom(report)
        for kind in ("workers", "left", "retired"):
            part.ClearField(kind)
        for kind, name in told[start : start + MAX_NAMES]:
            getattr(part, kind).append(name)
        if start:
            part.snapshot = False
            for field in ("scheduler_address", "dashboard_address", "versions"):
                part.ClearField(field)
        yield part
