"""Sign-ins are limited by the address that a trusted proxy tells, and by nothing that anybody else
writes; and who shares an address with somebody that guesses is not kept out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import grpc
import pytest
from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc

from gateway.server.core.sign_ins import ADDRESS, PAIR
from gateway.wire import basic_credentials
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess

PROXY, STRANGER = "127.0.0.3", "127.0.0.1"  # by where they connect from
OTHER, WORD = "bob", "builder"
WHO = "daskgateway.v1.CredentialService/WhoAmI"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that believes one proxy. Each test has addresses of its own."""
    made = GatewayProcess(
        tmp_path_factory.mktemp("gateway"), f"c.Proxy.trusted_proxies = [{PROXY!r}]"
    )
    try:
        made.start()
        yield made
    finally:
        made.end()


class Caller:
    """Somebody who connects from an address, and writes where it came from."""

    def __init__(self, gateway: GatewayProcess, peer: str) -> None:
        self._address, self._peer = gateway.address, peer

    async def signs_in(self, user: str, password: str, told: str = "") -> tuple[int, str]:
        """Return how a call is answered: status and text."""
        headers = {"Authorization": basic_credentials(user, password)}
        if told:
            headers["X-Forwarded-For"] = told
        connector = aiohttp.TCPConnector(local_addr=(self._peer, 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"{self._address}/{WHO}"
            async with session.post(url, json={}, headers=headers) as answer:
                return answer.status, await answer.text()

    async def guesses(self, user: str, told: str = "", times: int = PAIR.free + 1) -> None:
        """Guess until that is slowed."""
        for number in range(times):
            status, text = await self.signs_in(user, f"guess {number}", told)
            assert status == 401, text


async def test_what_a_trusted_proxy_tells_is_limited_each_by_itself(
    gateway: GatewayProcess,
) -> None:
    proxy = Caller(gateway, PROXY)
    await proxy.guesses(USER, "192.0.2.1")
    # what the caller wrote itself stands on the left, and counts for nothing
    for told in ("192.0.2.1", "192.0.2.2, 192.0.2.1", "192.0.2.2,rubbish, 192.0.2.1"):
        status, text = await proxy.signs_in(USER, "guess", told)
        assert status == 429, (told, text)
    # nobody else behind the same proxy is kept out, the user from elsewhere least of all
    for user, word, told in ((USER, PASSWORD, "192.0.2.2"), (OTHER, WORD, "192.0.2.1")):
        status, text = await proxy.signs_in(user, word, told)
        assert status == 200, text


async def test_what_anybody_else_writes_has_no_effect(gateway: GatewayProcess) -> None:
    stranger, proxy = Caller(gateway, STRANGER), Caller(gateway, PROXY)
    for number in range(PAIR.free + 1):  # each as if from another address
        status, text = await stranger.signs_in(USER, f"guess {number}", f"192.0.2.{number}")
        assert status == 401, text
    for told in ("", "192.0.2.77", "127.0.0.3", "::1"):
        status, text = await stranger.signs_in(USER, "guess", told)
        assert status == 429, (told, text)
    # nor over gRPC
    assert await _over_grpc(gateway, "guess", "192.0.2.78") is grpc.StatusCode.RESOURCE_EXHAUSTED
    # and whoever has one of the addresses that it wrote is not kept out for that
    status, text = await proxy.signs_in(USER, PASSWORD, "192.0.2.3")
    assert status == 200, text
    status, text = await proxy.signs_in(USER, "guess", "192.0.2.0")
    assert status == 401, text


async def _over_grpc(gateway: GatewayProcess, password: str, told: str) -> grpc.StatusCode:
    address = gateway.address.partition("//")[2]
    metadata = (
        ("authorization", basic_credentials(USER, password)),
        ("x-forwarded-for", told),
    )
    async with grpc.aio.insecure_channel(address) as channel:
        stub = credential_service_pb2_grpc.CredentialServiceStub(channel)
        try:
            await stub.WhoAmI(pb.WhoAmIRequest(), metadata=metadata, timeout=60)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_who_shares_an_address_with_somebody_that_guesses_is_not_kept_out(
    gateway: GatewayProcess,
) -> None:
    """Such as all of a site, behind one address that is translated (NAT)."""
    proxy, shared = Caller(gateway, PROXY), "198.51.100.7"
    status, _ = await proxy.signs_in(USER, PASSWORD, shared)
    assert status == 200
    guesses = [
        asyncio.ensure_future(proxy.signs_in(name, "guess", shared))
        for name in [USER] * PAIR.free + [f"nobody{n}" for n in range(int(ADDRESS.free) + 5)]
    ]
    try:
        # who was there before, and whose name is guessed; and who comes for the first time
        for user, word in ((USER, PASSWORD), (OTHER, WORD)):
            status, text = await asyncio.wait_for(proxy.signs_in(user, word, shared), 60)
            assert status == 200, text
    finally:
        answers = await asyncio.gather(*guesses)
    assert {status for status, _ in answers} <= {401, 429}
    for user, word in ((USER, PASSWORD), (OTHER, WORD)):
        status, text = await proxy.signs_in(user, word, shared)
        assert status == 200, text
