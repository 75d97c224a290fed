"""The table of a cluster's life."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.server.core.model import State
from gateway.server.core.transitions import TRANSITIONS, Trigger, after, diagram


@given(st.sampled_from(State), st.lists(st.sampled_from(Trigger)))
def test_transitions_are_total_and_end_for_good(state: State, triggers: list[Trigger]) -> None:
    for trigger in triggers:
        following = after(state, trigger)
        assert following in State
        if state.finished:
            assert following is state
        state = following


def test_every_state_is_reached_and_leads_to_an_end() -> None:
    reached = {State.PENDING}
    for _ in State:
        reached |= {after(state, trigger) for state in reached for trigger in Trigger}
    assert reached == set(State)
    for state in State:
        ends = {state}
        for _ in State:
            ends |= {after(one, trigger) for one in ends for trigger in Trigger}
        assert any(one.finished for one in ends)


def test_a_stop_is_never_undone() -> None:
    assert {
        following for (state, _), following in TRANSITIONS.items() if state is State.STOPPING
    } == {State.STOPPED, State.FAILED}


def test_the_diagram_shows_every_transition() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert len(lines) == 2 + len(TRANSITIONS) + 2
