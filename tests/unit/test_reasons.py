"""Words for programs are closed lists: the core's are the protocol's, and nothing else is said."""

from __future__ import annotations

import ast
import pathlib

from daskgateway.v1 import reason_pb2 as pb

import gateway
from gateway.client.model import reasons as client
from gateway.server.core.model import State
from gateway.server.core.reasons import ConditionType, Reason

PACKAGE = pathlib.Path(gateway.__file__).parent
# an error has the one too, and a column of a table the other
WORDS = frozenset(Reason) - frozenset(State) - {"BACKEND_UNAVAILABLE", "CREATED"}


def named(numbers: type[pb.Reason] | type[pb.ConditionType], prefix: str) -> list[str]:
    """Return the words that an enum of the protocol lists."""
    return [name.removeprefix(prefix) for name in numbers.keys()[1:]]


def test_reasons_are_those_of_the_protocol_in_its_order() -> None:
    assert named(pb.Reason, "REASON_") == [reason.value for reason in Reason]
    assert all(reason.name == reason.value for reason in Reason)


def test_condition_types_are_those_of_the_protocol_in_its_order() -> None:
    words = named(pb.ConditionType, "CONDITION_TYPE_")
    assert words == [kind.name for kind in ConditionType]
    assert ["".join(part.capitalize() for part in word.split("_")) for word in words] == [
        kind.value for kind in ConditionType
    ]


def test_every_state_is_a_reason_too() -> None:
    assert all(Reason(state.value) for state in State)


def test_the_words_that_a_client_acts_on_are_the_servers() -> None:
    told = {name: word for name, word in vars(client).items() if name.isupper()}
    assert {"SCHEDULER_QUEUED", "STOP_REQUESTED", "WITHIN_LIMITS"} <= told.keys()
    for name, word in told.items():
        assert word in {**Reason.__members__, **ConditionType.__members__}[name].value


def free_words(path: pathlib.Path) -> set[str]:
    """Return the words for programs that a module writes as texts."""
    texts = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return texts & {*WORDS, *ConditionType}


def test_nobody_writes_a_reason_or_a_condition_type_as_a_text() -> None:
    own = PACKAGE / "server" / "core" / "reasons.py"
    places = [
        path
        for part in ("server", "agent", "client")
        for path in (PACKAGE / part).rglob("*.py")
        if path != own
    ]
    assert len(places) > 100
    found = {str(path.relative_to(PACKAGE)): free_words(path) for path in places}
    assert {name: words for name, words in found.items() if words} == {}


def test_a_free_word_would_be_noticed(tmp_path: pathlib.Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('known.tell("WORKER_LOST", "it ended")\n')
    assert free_words(module) == {"WORKER_LOST"}
