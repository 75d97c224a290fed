"""The client's commands: `daskgateway clusters …` and the same as `dask gateway clusters …`.

Results go to standard output, progress and errors to standard error; exit code 1 for what the
gateway refuses, 2 for wrong usage.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from gateway.client.calls import errors
from gateway.client.calls import messages as requests
from gateway.client.gateway import Gateway
from gateway.client.model import Answer, Cluster, ClusterState, Page, WatchEvent, WatchEventType
from gateway.printable import printable

F = TypeVar("F", bound=Callable[..., Any])


def _say(words: str, *, err: bool = False) -> None:
    """Print what is for people."""
    click.echo(printable(words), err=err)


def _fail(words: str, code: int = 1) -> None:
    _say(f"daskgateway: {words}", err=True)
    sys.exit(code)


def _with_gateway(command: F) -> Any:
    """Add --address and --output to a command, give it a Gateway, and tell errors in one line."""

    @click.option(
        "--address",
        metavar="URL",
        default=None,
        help="Where the gateway is; else as Dask's configuration says.",
    )
    @click.option(
        "--output", type=click.Choice(["table", "json"]), default="table", show_default=True
    )
    @functools.wraps(command)
    def run(address: str | None, output: str, **kwargs: Any) -> None:
        try:
            command(Gateway(address), output == "json", **kwargs)
        except errors.InvalidRequest as error:
            _fail(
                "\n".join(f"{one.field}: {one.description}" for one in error.violations)
                or str(error)
            )
        except errors.GatewayError as error:
            _fail(str(error))
        except ValueError as error:
            _fail(str(error), 2)
        except BrokenPipeError:
            sys.stderr.close()

    return run


def _print_json(value: Any) -> None:
    click.echo(_json(value, indent=2))


def _json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON, in printable ASCII: the same to whoever reads it, and nothing that a
    terminal acts on."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def _plain(answer: Answer[Message]) -> dict[str, Any]:
    """Return an answer as JSON has it: in the protocol's own words, as every other client sees
    it."""
    return dict(MessageToDict(answer.proto))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their headings: aligned, plain where the output is no terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(printable(cell) for cell in row))
    width = None if sys.stdout.isatty() else 200
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


def _show(cluster: Cluster, as_json: bool) -> None:
    if as_json:
        _print_json(_plain(cluster))
    else:
        _table(("FIELD", "VALUE"), [row for row in cluster.rows() if row[1]])


def _list(found: Page[Any], as_json: bool) -> None:
    if as_json:
        _print_json([_plain(one) for one in found])
    else:
        _table(found.columns, [one.cells() for one in found])


@click.group("gateway")
def gateway() -> None:
    """Dask clusters behind a gateway."""


@gateway.group()
def clusters() -> None:
    """Ask for clusters, change, watch and stop them."""


@clusters.command("list")
@click.option(
    "--all", "show_finished", is_flag=True, help="Finished ones too, until they are purged."
)
@click.option("--everybody", is_flag=True, help="Those of every user; for admins.")
@_with_gateway
def list_clusters(gateway: Gateway, as_json: bool, show_finished: bool, everybody: bool) -> None:
    """List clusters, newest first."""
    _list(gateway.list_clusters(show_finished=show_finished, everybody=everybody), as_json)


def _options(pairs: Sequence[str]) -> dict[str, Any]:
    """Return options out of `name=value` words; a value that is JSON is taken as such."""
    chosen: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"-o {pair}: options look like name=value")
        try:
            chosen[name] = json.loads(text)
        except ValueError:
            chosen[name] = text
    return chosen


@clusters.command()
@click.argument("name", default="")
@click.option(
    "-o",
    "--option",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="See `options`; may be repeated.",
)
@click.option(
    "-n", "--workers", type=click.IntRange(0), default=None, help="Workers to begin with."
)
@click.option("--backend", default="", help="Where to run it.")
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until it can be used."
)
@click.option(
    "--timeout",
    "timeout_s",
    default=300.0,
    show_default=True,
    help="Seconds to wait at most; those in a queue do not count.",
)
@_with_gateway
def create(
    gateway: Gateway,
    as_json: bool,
    name: str,
    pairs: Sequence[str],
    workers: int | None,
    backend: str,
    wait: bool,
    timeout_s: float,
) -> None:
    """Ask for a cluster."""
    cluster = gateway.submit(name, options=_options(pairs), n_workers=workers, backend=backend)
    if wait:
        with _Progress(cluster) as told:
            told(cluster)
            cluster = gateway.wait(
                cluster.name,
                (ClusterState.ACTIVE, ClusterState.STOPPING),
                timeout_s=timeout_s,
                told=told,
            )
    _show(cluster, as_json)
    if wait and cluster.state.ending:
        _fail(f"the cluster did not start: {cluster.explanation}")


def _text(words: str) -> Any:
    """Return words as rich shows them as they are: it finds markup in plain texts."""
    from rich.text import Text

    return Text(printable(words, keep=""))


class _Progress:
    """Shows on a terminal what a starting cluster waits for."""

    def __init__(self, cluster: Cluster) -> None:
        self._name, self._status = cluster.id, None
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status(_text(f"{self._name}: accepted"))

    def __enter__(self) -> Callable[[Cluster], None]:
        if self._status is not None:
            self._status.start()
        return self._tell

    def _tell(self, cluster: Cluster) -> None:
        if self._status is not None:
            self._status.update(_text(f"{self._name}: {cluster.state}: {cluster.explanation}"))

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()


@clusters.command()
@click.argument("name")
@_with_gateway
def show(gateway: Gateway, as_json: bool, name: str) -> None:
    """Show one cluster."""
    _show(gateway.get_cluster(name), as_json)


@clusters.command()
@click.argument("name")
@click.argument("workers", type=click.IntRange(0))
@click.option("--group", default=requests.DEFAULT_GROUP, show_default=True)
@_with_gateway
def scale(gateway: Gateway, as_json: bool, name: str, workers: int, group: str) -> None:
    """Wish so many WORKERS."""
    _show(gateway.scale_cluster(name, workers, group=group), as_json)


@clusters.command()
@click.argument("name")
@click.option("--minimum", type=click.IntRange(0), default=0, show_default=True)
@click.option("--maximum", type=click.IntRange(1), required=True)
@click.option("--group", default=requests.DEFAULT_GROUP, show_default=True)
@_with_gateway
def adapt(
    gateway: Gateway, as_json: bool, name: str, minimum: int, maximum: int, group: str
) -> None:
    """Wish as many workers as the load needs, between bounds."""
    _show(gateway.adapt_cluster(name, minimum, maximum, group=group), as_json)


@clusters.command()
@click.argument("name")
@click.option("--idle-timeout", metavar="TIME", help="Without task and client.")
@click.option("--no-task-timeout", metavar="TIME", help="Without task, whoever is connected.")
@click.option("--no-client-timeout", metavar="TIME", help="Without client, whatever it computes.")
@click.option("--max-lifetime", metavar="TIME", help="Since it was created.")
@click.option(
    "--keepalive-timeout", metavar="TIME", help="Without sign of life of the process that made it."
)
@_with_gateway
def lifetimes(gateway: Gateway, as_json: bool, name: str, **spans: str | None) -> None:
    """Change after which times the gateway stops a cluster by itself, such as "2 hours"; 0 is
    never."""
    _show(gateway.change_lifetimes(name, **spans), as_json)


@clusters.command()
@click.argument("name")
@click.option("--wait/--no-wait", default=False, help="Wait until nothing of it runs.")
@_with_gateway
def stop(gateway: Gateway, as_json: bool, name: str, wait: bool) -> None:
    """Stop a cluster."""
    cluster = gateway.stop_cluster(name)
    if wait:
        cluster = gateway.wait(
            f"{cluster.owner}/{cluster.uid}", (ClusterState.STOPPED, ClusterState.FAILED)
        )
    _show(cluster, as_json)


@clusters.command()
@click.argument("names", nargs=-1)
@_with_gateway
def watch(gateway: Gateway, as_json: bool, names: Sequence[str]) -> None:
    """Tell changes as they happen, until interrupted."""
    for told in gateway.watch(clusters=names):
        if as_json:
            click.echo(_json(_plain(told)))
        elif isinstance(told, WatchEvent):
            name, state, workers, _, _, why = told.cluster.cells()
            purged = told.type is WatchEventType.REMOVED
            _say(f"{told.cluster.name}  PURGED" if purged else f"{name}  {state}  {workers}  {why}")


@clusters.command()
@click.argument("name")
@click.argument("instances", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option(
    "--tail",
    "tail_lines",
    type=click.IntRange(0),
    default=0,
    help="Begin with so many last lines of each.",
)
@_with_gateway
def logs(
    gateway: Gateway,
    as_json: bool,
    name: str,
    instances: Sequence[str],
    follow: bool,
    tail_lines: int,
) -> None:
    """Print logs of a cluster's scheduler and workers, also after their end."""
    last, people = "", sys.stdout.isatty()
    for instance, text in gateway.stream_logs(
        name, instances, tail_lines=tail_lines, follow=follow
    ):
        if as_json:
            click.echo(_json({"instance": instance, "text": text}))
            continue
        if instance != last:
            _say(f"==> {instance} <==", err=True)
            last = instance
        # a file or a pipe gets it as it is
        click.echo(printable(text) if people else text, nl=False, color=True)


@clusters.command()
@click.argument("name")
@_with_gateway
def events(gateway: Gateway, as_json: bool, name: str) -> None:
    """Tell what has happened to a cluster, newest first, also after its end."""
    _list(gateway.events(name), as_json)


@gateway.command()
@_with_gateway
def options(gateway: Gateway, as_json: bool) -> None:
    """Show what may be asked for in a new cluster."""
    offered = gateway.cluster_options()
    if as_json:
        _print_json({name: offered[name] for name in offered})
    else:
        _table(
            ("OPTION", "DEFAULT", "TAKES", "MEANS"),
            [(name, _shown(offered[name]), *offered.described(name)) for name in offered],
        )


def _shown(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


@gateway.command()
@_with_gateway
def whoami(gateway: Gateway, as_json: bool) -> None:
    """Show who the gateway takes you for, and whence the credentials are."""
    caller = gateway.whoami()
    if as_json:
        _print_json({**_plain(caller), "source": caller.source})
    else:
        _say(caller.user + (" (admin)" if caller.admin else ""))
        _say(f"by the credentials from {caller.source}")


@gateway.command("sign-in-options")
@_with_gateway
def sign_in_options(gateway: Gateway, as_json: bool) -> None:
    """Show by what one may sign in; needs no credentials."""
    _list(gateway.sign_in_options(), as_json)


@gateway.group("token")
def token() -> None:
    """Make, list and revoke API tokens."""


@token.command("create")
@click.argument("display_name", default="")
@click.option(
    "--days",
    type=click.FloatRange(0.001),
    help="How long it is valid.  [default: 30, or less: no longer than the credentials you show]",
)
@_with_gateway
def create_token(gateway: Gateway, as_json: bool, display_name: str, days: float | None) -> None:
    """Make a token; its secret is printed once. One that is made with a token ends with that
    one."""
    made = gateway.create_token(display_name, ttl_s=None if days is None else days * 86400)
    if as_json:
        _print_json(_plain(made))
    else:
        _say(made.secret)


@token.command("list")
@_with_gateway
def list_tokens(gateway: Gateway, as_json: bool) -> None:
    """List tokens without their secrets."""
    _list(gateway.list_tokens(), as_json)


@token.command("revoke")
@click.argument("token_id")
@_with_gateway
def revoke_token(gateway: Gateway, as_json: bool, token_id: str) -> None:
    """Make a token useless, and those that were made with it."""
    _, *others = gateway.revoke_token(token_id) or [token_id]
    if as_json:
        _print_json({"revoked": token_id, "others": others})
    elif others:
        _say(f"revoked with it, as they were made with it: {', '.join(others)}")


COMMANDS: dict[str, click.Command] = dict(gateway.commands)
