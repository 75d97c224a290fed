"""The law of imports (`law.RULES`): every module stands under a rule, and each keeps to its own."""

from __future__ import annotations

import ast
import pathlib
import sys

import pytest

from tests.style import law

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path.read_text()
    for path in sorted((ROOT / "gateway").rglob("*.py"))
}


def imported(text: str) -> set[str]:
    """Return every module that a source imports, wherever in it; names out of a package with the
    package."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offences(module: str, text: str) -> list[str]:
    """Return how a module breaks the law."""
    rule = law.rule_of(module)
    if rule is None:
        return [f"{module} stands under no rule"]
    wrong = []
    for name in sorted(imported(text)):
        top = name.split(".")[0]
        if top in ("gateway", "daskgateway"):
            allowed = name.startswith("gateway.__version__") or any(
                law.within(name, place) for place in (rule.place, *rule.ours)
            )
            if rule.place == "gateway":
                allowed = law.within(name, "gateway.client")
        elif top in sys.stdlib_module_names:
            allowed = top not in rule.never
        else:
            allowed = top in rule.others
        if not allowed:
            wrong.append(f"{module} imports {name}")
    return wrong


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_what_its_place_may(module: str) -> None:
    assert offences(module, SOURCES[module]) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("gateway.server.core.limits", "import asyncio"),
        ("gateway.server.core.limits", "import socket"),
        ("gateway.server.core.plan", "import time"),
        ("gateway.server.core.plan", "from time import monotonic"),
        ("gateway.server.core.plan", "import ssl"),
        ("gateway.server.core.names", "import random"),
        ("gateway.server.core.names", "from os import environ"),
        ("gateway.server.core.model", "def late():\n    import os.path"),
        ("gateway.server.core.model", "import sqlalchemy"),
        ("gateway.server.core.model", "from gateway.server import store"),
        ("gateway.server.security.doors", "import gateway.server.rpc.status"),
        ("gateway.server.security.doors", "from gateway.server.rpc import status"),
        ("gateway.server.usecases.clusters", "from gateway.server.store import sqlite"),
        ("gateway.server.store.feed", "from gateway.server.usecases import follow"),
        ("gateway.server.rpc.host", "import sqlite3"),
        ("gateway.proxy.app", "from gateway.server.core import names"),
        ("gateway.proxy.sockets.poller", "import aiohttp"),
        ("gateway.client.gateway", "from gateway.proxy import config"),
        ("gateway.client.gateway", "from gateway import fair"),
        ("gateway.agent.agent", "from gateway.client.calls import settings"),
        ("gateway.backends.noop", "from gateway.server.core import model"),
        ("gateway.backends.contract", "import os"),
        ("gateway.wire", "import socket"),
        ("gateway.fair", "import time"),
        ("gateway.networks", "from gateway.server.core import names"),
        ("gateway.authenticators.password", "from gateway.server.security import tokens"),
        ("gateway.a_new_module", "import os"),
        ("gateway", "import gateway.server.app"),
    ],
)
def test_the_law_bites(module: str, line: str) -> None:
    assert offences(module, line) != []


def test_every_rule_has_modules() -> None:
    assert {rule.place for rule in law.RULES} == {
        rule.place for module in SOURCES if (rule := law.rule_of(module))
    }


def test_architecture_shows_the_law() -> None:
    assert law.table() in (ROOT / "ARCHITECTURE.md").read_text()
