"""What a cluster object shows of itself, of what is known already; while somebody looks, the
gateway is asked beside that."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from daskgateway.v1 import cluster_service_pb2 as pb
from distributed.core import Status

from gateway import wire
from gateway.client.calls import api, errors
from gateway.client.calls.channel import Connection
from gateway.client.dask import display, links
from gateway.client.dask.adaptive import GatewayAdaptive
from gateway.client.dask.following import Following
from gateway.client.gateway import BaseGateway
from gateway.client.model import Cluster, Limits

LOOK_S = 2.0  # between two looks at what the gateway tells, while somebody looks at the object


class ViewedCluster(Following):
    """A cluster with its names, and as it looks in a notebook."""

    _resource: Cluster | None  # what the gateway told last
    _limits: Limits | None
    _look_at: float  # not before then, on the monotonic clock
    _full_name: str  # as it was asked for
    _gateway: BaseGateway
    _connection: Connection
    _adaptive: GatewayAdaptive | None

    def _told(self, cluster: Cluster) -> Cluster:
        """Keep what the gateway told last."""
        self._resource = cluster
        return cluster

    @property
    def name(self) -> str:
        """The cluster's id, `(starting)` before it has one."""
        return str(self._cluster_info["name"])

    @name.setter
    def name(self, name: str) -> None:
        self._cluster_info["name"] = name

    @property
    def uid(self) -> str:
        """The gateway's identity of the cluster; empty before it has one."""
        return self._resource.uid if self._resource is not None else ""

    @property
    def cluster_id(self) -> str:
        """The cluster's id among its owner's."""
        return (self._resource.name if self._resource is not None else self._full_name).rpartition(
            "/"
        )[2]

    @property
    def _uid_name(self) -> str:
        """The cluster's name by its uid: it never means another cluster that took the id later."""
        return (
            f"users/{self._resource.owner}/clusters/{self._resource.uid}"
            if self._resource is not None
            else self._full_name
        )

    @property
    def dashboard_link(self) -> str:
        """Address of the dashboard; a browser is asked to log in. `Gateway.dashboard_url` makes one
        that opens at once."""
        told = self._resource.status.endpoints.dashboard if self._resource is not None else ""
        public = self._connection.settings.public_address
        return f"{public}{wire.DASHBOARD_PATH}{self.uid}/status" if told and public else told

    @property
    def requested(self) -> set[Any]:
        """Names of the workers there are: the gateway names those to come."""
        return {worker.get("name") for worker in self.scheduler_info["workers"].values()}

    plan = requested

    def _repr_html_(self, cluster_status: str | None = None) -> str:
        self._look()
        display.count_workers(self.scheduler_info)
        if cluster_status is None and self._resource is not None:
            address, closed = self._gateway.address, self.status is Status.closed
            cluster_status = display.status_rows(
                self._resource, self._limits, address, closed=closed
            )
        told = str(super()._repr_html_(cluster_status=cluster_status))  # type: ignore[no-untyped-call]
        return links.with_links(told, self.dashboard_link)

    def _scaling_status(self) -> str:
        self._look()
        return display.scaling_table(
            len(self.scheduler_info["workers"]), self._resource, self._adaptive, self._limits
        )

    def _look(self) -> None:
        """Ask the gateway beside the caller, who shows what is known by now; again and again while
        somebody looks, and never while nobody does."""
        now = time.monotonic()
        if self.status is Status.running and now >= self._look_at:
            self._look_at = now + LOOK_S
            with suppress(RuntimeError):  # the loop is closed: the interpreter is ending
                loop = self.loop
                if loop is not None:
                    loop.add_callback(self._look_again)

    async def _look_again(self) -> None:
        once = Connection(replace(self._connection.settings, retry_s=0.0))
        request = pb.GetClusterRequest(name=self._uid_name)
        with suppress(errors.GatewayError):
            self._told(Cluster.from_proto(await once.call_async(api.GET_CLUSTER, request)))
