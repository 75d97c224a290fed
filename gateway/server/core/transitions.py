"""Which state follows which: the one table of a cluster's life, and its diagram."""

from __future__ import annotations

from enum import StrEnum

from gateway.server.core.model import State


class Trigger(StrEnum):
    """What moves a cluster from one state to the next."""

    BEGIN = "the reconciler takes it up"
    READY = "its scheduler's agent reports"
    STOP = "a stop is wished, or it fails"
    GONE_AS_WISHED = "all of it is gone, as wished"
    GONE_BY_FAULT = "all of it is gone, by a fault"


TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.PENDING, Trigger.BEGIN): State.CREATING,
    (State.PENDING, Trigger.STOP): State.STOPPING,
    (State.CREATING, Trigger.READY): State.ACTIVE,
    (State.CREATING, Trigger.STOP): State.STOPPING,
    (State.ACTIVE, Trigger.STOP): State.STOPPING,
    (State.STOPPING, Trigger.GONE_AS_WISHED): State.STOPPED,
    (State.STOPPING, Trigger.GONE_BY_FAULT): State.FAILED,
}


def after(state: State, trigger: Trigger) -> State:
    """Return the next state; a trigger that means nothing in this state changes nothing."""
    return TRANSITIONS.get((state, trigger), state)


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.PENDING}"]
    lines += [
        f"    {state} --> {following}: {trigger.value}"
        for (state, trigger), following in TRANSITIONS.items()
    ]
    lines += [f"    {state} --> [*]" for state in State if state.finished]
    return "\n".join(lines)
