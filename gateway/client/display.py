"""How a cluster shows itself in a notebook: HTML out of what is known already. No I/O: Dask asks for it again and again."""

from __future__ import annotations

import html

from daskgateway.v1 import cluster_pb2

from gateway.client import requests
from gateway.client.adaptive import GatewayAdaptive


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f'<td style="text-align: left;">{html.escape(cell)}</td>' for cell in cells) + "</tr>"


def status_row(cluster: cluster_pb2.Cluster, gateway: str) -> str:
    """Return the row that Dask's own table of a cluster gets besides its own."""
    why = requests.explanation(cluster) if cluster.status.state != cluster_pb2.CLUSTER_STATE_ACTIVE else gateway
    return _row(f"Gateway: {requests.state(cluster)}", why)


def scaling_table(here: int, cluster: cluster_pb2.Cluster, adaptive: GatewayAdaptive | None) -> str:
    """Return how the cluster is sized, and how many of its workers are here."""
    mode = f"Adaptive ({adaptive.minimum} to {adaptive.maximum})" if adaptive else "Manual"
    wanted = sum(group.desired for group in cluster.status.worker_groups.values())
    workers = f"{here}" if here == wanted or adaptive else f"{here} / {wanted}"
    return f"<table>{_row(f'Scaling mode: {mode}')}{_row(f'Workers: {workers}')}</table>"
