"""The list that each broken authenticator is entered in, with the test that is to notice it."""

from __future__ import annotations

from collections.abc import Callable

from tests.authenticators.pretend import PretendAuthenticator

Broken = tuple[str, type[PretendAuthenticator]]
BROKEN: list[Broken] = []  # the test that is meant to notice, and the authenticator
Kind = type[PretendAuthenticator]


def noticed_by(test: str) -> Callable[[Kind], Kind]:
    """Enter a broken authenticator under the test that is meant to notice it."""

    def enter(made: Kind) -> Kind:
        BROKEN.append((test, made))
        return made

    return enter
