"""How the documentation is built: `make docs`. Pages are Markdown, the reference is made from
docstrings."""

from __future__ import annotations

import builtins
import pathlib
import re
import sys
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "extensions")]

from docutils import nodes  # noqa: E402
from pygments.lexers.special import TextLexer  # noqa: E402
from sphinx import addnodes  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

from gateway import AsyncGateway, AsyncGatewayCluster, GatewayCluster, __version__  # noqa: E402
from gateway.client import async_gateway  # noqa: E402
from gateway.client import gateway as gateway_module  # noqa: E402
from gateway.client.model import Answer  # noqa: E402

# What these modules import for type checkers only: autodoc resolves no annotation of theirs else.
vars(gateway_module).update(AsyncGateway=AsyncGateway, GatewayCluster=GatewayCluster)
vars(async_gateway).update(AsyncGatewayCluster=AsyncGatewayCluster)

project = "daskgateway"
copyright = ""  # noqa: A001
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "settings_reference"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "extensions"]
highlight_language = "none"
smartquotes = False
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
# a command over several lines is none that the lexer of consoles knows
suppress_warnings = ["misc.highlighting_failure"]

default_role = "literal"  # docstrings write `code` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 100

html_theme = "alabaster"
html_theme_options = {
    "description": "Dask clusters as a service, over gRPC",
    "fixed_sidebar": True,
    "page_width": "1200px",
}
html_show_copyright = html_show_sphinx = html_copy_source = False

BUILTINS = frozenset(dir(builtins))
# links out of this folder, which lead somewhere in the repository only
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def _stay_inside(_: Sphinx, __: str, source: list[str]) -> None:
    source[0] = OUTSIDE.sub(r"\1", source[0])


def _signature(_: Sphinx, what: str, __: str, obj: Any, *rest: Any) -> tuple[str, str] | None:
    """Leave out how answers are made: nobody makes them by hand."""
    return (
        ("", "") if what == "class" and isinstance(obj, type) and issubclass(obj, Answer) else None
    )


def _no_links_to_builtins(_: Sphinx, doctree: nodes.document) -> None:
    """A type such as `type` or `id` is Python's own, not a field of ours that has this name."""
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link.get("refdomain") == "py" and link.get("reftarget") in BUILTINS:
            link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    """Hook in."""
    app.add_lexer("haproxy", TextLexer)
    app.connect("source-read", _stay_inside)
    app.connect("doctree-read", _no_links_to_builtins)
    app.connect("autodoc-process-signature", _signature)
