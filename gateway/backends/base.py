"""What backends have in common: their configuration, and nothing else. The promise itself is
`contract.Backend`."""

from __future__ import annotations

from collections.abc import Mapping

from traitlets import Bool, Float
from traitlets.config import Configurable

from gateway.backends.contract import Observe, Resources


class BaseBackend(Configurable):
    """Base of backends that are configured by traitlets."""

    name = ""

    local = Bool(
        False,
        help="Whether schedulers may run on the gateway's own machine. Only then does the edge"
        " connect to addresses of that machine,"
        " loopback included, that a scheduler says are its own or its dashboard's.",
    ).tag(config=True)
    observe_interval_s = Float(10.0, min=0.1, help="Seconds between two looks at what runs.").tag(
        config=True
    )

    push: Observe

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, one line each, as far as it can be told without
        asking anybody."""
        return []

    def place(self) -> Mapping[str, str]:
        """Return the settings, by full name, that say where instances are: what was started when
        one had another value is not found any more."""
        return {}

    def cluster_settings(self) -> Mapping[str, object]:
        """Return nothing: a cluster needs no settings of this backend's own."""
        return {}

    def allots(self, resources: Resources) -> Resources:
        """Return what is asked for: exactly that is given."""
        return resources

    async def open(self, push: Observe) -> None:
        """Make ready."""
        self.push = push

    async def close(self) -> None:
        """Let go of everything but the processes."""
