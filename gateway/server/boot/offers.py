"""What each user is offered, out of the configuration: the port of the use cases."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.server.boot.config import ClusterConfig
from gateway.server.core.admission import Offer
from gateway.server.core.amounts import Allot
from gateway.server.core.model import Principal


class ConfiguredOffers:
    """Offers as configured: the port of the use cases."""

    def __init__(
        self,
        clusters: ClusterConfig,
        backends: Mapping[str, Mapping[str, object]],
        allots: Mapping[str, Allot] | None = None,
    ) -> None:
        """`backends`: by name the settings of a cluster that are a backend's own; `allots`: by name
        what it gives of what is asked for."""
        self._clusters, self._backends, self._allots = clusters, backends, allots or {}

    def offer(self, principal: Principal) -> Offer:
        """Return what a user may have."""
        clusters = self._clusters
        return Offer(
            backends=tuple(self._backends),
            fields=clusters.fields(principal),
            settings=clusters.settings(),
            limits=clusters.limits(),
            lifecycle=clusters.lifecycle(),
            most=clusters.most(),
            apply=clusters.apply_options,
            backend_settings=self._backends,
            allots=self._allots,
            max_options_bytes=clusters.max_options_bytes,
        )
