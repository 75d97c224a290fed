"""By what one may sign in, as anybody is told it who asks. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignInOption:
    """Something by which one may sign in."""

    name: str  # what the administrator calls it
    description: str  # what it takes, for people
    schemes: tuple[str, ...]  # of an `authorization` header, in lower case
    client_way: str = ""  # how the gateway's own clients name it; empty if they do not


API_TOKEN = SignInOption("api-token", "an API token of this gateway", ("bearer",), "token")
