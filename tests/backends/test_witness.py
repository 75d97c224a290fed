"""The suite's witness leaves nothing open, whenever it closes."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings

import pytest

from gateway.backends.conformance import Witness


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("said", [b"", b"token\tname\t7\twords\n"])
def test_who_connects_just_when_it_closes_is_let_go(turns: int, said: bytes) -> None:
    """So many turns of the loop after the connection: it is in the queue, accepted, met."""

    async def closing() -> None:
        witness = Witness()
        await witness.open()
        with socket.create_connection(("127.0.0.1", witness.port)) as comes:
            comes.sendall(said)
            for _ in range(turns):
                await asyncio.sleep(0)
            await witness.close()

    gc.collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(closing())
        gc.collect()
    assert [str(one.message) for one in told] == []
