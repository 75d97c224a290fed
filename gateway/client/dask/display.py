"""How a cluster shows itself in a notebook: HTML out of what is known already. No I/O: Dask asks
for it again and again."""

from __future__ import annotations

import html

from gateway.client.dask.adaptive import GatewayAdaptive
from gateway.client.model import Cluster, ClusterState
from gateway.printable import printable


def _row(*cells: str) -> str:
    return (
        "<tr>"
        + "".join(
            f'<td style="text-align: left;">{html.escape(printable(cell))}</td>' for cell in cells
        )
        + "</tr>"
    )


def status_row(cluster: Cluster, gateway: str) -> str:
    """Return the row that Dask's own table of a cluster gets besides its own."""
    why = cluster.explanation if cluster.state is not ClusterState.ACTIVE else gateway
    return _row(f"Gateway: {cluster.state}", why)


def scaling_table(here: int, cluster: Cluster | None, adaptive: GatewayAdaptive | None) -> str:
    """Return how the cluster is sized, and how many of its workers are here."""
    mode = f"Adaptive ({adaptive.minimum} to {adaptive.maximum})" if adaptive else "Manual"
    wanted = cluster.wish if cluster is not None else "0"
    workers = f"{here}" if adaptive or str(here) == wanted else f"{here} / {wanted}"
    return f"<table>{_row(f'Scaling mode: {mode}')}{_row(f'Workers: {workers}')}</table>"
