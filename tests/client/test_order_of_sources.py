"""Of two places that both say who calls, one is taken: tried for each pair of them, in the order
that docs/client.md tells."""

from __future__ import annotations

import itertools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import dask.config
import pytest

from gateway import Gateway
from gateway.client.calls import kerberos
from gateway.client.calls.errors import GatewayError
from gateway.client.calls.logins import KeptSession, LoginFile
from tests.client.test_sessions import Servicer, address, servicer

__all__ = ["address", "servicer"]


class Place:
    """Where a test's process finds who calls."""

    def __init__(
        self, address: str, monkeypatch: pytest.MonkeyPatch, home: pathlib.Path, servicer: Servicer
    ) -> None:
        self.address, self.home, self.servicer = address, home, servicer
        self.variable = monkeypatch.setenv
        self.argument: Any = None
        self.section: dict[str, Any] = {"token-file": None}
        self.tickets = False
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setattr(kerberos, "has_ticket", lambda: self.tickets)

    def token_file(self) -> None:
        """Have a token file."""
        (self.home / "token").write_text("of-the-file")
        self.section["token-file"] = str(self.home / "token")

    def logged_in(self) -> None:
        """Have signed in with `daskgateway login`."""
        soon = time.time() + 1000
        kept = KeptSession("of-the-login", "password", soon, soon)
        LoginFile(self.home / ".config/daskgateway/logins.json").keep(self.address, kept)


def argument(place: Place) -> None:
    """Give credentials."""
    place.argument = "of-the-argument"


def ticket(place: Place) -> None:
    """Have a Kerberos ticket."""
    place.tickets = True


# what sets one up, and how it is told
ORDER: list[tuple[Callable[[Place], Any], str]] = [
    (argument, "the argument auth"),
    (lambda place: place.section.update(token="of-config"), "gateway.auth.token in Dask's"),
    (lambda place: place.variable("DASKGATEWAY_TOKEN", "of-env"), "variable DASKGATEWAY_TOKEN"),
    (
        lambda place: place.section.update(user="alice", password="of-config"),
        "gateway.auth.user in Dask's",
    ),
    (
        lambda place: [
            place.variable(f"DASKGATEWAY_{one}", "of-env") for one in ("USER", "PASSWORD")
        ],
        "variable DASKGATEWAY_USER",
    ),
    (Place.token_file, "the token file"),
    (
        lambda place: place.variable("JUPYTERHUB_API_TOKEN", "of-hub"),
        "variable JUPYTERHUB_API_TOKEN",
    ),
    (Place.logged_in, "`daskgateway login`"),
    (ticket, "the Kerberos ticket"),
]


@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(range(len(ORDER)), 2)])
def test_of_two_places_the_first_says_who_calls(
    first: int,
    second: int,
    address: str,
    servicer: Servicer,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Place(address, monkeypatch, tmp_path, servicer)
    for number in (second, first):
        ORDER[number][0](place)
    with dask.config.set({"gateway.auth": place.section}):
        gateway = Gateway(address, auth=place.argument)
        try:  # whether they are right is another matter
            gateway.whoami()
        except GatewayError:
            pass
        assert ORDER[first][1] in gateway.connection.settings.caller.source
