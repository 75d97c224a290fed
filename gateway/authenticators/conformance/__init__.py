"""What every authenticator must do, as tests: an authenticator's own test module subclasses
`Conformance` and says how to make a `Source`::

    class TestMine(Conformance):
        @pytest.fixture
        async def source(self, tmp_path):
            source = Source(
                MyAuthenticator(url=directory.url),
                again=another,        # one more authenticator on the same identity source
                add=directory.add,    # a user comes
                show=directory.show,  # what a user sends now
                wrong=directory.wrong,  # the same with a secret that is wrong
                cannot={"expired": "passwords of this directory never expire", ...},
            )
            await source.open()
            yield source
            await source.close()

Run with pytest and pytest-asyncio (asyncio_mode = auto). Standard library only; knows the contract
and nothing else. What an identity source cannot do at all its Source says in `cannot`, with the
reason: those tests are skipped, and `pytest -rs` lists them.
"""

from gateway.authenticators.conformance.faults import Faults
from gateway.authenticators.conformance.lies import Lies
from gateway.authenticators.conformance.people import People
from gateway.authenticators.conformance.secrecy import Secrecy
from gateway.authenticators.conformance.sign_ins import SignIns
from gateway.authenticators.conformance.source import OPTIONAL, Source


class Conformance(SignIns, People, Faults, Lies, Secrecy):
    """The suite."""


__all__ = ["OPTIONAL", "Conformance", "Source"]
