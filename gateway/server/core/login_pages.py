"""Login pages for browsers, and what becomes of a login. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gateway.server.core.model import Principal
from gateway.wire import DASHBOARD_PATH

# where a login may lead: to a dashboard and its pages, by letters that mean nothing to anybody
_GOES_TO = re.compile(
    re.escape(DASHBOARD_PATH) + r"c[a-z2-7]{20}(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?"
)
MAX_GOES_TO = 512


class LoginRefused(Exception):
    """A browser's login ends with nobody signed in; the text says why, for its user."""


@dataclass(frozen=True, slots=True)
class LoginPage:
    """A login page that an identity source has."""

    way: str  # how the administrator calls the source
    description: str
    at_once: bool  # whether browsers are sent there without a question, if there is no other


@dataclass(frozen=True, slots=True)
class StartedLogin:
    """A login that a browser is sent to."""

    url: str
    sealed: str = field(repr=False)  # what the browser is to bring back


@dataclass(frozen=True, slots=True)
class FinishedLogin:
    """Who has come back from a login page."""

    principal: Principal
    proof: str = field(repr=False)  # sealed; by what the source is asked whether it still stands
    goes_to: str = ""


def safe_place(text: str) -> str:
    """Return where a login is to lead, below the gateway's address; empty, which is the front page,
    for whatever is no dashboard's: nobody is led to another site."""
    return text if len(text) <= MAX_GOES_TO and _GOES_TO.fullmatch(text) else ""
