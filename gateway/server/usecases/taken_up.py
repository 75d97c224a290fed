"""What the administrator has changed while clusters live, taken up or told when the server
starts."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping

from gateway.server.core import anew
from gateway.server.core.model import Cluster, Event, Lifecycle, Limits
from gateway.server.core.reasons import Reason
from gateway.server.store.contract import Store, Tx

logger = logging.getLogger(__name__)

AT_ONCE = 100  # clusters changed in one transaction
PLACE = "place."  # begins the keys under which it is kept where a backend's instances are


async def take_up(store: Store, limits: Limits, most: Lifecycle, now: int) -> int:
    """Hold living clusters to the limits and the longest lifecycles of today; return how many have
    changed."""
    changed = [
        cluster.uid
        for cluster in store.view.clusters()
        if anew.followed(cluster, limits, most, now)[1]
    ]

    def follow(tx: Tx, uids: list[str]) -> None:
        for cluster in filter(None, map(tx.cluster, uids)):
            after, words = anew.followed(cluster, limits, most, now)
            if words:
                tx.put_cluster(after)
                tx.add_events([Event(cluster.uid, now, Reason.LIMITS_CHANGED, words)])

    for start in range(0, len(changed), AT_ONCE):
        batch = changed[start : start + AT_ONCE]
        await store.transact(lambda tx, batch=batch: follow(tx, batch))  # type: ignore[misc]
    if changed:
        logger.info(
            "%d living clusters follow the limits of c.ClusterConfig, which have changed since they"
            " were made; their events say how",
            len(changed),
        )
    return len(changed)


async def tell_of_backends(store: Store, places: Mapping[str, Mapping[str, str]]) -> None:
    """Warn of clusters that are out of reach: of backends that are not configured any more, or that
    look elsewhere than where these clusters run. `places`: by name of the backend, its settings
    that say where that is."""
    living = Counter(cluster.spec.backend for cluster in store.view.clusters() if _lives(cluster))
    for name in living.keys() - places.keys():
        logger.warning(
            "%d clusters live on backend %s, which c.DaskGateway.backends does not name any more:"
            " they cannot be stopped before it does",
            living[name],
            name,
        )
    for name, place in places.items():
        key = PLACE + name
        kept = await store.read(lambda tx, key=key: tx.meta(key))  # type: ignore[misc]
        before = json.loads(kept) if kept else {}
        moved = {setting: was for setting, was in before.items() if place.get(setting, was) != was}
        if moved and living[name]:
            for setting, was in moved.items():
                logger.error(
                    "%s is %s, and %d clusters live that were started when it was %s: they are not"
                    " found now, and run on; set it back until they have ended",
                    setting,
                    place[setting],
                    living[name],
                    was,
                )
        elif before != dict(place):
            text = json.dumps(dict(place)).encode()
            await store.transact(lambda tx, key=key, text=text: tx.put_meta(key, text))  # type: ignore[misc]


def _lives(cluster: Cluster) -> bool:
    return not cluster.state.finished
