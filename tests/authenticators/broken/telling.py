"""Authenticators that tell secrets to whoever reads a log, an exception or a repr."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace

from gateway.authenticators.contract import AuthenticatorUnavailable, Credentials
from gateway.server.core.model import Principal
from tests.authenticators.broken.base import noticed_by
from tests.authenticators.pretend import Person, PretendAuthenticator

logger = logging.getLogger(__name__)
LOGGED = "test_no_secret_is_logged_or_raised"
SHOWN = "test_no_secret_is_shown_by_what_it_is_or_tells"


@noticed_by(LOGGED)
class LogsWhatWasSent(PretendAuthenticator):
    """Logs the header, for those who look for faults."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        logger.debug("asked about %s", credentials)
        return await super().authenticate(credentials)


@noticed_by(LOGGED)
class LogsWrongPasswords(PretendAuthenticator):
    """Logs what was wrong: mostly it is right with a letter changed."""

    async def check(self, person: Person | None, password: str) -> bool:
        right = await super().check(person, password)
        if not right:
            logger.warning("wrong password %r", password)
        return right


@noticed_by(LOGGED)
class PrintsPasswords(PretendAuthenticator):
    """Was looked into by its author once."""

    async def check(self, person: Person | None, password: str) -> bool:
        sys.stderr.write(f"{password}\n")
        return await super().check(person, password)


@noticed_by(LOGGED)
class RaisesPasswords(PretendAuthenticator):
    """Tells of an outage what was asked."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        try:
            return await super().authenticate(credentials)
        except AuthenticatorUnavailable:
            pair = self.pair(credentials)
            raise AuthenticatorUnavailable(f"no answer about {pair}") from None


@noticed_by(LOGGED)
class RaisesFromWhatHoldsPasswords(PretendAuthenticator):
    """Tells of an outage nothing itself, and its cause tells all."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        try:
            return await super().authenticate(credentials)
        except AuthenticatorUnavailable:
            cause = OSError(f"GET /check?with={credentials.value}")
            raise AuthenticatorUnavailable("the directory does not answer") from cause


@noticed_by(SHOWN)
class ShowsPasswords(PretendAuthenticator):
    """Has a repr that tells everything."""

    def __repr__(self) -> str:
        return f"ShowsPasswords({self.directory.people})"


@noticed_by(SHOWN)
class StampsThePassword(PretendAuthenticator):
    """Takes the password itself for the stamp, which travels."""

    def told(self, person: Person) -> Principal:
        return replace(person.principal(), stamp=person.password)
