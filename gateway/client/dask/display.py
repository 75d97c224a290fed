"""How a cluster shows itself in a notebook: HTML out of what is known already. No I/O: Dask asks
for it again and again."""

from __future__ import annotations

import html
from typing import Any

from gateway.client.dask.adaptive import GatewayAdaptive
from gateway.client.model import Cluster, ClusterState, Limits, show
from gateway.printable import printable


def _row(*cells: str) -> str:
    return (
        "<tr>"
        + "".join(
            f'<td style="text-align: left;">{html.escape(printable(cell))}</td>' for cell in cells
        )
        + "</tr>"
    )


CLOSED = "closed: it hears no more of its cluster, and below stands what it heard last"


def count_workers(scheduler: dict[str, Any]) -> None:
    """Let what Dask shows of a scheduler count the workers that are shown below it: Dask leaves the
    sums of another moment."""
    if "n_workers" in scheduler:
        workers = list(scheduler["workers"].values())  # at once: they come and go beside this
        scheduler["n_workers"] = len(workers)
        scheduler["total_threads"] = sum(worker.get("nthreads") or 0 for worker in workers)
        scheduler["total_memory"] = sum(worker.get("memory_limit") or 0 for worker in workers)


def status_rows(
    cluster: Cluster, limits: Limits | None, gateway: str, *, closed: bool = False
) -> str:
    """Return the rows that Dask's own table of a cluster gets besides its own; `closed`: the object
    that shows them hears no more."""
    why = cluster.explanation if cluster.state is not ClusterState.ACTIVE else gateway
    groups = {**cluster.spec.worker_groups, **cluster.status.worker_groups}
    told = [
        ("This object", CLOSED if closed else ""),
        (f"Gateway: {cluster.state}", why),
        *((f"Workers of group {name}", cluster.workers(name)) for name in groups),
        *((f"Each worker of group {name}", cluster.each(name)) for name in groups),
        ("Why workers are missing", "" if cluster.state.ending else cluster.missing),
        ("Limit of one cluster", limits.words if limits is not None else ""),
        ("Clients", str(cluster.status.clients)),
        ("Age", show.span(cluster.age)),
        ("Is stopped by itself", "" if cluster.state.ending else cluster.spec.lifecycle.words),
        ("Will be stopped", cluster.expires),
        ("Versions", cluster.status.versions_line),
    ]
    return "".join(_row(*row) for row in told if row[1])


def scaling_table(
    here: int, cluster: Cluster | None, adaptive: GatewayAdaptive | None, limits: Limits | None
) -> str:
    """Return how the cluster is sized: how many of its workers are here, how many are wished, and
    what limits make of that."""
    sizes = cluster.spec.worker_groups.values() if cluster is not None else ()
    # another object of the same cluster may have said so
    told = adaptive or next((one.adaptive for one in sizes if one.adaptive is not None), None)
    mode = f"Adaptive ({told.minimum} to {told.maximum})" if told else "Manual"
    workers = [f"{here} connected"]
    if cluster is not None:
        workers.append(f"{cluster.wish} {'were ' if cluster.state.ending else ''}wished")
        fixed = all(one.adaptive is None for one in cluster.spec.worker_groups.values())
        granted = str(cluster.status.desired)
        if fixed and not cluster.stale and not cluster.state.ending and granted != cluster.wish:
            workers.append(f"{granted} granted")
    rows = [_row(f"Scaling mode: {mode}"), _row(f"Workers: {', '.join(workers)}")]
    if limits is not None and limits.words:
        rows.append(_row(f"Limit: {limits.words}"))
    return f"<table>{''.join(rows)}</table>"
