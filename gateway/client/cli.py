"""The client's commands: `daskgateway clusters …` and the same as `dask gateway clusters …`.

Results go to standard output, progress and errors to standard error; exit code 1 for what the
gateway refuses, 2 for wrong usage.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import click

from gateway.client import progress, signing_in, terminal, words
from gateway.client.calls import errors, settling, waiting
from gateway.client.calls import messages as requests
from gateway.client.calls.messages import Workers
from gateway.client.gateway import Gateway
from gateway.client.groups import Commands
from gateway.client.model import Cluster, ClusterState, Page, WatchEvent, WatchEventType
from gateway.printable import printable

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 130  # as shells tell of what SIGINT has ended


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
        terminal.any_text(sys.stdout, sys.stderr)
        try:
            with terminal.warnings_in_one_line():
                command(Gateway(address), output == "json", **kwargs)
        except errors.GatewayError as error:
            terminal.fail(str(error))
        except ValueError as error:
            terminal.fail(str(error), 2)
        except BrokenPipeError:
            sys.stderr.close()

    return run


def _show(cluster: Cluster, as_json: bool, more: Sequence[tuple[str, str]] = ()) -> None:
    if as_json:
        terminal.print_json(terminal.plain(cluster))
    else:
        rows = [*cluster.rows(), *more]
        terminal.table(("FIELD", "VALUE"), [row for row in rows if row[1]])


def _list(found: Page[Any], as_json: bool) -> None:
    if as_json:
        terminal.print_json([terminal.plain(one) for one in found])
    else:
        terminal.table(found.columns, [one.cells() for one in found])


@click.group("gateway", cls=Commands)
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
    "-n",
    "--workers",
    type=words.SIZE,
    default=None,
    metavar="N|MIN-MAX",
    help="Workers to begin with, or two bounds between which the load decides.",
)
@words.lives
@click.option("--label", "labels", multiple=True, metavar="NAME=TEXT", help="May be repeated.")
@click.option("--backend", default="", help="Where to run it.")
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until it can be used."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=words.SPAN,
    default=300.0,
    show_default="5 minutes",
    metavar="DURATION",
    help="How long to wait at most; the time in a queue does not count.",
)
@_with_gateway
def create(
    gateway: Gateway,
    as_json: bool,
    name: str,
    pairs: Sequence[str],
    labels: Sequence[str],
    workers: Workers | None,
    wait: bool,
    timeout_s: float,
    **kwargs: Any,
) -> None:
    """Ask for a cluster."""
    options = words.options(gateway.cluster_options(), pairs) if pairs else {}
    with _interrupted("the cluster may have been asked for: `daskgateway clusters list` tells"):
        cluster = gateway.submit(
            name or None, options=options, n_workers=workers, labels=words.labels(labels), **kwargs
        )
    if wait:
        it = cluster.id
        with _interrupted(
            f"cluster {it} goes on without this command: `daskgateway clusters show {it}` tells how"
            f" far it is, `daskgateway clusters stop {it}` ends it"
        ):
            cluster = _started(gateway, cluster, timeout_s)
    else:
        cluster = settling.settle(gateway.connection, cluster)
    _show(cluster, as_json)
    if wait and cluster.state.ending:
        terminal.fail(f"the cluster did not start: {cluster.explanation}")
    settling.warn_of_limits(cluster)
    if cluster.unreachable:
        terminal.fail(f"nobody can reach the cluster, which runs on: {cluster.unreachable}")


@contextmanager
def _interrupted(left: str) -> Iterator[None]:
    """Say what is left behind where Ctrl-C ends the command meanwhile."""
    try:
        yield
    except KeyboardInterrupt:
        terminal.fail(f"interrupted; {left}", INTERRUPTED)


def _started(gateway: Gateway, accepted: Cluster, timeout_s: float) -> Cluster:
    """Wait until a cluster can be used or ends, and tell what it waits for."""
    states = (ClusterState.ACTIVE, ClusterState.STOPPING)
    with progress.begin() as shown:
        shown.tell(progress.words_of(accepted))
        return waiting.wait(
            gateway.connection,
            accepted.name,
            states,
            timeout_s,
            lambda cluster: shown.tell(progress.words_of(cluster)),
            accepted.revision,
        )


@clusters.command()
@click.argument("name")
@_with_gateway
def show(gateway: Gateway, as_json: bool, name: str) -> None:
    """Show one cluster."""
    cluster = gateway.get_cluster(name)
    limits = ""
    if not as_json and "/" not in name:  # limits are told to each for their own clusters
        with suppress(errors.GatewayError):
            limits = gateway.cluster_options().limits.words
    _show(cluster, as_json, [("limit of one cluster", limits)])


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
@click.option("--interval", metavar="TIME", help="Between two looks at the load.")
@click.option("--wait-count", type=click.IntRange(1), help="Looks until a worker too many goes.")
@click.option("--target-duration", metavar="TIME", help="That the work there is may take.")
@_with_gateway
def adapt(
    gateway: Gateway, as_json: bool, name: str, minimum: int, maximum: int, **how: Any
) -> None:
    """Wish as many workers as the load needs, between bounds."""
    _show(gateway.adapt_cluster(name, minimum, maximum, **how), as_json)


@clusters.command()
@click.argument("name")
@click.option("--idle-timeout", type=words.SPAN, metavar="TIME", help="Without task and client.")
@click.option(
    "--no-task-timeout", type=words.SPAN, metavar="TIME", help="Without task, whoever is connected."
)
@click.option(
    "--no-client-timeout",
    type=words.SPAN,
    metavar="TIME",
    help="Without client, whatever it computes.",
)
@click.option("--max-lifetime", type=words.SPAN, metavar="TIME", help="Since it was created.")
@click.option(
    "--keepalive-timeout",
    type=words.SPAN,
    metavar="TIME",
    help="Without sign of life of the process that made it.",
)
@_with_gateway
def lifetimes(gateway: Gateway, as_json: bool, name: str, **spans: float | None) -> None:
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
            click.echo(terminal.as_json(terminal.plain(told)))
        elif isinstance(told, WatchEvent):
            name, state, running, wished, _, _, why = told.cluster.cells()
            purged = told.type is WatchEventType.REMOVED
            line = f"{name}  {state}  {running} of {wished} workers  {why}"
            terminal.say(f"{told.cluster.name}  PURGED" if purged else line)


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
    last, ended, people = "", True, sys.stdout.isatty()
    for instance, text in gateway.stream_logs(
        name, instances, tail_lines=tail_lines, follow=follow
    ):
        if as_json:
            click.echo(terminal.as_json({"instance": instance, "text": text}))
            continue
        if instance != last and len(instances) != 1:  # whose it is, also in a file
            terminal.say(("" if ended else "\n") + f"==> {instance} <==")
        last, ended = instance, text.endswith("\n")
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
        terminal.print_json({name: terminal.whole(offered[name]) for name in offered})
    else:
        rows = [
            (one, str(terminal.whole(offered[one])), *offered.described(one)) for one in offered
        ]
        terminal.table(("OPTION", "DEFAULT", "TAKES", "MEANS"), rows)


@gateway.command()
@_with_gateway
def whoami(gateway: Gateway, as_json: bool) -> None:
    """Show who the gateway takes you for, whence the credentials are, and until when they hold."""
    caller = gateway.whoami()
    if as_json:
        terminal.print_json({**terminal.plain(caller), "source": caller.source})
    else:
        terminal.say(caller.user + (" (admin)" if caller.admin else ""))
        ends = caller.expire_time
        until = f", until {ends:%Y-%m-%d %H:%M:%SZ}" if ends is not None else ""
        way = f", signed in by {caller.way}" if caller.way else ""
        terminal.say(f"by the credentials from {caller.source}{way}{until}")
        where = gateway.connection.settings
        terminal.say(f"at {where.address}, which is from {where.source}")
        if caller.groups:
            terminal.say(f"in the groups {', '.join(caller.groups)}")


@gateway.command("sign-in-options")
@_with_gateway
def sign_in_options(gateway: Gateway, as_json: bool) -> None:
    """Show by what one may sign in; needs no credentials."""
    _list(gateway.sign_in_options(), as_json)


@gateway.command()
@click.option("--way", default="", help="One of sign-in-options, where there are several.")
@click.option("--user", default="", help="Sign in by this user's password.")
@_with_gateway
def login(gateway: Gateway, as_json: bool, way: str, user: str) -> None:
    """Sign in by a code that you enter in a browser, here or elsewhere, or by your password (of
    which a line is read where there is no terminal); kept until `logout`."""
    caller = signing_in.login(
        gateway.address,
        way=way,
        user=user,
        show=lambda words: terminal.say(words, err=True),
        ask=terminal.secret,
    )
    if as_json:
        terminal.print_json(terminal.plain(caller))
    else:
        terminal.say(f"signed in as {caller.user}")


@gateway.command()
@_with_gateway
def logout(gateway: Gateway, as_json: bool) -> None:
    """Forget what `login` has left for this gateway, and take it back where it was made."""
    gone = signing_in.logout(gateway.address)
    if as_json:
        terminal.print_json({"forgotten": gone})
    else:
        terminal.say("signed out" if gone else "nobody was signed in here")


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
        terminal.print_json(terminal.plain(made))
    else:
        terminal.say(made.secret)


@token.command("list")
@_with_gateway
def list_tokens(gateway: Gateway, as_json: bool) -> None:
    """List tokens and sessions without their secrets."""
    _list(gateway.list_tokens(), as_json)


@token.command("revoke")
@click.argument("token_id")
@_with_gateway
def revoke_token(gateway: Gateway, as_json: bool, token_id: str) -> None:
    """Make a token useless, or a session; and those that were made with it."""
    _, *others = gateway.revoke_token(token_id) or [token_id]
    if as_json:
        terminal.print_json({"revoked": token_id, "others": others})
    elif others:
        terminal.say(f"revoked with it, as they were made with it: {', '.join(others)}")


@token.command("end-sessions")
@_with_gateway
def end_sessions(gateway: Gateway, as_json: bool) -> None:
    """End all your sessions, browsers' too, and the tokens made by them."""
    ended = gateway.end_sessions()
    if as_json:
        terminal.print_json({"ended": ended})
    else:
        terminal.say(f"ended: {', '.join(ended) or 'none'}")


COMMANDS: dict[str, click.Command] = dict(gateway.commands)
