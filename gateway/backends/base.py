"""What backends have in common: their configuration, and nothing else. The promise itself is
`contract.Backend`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from traitlets import Bool, Float, TraitError
from traitlets.config import Configurable

from gateway.backends.contract import Observe, Resources, Target

# how traitlets begins, where it says which trait of which class it is
TRAIT_WORDS = re.compile(r"^The (value of the )?'\w+' trait of an? \w+ instance ")


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
        """Return what is wrong with the settings, one line each, as far as they and the files that
        they name tell: `c.Class.setting: what is there, and what would be right`. Nobody is asked,
        and nothing is changed."""
        return []

    def place(self) -> Mapping[str, str]:
        """Return the settings, by full name, that say where instances are: what was started when
        one had another value is not found any more."""
        return {}

    def checked_setting(self, name: str, value: object) -> object:
        """Return a value for one of `cluster_settings` as it is used; ValueError says what would be
        right. By the trait of that name, where there is one."""
        if not self.has_trait(name):
            return value
        try:
            # what setting it would do, without setting it; a plug-in's class may need arguments
            checked: object = self.traits()[name]._validate(self, value)
        except TraitError as error:
            raise ValueError(TRAIT_WORDS.sub("", str(error)).strip()) from None
        return checked

    def cluster_settings(self) -> Mapping[str, object]:
        """Return nothing: a cluster needs no settings of this backend's own."""
        return {}

    def allots(self, resources: Resources) -> Resources:
        """Return what is asked for: exactly that is given."""
        return resources

    def objection(self, resources: Resources, settings: Mapping[str, object]) -> str:
        """Return why an instance cannot be given GPUs and named resources: a backend that does not
        say how it gives them gives none."""
        what = "GPUs" if resources.gpus else ", ".join(sorted(resources.named))
        return f"the backend {self.name} gives no {what}" if what else ""

    def expect_ends(self, targets: Sequence[Target]) -> None:
        """Do nothing: ends are pushed when they come, or told at the interval."""

    async def open(self, push: Observe) -> None:
        """Make ready."""
        self.push = push

    async def close(self) -> None:
        """Let go of everything but the processes."""
