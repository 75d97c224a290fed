"""Sections of a configuration for classes that are installed and not in use: they have no effect,
which is a hint and no fault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points

from traitlets.config import Config, Configurable

from gateway import configfile
from gateway.authenticators import registry as authenticators
from gateway.backends import registry as backends

GROUPS = ((backends.GROUP, "backends"), (authenticators.GROUP, "authenticator"))


def in_use(config: Config, classes: Sequence[type[Configurable]]) -> tuple[Config, list[str]]:
    """Return a configuration without the sections of installed classes that are not in use, and a
    hint for each."""
    names = {cls.__name__ for cls in classes}
    strange = [section for section in config if section not in names]
    if not strange:
        return config, []
    installed = _installed(strange)
    used = Config({name: values for name, values in config.items() if name not in installed})
    hints = []
    for section, (cls, setting, name) in installed.items():
        hints.append(
            f"c.{section}: not in use: c.DaskGateway.{setting} does not name {name!r}, so nothing"
            f" of this section has an effect"
        )
        hints += configfile.problems(Config({section: config[section]}), [cls])
    return used, hints


def _installed(
    sections: Iterable[str],
) -> dict[str, tuple[type[Configurable], str, str]]:
    """Return the installed classes of these names: each with the setting that would name it, and
    how."""
    wanted, found = set(sections), {}
    for group, setting in GROUPS:
        for point in entry_points(group=group):
            if point.value.rpartition(":")[2] in wanted:
                try:
                    found[point.value.rpartition(":")[2]] = (point.load(), setting, point.name)
                except Exception:  # what it needs may not be installed: nobody uses it
                    continue
    return found
