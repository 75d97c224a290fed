"""Links to dashboards where Dask makes them of a scheduler's own host and port, which nobody
reaches from outside: of a plain `Client("dgw://…")`, and in "Scheduler Info".

Dask has no place to say otherwise: `distributed.dashboard.link` knows host and port only. So its
Client is told once, when the scheme `dgw` is first used; clients of other schedulers are left
alone.
"""

from __future__ import annotations

import re
from typing import Any

from distributed.client import Client

from gateway import wire

ANCHOR = re.compile(r'<a href="([^"]*)" target="_blank">[^<]*</a>')


def with_links(html: str, link: str) -> str:
    """Return what Dask shows of a cluster with links that lead to its dashboard, or none."""

    def anchor(match: re.Match[str]) -> str:
        there = link if match[1] != "None" else ""  # workers have no dashboards here
        return f'<a href="{there}" target="_blank">{there}</a>' if there else "none"

    return ANCHOR.sub(anchor, html)


def _ours(client: Any) -> str:
    """Return the address of a plain client's scheduler behind a gateway; empty for any other."""
    address = str(getattr(getattr(client, "scheduler", None), "address", "") or "")
    return address if client.cluster is None and address.startswith(f"{wire.SCHEME}://") else ""


def _link(address: str) -> str:
    from gateway.client.dask import comm

    return comm.dashboard_of(wire.parse_scheduler_address(address))


def install() -> None:
    """Tell Dask's Client where dashboards behind a gateway are; once for a process."""
    kind: Any = Client  # which is not annotated
    if getattr(kind, "_daskgateway_links", False):
        return
    theirs, shown = kind.dashboard_link, kind._repr_html_

    def dashboard_link(client: Any) -> Any:
        """Link to the scheduler's dashboard; None if it has none."""
        address = _ours(client)
        return (_link(address) or None) if address else theirs.fget(client)

    def html(client: Any) -> str:
        told, address = str(shown(client)), _ours(client)
        return with_links(told, _link(address)) if address else told

    kind.dashboard_link = property(dashboard_link, doc=theirs.__doc__)
    kind._repr_html_ = html
    kind._daskgateway_links = True
