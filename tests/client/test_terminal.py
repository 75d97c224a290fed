"""Whatever a gateway says, no command lets it act on the terminal; and what goes to a pipe or is
JSON is as it was said."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import grpc
import pytest
from daskgateway.v1 import cluster_service_pb2, credential_service_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from gateway.__main__ import main
from gateway.client import cli, progress
from gateway.printable import printable
from tests.unit.test_printable import harmless

HOSTILE = "etl\x1b]0;owned\x07\x1b[2J\x9b2J\u202egnp\x7f\x08[red]x[/red]:skull:"
SERVICES = {
    "ClusterService": cluster_service_pb2.DESCRIPTOR.services_by_name["ClusterService"],
    "CredentialService": credential_service_pb2.DESCRIPTOR.services_by_name["CredentialService"],
}
# Every command, with words that it takes; what it is told is the same whatever is asked.
WORDS: dict[str, list[str]] = {
    "clusters list": ["--all"],
    "clusters create": ["etl", "--no-wait"],
    "clusters show": ["etl"],
    "clusters scale": ["etl", "3"],
    "clusters adapt": ["etl", "--maximum", "3"],
    "clusters lifetimes": ["etl", "--idle-timeout", "2 hours"],
    "clusters stop": ["etl"],
    "clusters watch": [],
    "clusters logs": ["etl"],
    "clusters events": ["etl"],
    "options": [],
    "whoami": [],
    "login": [],
    "logout": [],
    "sign-in-options": [],
    "token create": ["laptop"],
    "token list": [],
    "token revoke": ["id"],
    "token end-sessions": [],
}


# it is told nothing by the gateway
ASKING = [command for command in WORDS if command != "logout"]


def commands(group: click.Group, before: str = "") -> Iterator[str]:
    """Yield every command's words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name


def filled(message: Message, depth: int = 0) -> Message:
    """Return a message that says something hostile wherever it can."""
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and field.containing_oneof.fields[0].name not in (
            field.name,
            "null_value",
        ):
            continue
        _fill(message, field, depth)  # type: ignore[arg-type]
    return message


def _fill(message: Message, field: FieldDescriptor, depth: int) -> None:
    name, kind = field.name, field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        held = getattr(message, name)
        if kind.fields_by_name["value"].message_type is not None:
            filled(held[HOSTILE], depth + 1) if depth < 5 else None
        else:
            held[HOSTILE] = HOSTILE if kind.fields_by_name["value"].type == field.TYPE_STRING else 1
    elif kind is not None and kind.full_name == "google.protobuf.Value":
        (
            getattr(message, name).add() if _repeated(field) else getattr(message, name)
        ).string_value = HOSTILE
    elif kind is not None and kind.full_name in (
        "google.protobuf.Timestamp",
        "google.protobuf.Duration",
    ):
        getattr(message, name).seconds = 1_800_000_000
    elif kind is not None:
        if depth < 5:
            filled(
                getattr(message, name).add() if _repeated(field) else getattr(message, name),
                depth + 1,
            )
    elif _repeated(field):
        getattr(message, name).extend([HOSTILE if field.type == field.TYPE_STRING else 1] * 2)
    elif name not in ("next_page_token", "null_value"):
        setattr(
            message,
            name,
            HOSTILE
            if field.type == field.TYPE_STRING
            else b"x"
            if field.type == field.TYPE_BYTES
            else 1,
        )


def _repeated(field: FieldDescriptor) -> bool:
    return isinstance(field.default_value, list)


class Hostile(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """A gateway that says nothing harmless, or refuses everything in such words."""

    refuses = False
    code = grpc.StatusCode.NOT_FOUND

    def service(self, details: Any) -> Any:
        _, service, name = details.method.split("/")
        method: MethodDescriptor = SERVICES[service.rpartition(".")[2]].methods_by_name[name]
        request, answer = (
            message_factory.GetMessageClass(one) for one in (method.input_type, method.output_type)
        )
        coders: dict[str, Any] = {
            "request_deserializer": request.FromString,
            "response_serializer": answer.SerializeToString,
        }
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(
                lambda _, context: self.stream(answer(), context), **coders
            )
        return grpc.unary_unary_rpc_method_handler(
            lambda _, context: self.answer(answer(), context), **coders
        )

    def answer(self, message: Message, context: grpc.ServicerContext) -> Message:
        if self.refuses:
            status = status_pb2.Status(code=self.code.value[0], message=HOSTILE)
            status.details.add().Pack(
                error_details_pb2.BadRequest(
                    field_violations=[{"field": HOSTILE, "description": HOSTILE}]
                )
            )
            context.set_trailing_metadata(
                (("grpc-status-details-bin", status.SerializeToString()),)
            )
            context.abort(self.code, HOSTILE.encode("ascii", "replace").decode())
        return filled(message)

    def stream(self, message: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        yield self.answer(message, context)
        if "event" in message.DESCRIPTOR.fields_by_name:  # a watch, which would begin again
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "that was all")


class Terminal(io.StringIO):
    """A terminal, or a pipe."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(scope="module")
def hostile() -> Iterator[tuple[Hostile, str]]:
    """A hostile gateway and its address."""
    handler = Hostile()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def run(
    monkeypatch: pytest.MonkeyPatch, address: str, command: str, *words: str, terminal: bool = True
) -> tuple[str, str]:
    """Run a command of the command line; return what it prints to standard output and standard
    error."""
    out, err = Terminal(terminal), Terminal(terminal)
    monkeypatch.setenv("TERM", "dumb")  # so that rich itself sends nothing but text
    monkeypatch.setenv("DASKGATEWAY_TOKEN", "dgw_api_x_y")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    try:
        main.main(
            [*command.split(), "--address", address, *words],
            prog_name="daskgateway",
            standalone_mode=False,
        )
    except SystemExit:
        pass
    finally:
        monkeypatch.undo()
    return out.getvalue(), err.getvalue()


def test_every_command_is_tried_here() -> None:
    assert set(commands(cli.gateway)) == WORDS.keys()


@pytest.mark.parametrize("command", ASKING)
def test_what_a_command_shows_does_nothing_to_the_terminal(
    hostile: tuple[Hostile, str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    out, err = run(monkeypatch, hostile[1], command, *WORDS[command])
    assert harmless(out), ascii(out)
    assert harmless(err), ascii(err)
    assert "\\x1b" in out + err  # it was shown
    assert "\N{SKULL}" not in out
    assert "red]" in out + err  # it is no markup, and may be wrapped


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT],
    ids=lambda code: code.name,
)
@pytest.mark.parametrize("command", ASKING)
def test_what_a_command_fails_with_does_nothing_to_the_terminal(
    hostile: tuple[Hostile, str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    code: grpc.StatusCode,
) -> None:
    monkeypatch.setattr(Hostile, "refuses", True)
    monkeypatch.setattr(Hostile, "code", code)
    with monkeypatch.context() as inner:
        out, err = run(inner, hostile[1], command, *WORDS[command])
    assert out == ""
    assert err.startswith("daskgateway: ")
    assert harmless(err), ascii(err)


# a sign-in goes on with the provider, which this one only misnames
@pytest.mark.parametrize("command", [one for one in ASKING if one != "login"])
def test_json_says_all_of_it_and_is_plain_text(
    hostile: tuple[Hostile, str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    out, _ = run(monkeypatch, hostile[1], command, *WORDS[command], "--output", "json")
    assert harmless(out), ascii(out)
    said: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                said.append(key)
                collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)
        elif isinstance(value, str):
            said.append(value)

    collect(json.loads(out))
    assert HOSTILE in said or command == "token revoke"


def test_a_log_in_a_pipe_is_as_it_was_written(
    hostile: tuple[Hostile, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heading is there too: `logs > file` had lost it."""
    out, err = run(monkeypatch, hostile[1], "clusters logs", "etl", terminal=False)
    assert out == f"==> {printable(HOSTILE, keep='')} <==\n{HOSTILE}"
    assert err == ""
    out, _ = run(monkeypatch, hostile[1], "clusters logs", "etl", "scheduler", terminal=False)
    assert out == HOSTILE  # of one alone it is clear whose it is


def test_what_a_starting_cluster_waits_for_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from daskgateway.v1 import cluster_pb2

    from gateway.client.model import Cluster

    err = Terminal(True)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    cluster = Cluster.from_proto(
        cluster_pb2.Cluster(name=HOSTILE, status=cluster_pb2.ClusterStatus(message=HOSTILE))
    )
    with progress.begin() as shown:
        shown.tell(progress.words_of(cluster))
    monkeypatch.undo()
    for bad in ("\x1b]", "\x9b", "\u202e", "\x07", "\x7f"):
        assert bad not in err.getvalue()
    assert "[red]x[/red]" in err.getvalue()


def test_what_an_exception_says_is_harmless() -> None:
    from gateway.client.calls import errors

    error = errors.make("NOT_FOUND", HOSTILE)
    assert harmless(str(error))
    assert harmless(repr(error))
    assert harmless(str(errors.ClusterFailed(HOSTILE)))


def test_what_the_servers_own_commands_quote_is_harmless(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    told = {
        "path": HOSTILE,
        "why": HOSTILE,
        "clusters": [{"uid": HOSTILE, "user": HOSTILE, "backend": HOSTILE, "processes": 1}],
    }
    (state / "database-doubt.json").write_text(json.dumps(told))
    for words in (
        ["confirm-database", f"--DaskGateway.state_dir={state}", "--yes"],
        ["check-config", "-f", HOSTILE],
        ["check-config", f"--{HOSTILE}.x=1"],
        ["check-config", f"--DaskGateway.backends=['{HOSTILE}']"],
        ["show-config", f"--DaskGateway.state_dir={state}", f"--DaskGateway.public_url={HOSTILE}"],
        ["generate-config", "-o", f"no/{HOSTILE}"],
    ):
        out, err = Terminal(True), Terminal(True)
        with monkeypatch.context() as inner:
            inner.setattr(sys, "stdout", out)
            inner.setattr(sys, "stderr", err)
            try:
                main.main(words, prog_name="daskgateway", standalone_mode=False)
            except SystemExit:
                pass
        assert harmless(out.getvalue() + err.getvalue()), (
            words,
            ascii(out.getvalue() + err.getvalue()),
        )
        assert "\\x1b" in out.getvalue() + err.getvalue(), words
