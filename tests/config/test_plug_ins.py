"""Plug-ins that cannot be loaded, or fail when they are asked about their settings, are one line
each; everything else is told beside it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import pytest
from traitlets.config import Config

from gateway.authenticators import registry as authenticators
from gateway.authenticators.password import PasswordAuthenticator
from gateway.backends import registry as backends
from gateway.backends.noop import NoopBackend
from gateway.server.boot.settings import examine


class Failing(NoopBackend):
    """Fails over its own settings."""

    def problems(self) -> list[str]:
        """Fail."""
        raise KeyError("site")


class Unmakeable(NoopBackend):
    """Cannot be made."""

    def __init__(self, site: str, **given: Any) -> None:
        super().__init__(**given)


class UnmakeableAuthenticator(PasswordAuthenticator):
    """Cannot be made."""

    def __init__(self, **given: Any) -> None:
        raise OSError("the site's directory is away")


def points(target: str) -> Callable[..., Any]:
    """Return what entry points there are beside ours."""

    def found(group: str) -> Any:
        own = importlib.metadata.entry_points(group=group)
        return [*own, importlib.metadata.EntryPoint("site", target, group)]

    return found


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("tests.config.no_such_module:Backend", "ModuleNotFoundError"),
        ("tests.config.pki:NoSuchClass", "AttributeError"),
    ],
)
def test_one_that_cannot_be_loaded_is_told(
    target: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticators, "entry_points", points(target))
    wished = {"authenticator": "site", "address": "nonsense"}
    found = examine(Config(DaskGateway=wished)).problems
    told = [line for line in found if line.startswith("c.DaskGateway.authenticator: ")]
    assert len(told) == 1
    assert words in told[0]
    assert any(line.startswith("c.DaskGateway.address: ") for line in found)


def test_one_that_fails_over_its_settings_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "entry_points", points("tests.config.test_plug_ins:Failing"))
    found = examine(Config(DaskGateway={"backends": ["site"]})).problems
    assert "c.Failing: its settings cannot be examined: KeyError: 'site'" in found


@pytest.mark.parametrize(
    ("registry", "name", "wished", "setting", "words"),
    [
        (backends, "Unmakeable", {"backends": ["site"]}, "backends", "TypeError"),
        (
            authenticators,
            "UnmakeableAuthenticator",
            {"authenticator": "site"},
            "authenticator",
            "OSError: the site's directory is away",
        ),
        (
            authenticators,
            "UnmakeableAuthenticator",
            {"authenticators": ["password", "site"]},
            "authenticator",
            "OSError: the site's directory is away",
        ),
    ],
)
def test_one_that_cannot_be_made_is_told_beside_everything_else(
    registry: Any,
    name: str,
    wished: dict[str, Any],
    setting: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "entry_points", points(f"tests.config.test_plug_ins:{name}"))
    found = examine(Config(DaskGateway={**wished, "address": "nonsense"})).problems
    told = [line for line in found if line.startswith(f"c.DaskGateway.{setting}: ")]
    assert len(told) == 1
    assert f"'site' is installed and cannot be made: {words}" in told[0]
    assert any(line.startswith("c.DaskGateway.address: ") for line in found)
