"""A directive, `{settings}`, that lists every setting of a configuration file, with type, bounds,
default and help, from the classes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from traitlets import TraitType
from traitlets.config import Configurable

from gateway import configfile
from gateway.server.boot.settings import known_classes


class Settings(SphinxDirective):
    """Lists the settings of the server, the edge, and every backend and authenticator that the
    distribution brings."""

    def run(self) -> list[nodes.Node]:
        """Return the list as nodes."""
        return self.parse_text_to_nodes(
            "\n".join(line for kind in classes() for line in section(kind)),
            allow_section_headings=True,
        )


def classes() -> list[type[Configurable]]:
    """Return every class that a configuration file may name."""
    backends, authenticators = (
        sorted(
            point.name for point in entry_points(group=group) if point.value.startswith("gateway.")
        )
        for group in ("gateway.backends", "gateway.authenticators")
    )
    found: dict[str, type[Configurable]] = {}
    for authenticator in authenticators:
        words = [
            f"--DaskGateway.backends={backends!r}",
            f"--DaskGateway.authenticator={authenticator}",
        ]
        found |= {kind.__name__: kind for kind in known_classes(configfile.from_words(words))}
    return list(found.values())


def section(kind: type[Configurable]) -> Iterator[str]:
    """Yield what may be set of a class, as Markdown."""
    yield from (f"## {kind.__name__}", "", str(kind.__doc__ or "").strip(), "")
    for name, trait in sorted(kind.class_traits(config=True).items()):
        yield from (
            f"`c.{kind.__name__}.{name}`",
            f": {what(trait)}{default(kind, name)} {' '.join(str(trait.help).split())}",
            "",
        )


def what(trait: TraitType[Any, Any]) -> str:
    """Return the type of a setting and its bounds, in words."""
    least, most = getattr(trait, "min", None), getattr(trait, "max", None)
    bounds = (f" from {least:.15g}" if least is not None else "") + (
        f" up to {most:.15g}" if most is not None else ""
    )
    choices = (
        " of " + ", ".join(f"`{value!r}`" for value in trait.values)
        if hasattr(trait, "values")
        else ""
    )
    return f"*{type(trait).__name__}{bounds}*{choices}"


def default(kind: type[Configurable], name: str) -> str:
    """Return the default of a setting; none for one that depends on machine and account, as its
    help says."""
    if hasattr(kind, f"_{name}_default"):
        return "."
    text = str(kind.class_traits()[name].default_value_repr()).replace(
        repr(sys.executable), "sys.executable"
    )
    return f", default `{text}`." if text else "."


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in."""
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}
