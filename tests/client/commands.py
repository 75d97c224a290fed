"""Commands of the command line, run in this process as alice runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from click.testing import CliRunner

from gateway.__main__ import main
from tests.e2e.gateway_process import PASSWORD, USER


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


def run(address: str, *words: str, environment: Mapping[str, str] | None = None) -> Ran:
    """Run `daskgateway` with these words; nothing that it says is a traceback."""
    mine = {
        "DASKGATEWAY_ADDRESS": address,
        "DASKGATEWAY_USER": USER,
        "DASKGATEWAY_PASSWORD": PASSWORD,
    }
    ended = CliRunner().invoke(
        main, list(words), env={**mine, **(environment or {})}, prog_name="daskgateway"
    )
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return Ran(ended.exit_code, ended.stdout, ended.stderr)
