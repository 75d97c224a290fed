"""Tests of what an authenticator says of secrets: nothing, wherever anybody may read it."""

from __future__ import annotations

import contextlib
import io
import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace

from gateway.authenticators.conformance.sign_ins import malformed
from gateway.authenticators.conformance.source import ALICE, BOB, Source, secret_in
from gateway.authenticators.contract import AuthenticatorUnavailable, Credentials, SignInRefused


class _Kept(logging.Handler):
    """Keeps what is logged, exceptions included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextlib.contextmanager
def everything_said() -> Iterator[list[str]]:
    """Collect what is logged, at every level and by whomever, and what is printed."""
    kept, printed = _Kept(), io.StringIO()
    root = logging.getLogger()
    level, disabled = root.level, logging.root.manager.disable
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    logging.disable(logging.NOTSET)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield kept.lines
    finally:
        kept.lines.append(printed.getvalue())
        root.removeHandler(kept)
        root.setLevel(level)
        logging.disable(disabled)


class Secrecy:
    """What is logged, raised, shown and told."""

    async def test_no_secret_is_logged_or_raised(self, source: Source) -> None:
        sent = [await source.show(ALICE), await source.wrong(ALICE), await source.show(BOB)]
        broken = [
            replace(sent[0], value=value) for value, _ in malformed(sent[0].value) if len(value) > 8
        ]
        with everything_said() as said:
            for credentials in [*sent, *broken]:
                said.append(await self._raised(source, credentials))
            away = source.outage or source.hang
            if away is not None:
                async with away():
                    for credentials in sent:
                        said.append(await self._raised(source, credentials))
        self._held_back(sent, "\n".join(said), "log, output or exception")

    async def _raised(self, source: Source, credentials: Credentials) -> str:
        """Sign in; return the exception with all it came from, as a log would have it."""
        try:
            source.authenticator.remembered(credentials)
            await source.authenticator.authenticate(credentials)
        except (AuthenticatorUnavailable, SignInRefused) as error:
            return "".join(traceback.format_exception(error))
        return ""

    async def test_no_secret_is_shown_by_what_it_is_or_tells(self, source: Source) -> None:
        sent = [await source.show(ALICE), await source.show(BOB)]
        told = [await source.sign_in(one) for one in sent]
        if source.asked_by_name:
            told += [await source.identity(user) for user in (ALICE, BOB)]
        self._held_back(
            sent, f"{source.authenticator!r} {source.authenticator}", "authenticator's repr"
        )
        self._held_back(sent, repr(told), "principal")

    def _held_back(self, sent: list[Credentials], text: str, where: str) -> None:
        for credentials in sent:
            for secret in {credentials.value, secret_in(credentials)}:
                assert len(secret) >= 8, "the Source's secrets have eight letters and more"
                assert secret not in text, f"the {where} holds the secret of a user"
                assert repr(secret)[1:-1] not in text, f"the {where} holds the secret of a user"
