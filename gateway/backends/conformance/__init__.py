"""What every backend must do, as tests: a backend's own test module subclasses `Conformance` and
says how to make a `Room`::

    class TestMine(Conformance):
        @pytest.fixture
        async def room(self, tmp_path):
            cannot = {"outage": "this machine always answers", ...}
            room = Room(MyBackend(root=str(tmp_path)), cannot=cannot)
            await room.open()
            yield room
            await room.close()

Run with pytest and pytest-asyncio (asyncio_mode = auto). Standard library only; knows the contract
and nothing else. What runs is not taken from the backend's word: every process that the suite
starts is seen from outside (`witness.Witness`). What a machine room cannot do at all its Room says
in `cannot`, with the reason: those tests are skipped, and `pytest -rs` lists them. What is asked of
`Room.again`, `Room.stranger` and `Room.outage` is where most backends are found wanting.
"""

from gateway.backends.conformance.ends import Ends
from gateway.backends.conformance.faults import Faults
from gateway.backends.conformance.leavings import Leavings
from gateway.backends.conformance.room import OTHER_UID, UID, Room
from gateway.backends.conformance.sights import Sights
from gateway.backends.conformance.stall import MAX_STALL_S, longest_stall
from gateway.backends.conformance.starts import Starts
from gateway.backends.conformance.witness import Witness


class Conformance(Starts, Ends, Sights, Leavings, Faults):
    """The suite."""


__all__ = ["MAX_STALL_S", "OTHER_UID", "UID", "Conformance", "Room", "Witness", "longest_stall"]
