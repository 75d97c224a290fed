"""The `daskgateway` command: the client's commands, and those of server and edge where these are
installed.

Everything heavy is imported by the command that needs it, so that `daskgateway clusters list`
starts fast.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gateway import __version__
from gateway.client.groups import Commands
from gateway.printable import printable
from gateway.wire import DISTRIBUTION

if TYPE_CHECKING:
    from gateway.server.boot.settings import Examined

EXIT_CONFIGURATION = 2


class _Commands(Commands):
    """The commands of server and edge, and those of the client, which are imported only when asked
    for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_client_commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _client_commands().get(cmd_name)


def _client_commands() -> dict[str, click.Command]:
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC's own log says nothing to people
    from gateway.client.cli import COMMANDS

    return COMMANDS


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Dask clusters as a service."""


_config_option = click.option(
    "-f",
    "--config",
    "path",
    metavar="FILE",
    default=None,
    help="Configuration file; by default daskgateway_config.py here.",
)
_words = click.argument("words", nargs=-1, type=click.UNPROCESSED)
_PASSING = {"ignore_unknown_options": True}


def _fail(message: str) -> NoReturn:
    click.echo(printable(f"daskgateway: {message}"), err=True)
    sys.exit(EXIT_CONFIGURATION)


def _server_only(import_it: Callable[[], Any]) -> Any:
    """Return what is imported, or end with the command that installs it."""
    # The server starts processes; gRPC's fork handlers would stop its threads each time, and it
    # logs what is no concern of ours.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        return import_it()
    except ModuleNotFoundError as error:
        return _fail(
            f"{error.name} is not installed; the server needs: pip install '{DISTRIBUTION}[server]'"
        )


def _app() -> Any:
    from gateway.server import app

    return app


def _light() -> Any:
    from gateway.server.boot import settings

    return settings


def _examined(path: str | None, words: Sequence[str]) -> Examined:
    """Return settings with everything that is wrong with them."""
    if sys.version_info < (3, 11):
        _fail("the server needs Python 3.11 or newer")
    light = _server_only(_light)
    from gateway import configfile

    try:
        examined: Examined = light.examine(configfile.load(path, words))
        return examined
    except configfile.ConfigurationError as error:
        _fail(str(error))


def _refusals(examined: Examined, path: str | None, words: Sequence[str]) -> list[str]:
    """Return everything that `serve` would refuse here and now, one line each."""
    from gateway import configfile
    from gateway.server.boot import here

    wrong = [*examined.problems, *here.problems(examined.settings, examined.problems)]
    return [*wrong, *filter(None, [configfile.unread(path, words)])] if wrong else []


class PrintableFormatter(logging.Formatter):
    """Lines that may quote anybody's text: each stays one line, and a terminal only prints it."""

    _second = (-1, "")  # the last that was shown, and how: many lines are of the same one

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second, shown = self._second
        if second != int(record.created):
            shown = time.strftime(self.default_time_format, self.converter(record.created))
            self._second = (int(record.created), shown)
        return f"{shown},{int(record.msecs):03d}"

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message, keep="\t")
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return printable(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return printable(super().formatStack(stack_info))


def _log_to_stderr(level: str) -> None:
    # What the format does not show is not found out with every line
    # (docs.python.org/3/howto/logging.html#optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname).1s %(name)s %(message)s"))
    # Libraries tell all that passes through them at DEBUG, headers with credentials too.
    libraries = max(logging.INFO, getattr(logging, level))
    logging.basicConfig(level=libraries, handlers=[handler])
    logging.getLogger("gateway").setLevel(level)


@main.command(context_settings=_PASSING)
@_config_option
@_words
def serve(path: str | None, words: tuple[str, ...]) -> None:
    """Run the server, and the edge beside it. Settings may follow as --Class.trait=value."""
    examined = _examined(path, words)
    found = examined.settings
    from gateway.server.edge.process import WarmEdge

    # the two programs load side by side
    warm = WarmEdge() if found.server.start_proxy and not examined.problems else None
    if wrong := _refusals(examined, path, words):
        if warm is not None:
            warm.dismiss()
        _fail("\n".join(wrong))
    app = _server_only(_app)
    from gateway.configfile import ConfigurationError
    from gateway.server.store.contract import StoreError

    _log_to_stderr(found.server.log_level)
    for hint in examined.hints:
        logging.getLogger(__name__).warning("%s", hint)
    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(app.serve(found, warm))
    except (ConfigurationError, StoreError) as error:
        _fail(str(error))


@main.command("check-config", context_settings=_PASSING)
@_config_option
@_words
def check_config(path: str | None, words: tuple[str, ...]) -> None:
    """Say whether the configuration is right: whether `serve` would start with it, here and now.

    Everything that is wrong is told at once, one line each."""
    examined = _examined(path, words)
    if wrong := _refusals(examined, path, words):
        _fail("\n".join(wrong))
    from gateway import configfile
    from gateway.server.boot import clear_text
    from gateway.server.keeping.placement import notes

    click.echo("the configuration is right")
    found = examined.settings
    said = [
        configfile.unread(path, words),
        configfile.exposed(path),
        *examined.hints,
        *notes(found),
        *clear_text.notes(found),
    ]
    for note in filter(None, said):
        click.echo(printable(f"note: {note}"))


@main.command("confirm-database", context_settings=_PASSING)
@_config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@_words
def confirm_database(path: str | None, yes: bool, words: tuple[str, ...]) -> None:
    """Let a database stay that the server doubts, such as a backup: what runs unknown to it is
    ended.

    The server ends nothing by a database that is older than the one it last used, or another one.
    To go back to the right one needs no word: stop the server, put that database there, and start
    it again.
    """
    examined = _examined(path, words)
    from gateway.server.keeping import belongings, confirm

    concerned = [line for line in examined.problems if line.startswith("c.DaskGateway")]
    if wrong := concerned or list(belongings.kept(examined.settings)):
        _fail("\n".join(wrong))
    doubt = confirm.find(pathlib.Path(examined.settings.server.state_dir).expanduser())
    if doubt is None:
        click.echo(
            "nothing is doubted (a server that has just begun looks for a minute before it knows)"
        )
        return
    click.echo(printable(doubt.words))
    end = (
        f", and end these {doubt.processes} processes and what their users compute"
        if doubt.processes
        else ""
    )
    if not yes and not click.confirm(f"Keep this database{end}?"):
        click.echo("nothing is changed")
        sys.exit(1)
    try:
        confirm.confirm(doubt)
    except OSError as error:
        _fail(f"{doubt.path}: {error.strerror}")
    click.echo("confirmed; a running server acts on it within two minutes")


@main.command("show-config", context_settings=_PASSING)
@_config_option
@_words
def show_config(path: str | None, words: tuple[str, ...]) -> None:
    """Show every setting as it holds, secrets left out; in place of what is wrong, defaults."""
    examined = _examined(path, words)
    from gateway import configfile

    click.echo(printable(configfile.shown(examined.settings.config, examined.settings.all())))
    if examined.problems:
        _fail("\n".join(examined.problems))


@main.command("generate-config", context_settings=_PASSING)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default=None,
    help="Write to a file, which must not exist yet.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@_words
def generate_config(output: str | None, force: bool, words: tuple[str, ...]) -> None:
    """Write a configuration file with every setting, its help and its default."""
    app = _server_only(_app)
    from gateway import configfile

    try:
        text = configfile.template(app.known_classes(configfile.from_words(words)))
    except configfile.ConfigurationError as error:
        _fail(str(error))
    if output is None:
        click.echo(text)
        return
    try:
        with open(output, "w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        _fail(f"{output}: {error.strerror}; --force replaces it")
    except OSError as error:
        _fail(f"{output}: {error.strerror}")
    return


@main.command("hash-password")
@click.option("--password", default=None, help="The password; asked for if not given.")
@click.option(
    "--stdin", is_flag=True, help="Read the password from standard input: its first line."
)
def hash_password(password: str | None, stdin: bool) -> None:
    """Print the hash of a password, for the password authenticator's configuration."""
    if stdin and password is not None:
        _fail("hash-password: give --password or --stdin, not both")
    if stdin:
        password = _first_line(sys.stdin.buffer.read(64 * 1024))
    elif password is None:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)

    def module() -> Any:
        from gateway.authenticators import password as module

        return module

    try:
        click.echo(_server_only(module).hash_password(password))
    except ValueError as error:
        _fail(f"hash-password: {error}")


def _first_line(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        _fail("hash-password: what is read from standard input is no text in UTF-8")
        return ""
    return text.partition("\n")[0].removesuffix("\r")


@main.command(context_settings=_PASSING)
@_config_option
@click.option("--ready-fd", type=int, default=None, hidden=True)
@click.option(
    "--words-fd",
    type=int,
    default=None,
    hidden=True,
    help="Where the server writes all other words, once it knows them.",
)
@_words
def proxy(
    path: str | None, ready_fd: int | None, words_fd: int | None, words: tuple[str, ...]
) -> None:
    """Run the edge by itself. Settings may follow as --Proxy.trait=value."""
    # Loading takes most of a second. Until its handler stands, SIGHUP would end the edge; nothing
    # is lost: certificates are read later.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def module() -> Any:
        from gateway.proxy.program import serve as module

        return module

    edge = _server_only(module)
    if words_fd is not None:
        from gateway import orders

        told = orders.receive(words_fd)
        if told is None:  # the server has ended, or needs no edge
            sys.exit(0)
        if told.run_as is not None:
            edge.give_up_rights(*told.run_as)
        sys.exit(_run_edge(edge, lambda configfile: configfile.from_words(told.words), ready_fd))
    sys.exit(_run_edge(edge, lambda configfile: configfile.load(path, words), ready_fd))


def _run_edge(edge: Any, read: Callable[[Any], Any], ready_fd: int | None) -> int:
    """Run the edge with what is read; return the exit code."""
    from gateway import configfile
    from gateway.proxy.config import Proxy

    try:
        config = read(configfile)
        alone = type(config)()
        if "Proxy" in config:  # what else stands in the file is for the server
            alone["Proxy"] = config["Proxy"]
        configfile.check(alone, [Proxy])
    except configfile.ConfigurationError as error:
        _fail(str(error))
    _log_to_stderr(Proxy(config=alone).log_level)
    return int(edge.run(alone, ready_fd))


if __name__ == "__main__":
    main(prog_name="daskgateway")
