"""A directory that hangs, leads elsewhere, or ends what asks it stops nobody."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from gateway.authenticators.conformance.source import basic
from gateway.authenticators.contract import AuthenticatorUnavailable
from gateway.backends.conformance.stall import MAX_STALL_S, longest_stall
from tests.authenticators import lying_directory
from tests.authenticators.test_ldap import People, alice, made, people, told
from tests.parts.jupyterhub import Wire
from tests.parts.slapd import PEOPLE, Slapd, slapd

__all__ = ["alice", "people", "slapd"]


@pytest.mark.usefixtures("alice")
async def test_nobody_is_asked_where_the_directory_says_that_it_is_elsewhere(
    slapd: Slapd, people: People
) -> None:
    visits = list[object]()

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(writer.get_extra_info("peername"))
        writer.close()

    there = await asyncio.start_server(visited, "127.0.0.1", 0)
    wire = Wire(slapd.port)
    await wire.start()
    try:
        url = f"ldap://127.0.0.1:{there.sockets[0].getsockname()[1]}/{PEOPLE}"
        for liar in lying_directory.elsewhere(url):
            one = made(slapd, url=f"ldap://127.0.0.1:{wire.port}")
            async with wire.lying(liar):
                with contextlib.suppress(AuthenticatorUnavailable):
                    assert await told(one, await people.show("alice")) is None
    finally:
        await wire.stop()
        there.close()
        await there.wait_closed()
    assert visits == []


async def test_a_directory_that_hangs_stops_nobody_else(slapd: Slapd) -> None:
    """Neither in clear text nor, as the C library knows no end of it, in TLS."""
    silent = socket.socket()  # connections are accepted, and nothing is ever said
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    try:
        port = silent.getsockname()[1]
        for scheme in ("ldap", "ldaps"):
            one = made(slapd, url=f"{scheme}://127.0.0.1:{port}", timeout_s=0.4)
            await one.open()
            try:
                async with longest_stall() as worst:
                    with pytest.raises(AuthenticatorUnavailable, match="the directory does not"):
                        await asyncio.wait_for(one.authenticate(basic("alice", "any word")), 30)
                assert worst[0] < MAX_STALL_S, scheme
            finally:
                await one.close()
    finally:
        silent.close()


@pytest.mark.usefixtures("alice")
async def test_a_process_that_asks_and_ends_is_followed_by_another(
    slapd: Slapd, people: People
) -> None:
    one = made(slapd)
    await one.open()
    try:
        for _ in range(2):
            assert await one.authenticate(await people.show("alice")) is not None
            (process,) = one._helpers._idle
            process.kill()
            await process.wait()
        assert await one.identity("alice") is not None
    finally:
        await one.close()
    assert process.returncode is not None
