"""Dask's configuration as a user has chosen it: read, and merged into the administrator's."""

from __future__ import annotations

from collections.abc import Mapping

from gateway import daskconfig
from gateway.server.core.errors import Violation
from gateway.server.core.options import Field, Mapped
from gateway.variables import sets_any


def read(option: Field, chosen: object) -> tuple[object, str]:
    """Return the configuration of Dask that a user has chosen by an option, and what is wrong with
    it: where the option takes texts alone, they are YAML."""
    if isinstance(option, Mapped) and option.structured:
        return daskconfig.whole_numbers(chosen), ""
    texts = isinstance(chosen, Mapping) and all(isinstance(text, str) for text in chosen.values())
    return daskconfig.read_texts(chosen) if texts else (chosen, "")  # type: ignore[arg-type]


def merge(
    settings: dict[str, object],
    base: Mapping[str, object],
    violations: list[Violation],
    path: str,
) -> None:
    """Merge a user's configuration of Dask into the administrator's, among the variables too: what
    a user sets, holds."""
    config, admins = settings.get("dask_config"), base.get("dask_config")
    if not isinstance(config, Mapping) or not isinstance(admins, Mapping) or config is admins:
        return
    if wrong := daskconfig.complaint(config):
        violations.append(Violation(f"{path}.dask_config", wrong))
        return
    mine = daskconfig.expanded(config)
    settings["dask_config"] = daskconfig.merged(daskconfig.expanded(admins), mine)
    if wrong := daskconfig.complaint(settings["dask_config"]):  # type: ignore[arg-type]
        violations.append(Violation(f"{path}.dask_config", wrong))
    variables, theirs = settings.get("environment"), base.get("environment")
    if isinstance(variables, Mapping) and isinstance(theirs, Mapping):
        paths = list(daskconfig.paths(mine))
        settings["environment"] = {
            name: value
            for name, value in variables.items()
            if theirs.get(name) != value or not sets_any(name, paths)
        }
