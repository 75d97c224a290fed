"""By what one may sign in is told to everybody, and nothing else is told to anybody who has not."""

from __future__ import annotations

import grpc
import pytest
from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc

from gateway.authenticators.password import PasswordAuthenticator
from gateway.server.core.sign_in_options import API_TOKEN, Sessions, SignInOption
from gateway.server.core.user_names import rule_of
from gateway.server.rpc.interceptors import OPEN_PREFIXES
from gateway.server.security.sources import Part, Sources
from gateway.wire import SIGN_IN_OPTIONS
from tests.rpc.harness import Harness, as_
from tests.rpc.test_bounds import files_with_services
from tests.security.people import People


@pytest.mark.parametrize(
    "metadata", [None, as_("alice"), (("authorization", "Bearer wrong"),), (("authorization", ""),)]
)
async def test_it_needs_no_credentials_and_looks_at_none(
    harness: Harness, metadata: tuple[tuple[str, str], ...] | None
) -> None:
    stub = credential_service_pb2_grpc.CredentialServiceStub(harness.channel)
    answer = await stub.GetSignInOptions(pb.GetSignInOptionsRequest(), metadata=metadata)
    assert [one.name for one in answer.options] == ["api-token"]
    assert list(answer.options[0].schemes) == ["bearer"]


async def test_every_other_call_needs_credentials(harness: Harness) -> None:
    open_calls = []
    for file in files_with_services():
        for service in file.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                if not await _kept_out(harness, path, method.server_streaming):
                    open_calls.append(path)
    others = [path for path in open_calls if not path.startswith(OPEN_PREFIXES)]
    assert others == [SIGN_IN_OPTIONS]
    assert not SIGN_IN_OPTIONS.startswith(OPEN_PREFIXES)


async def _kept_out(harness: Harness, path: str, streams: bool) -> bool:
    """Whether a caller with no credentials is kept out of a call."""
    try:
        if streams:
            async for _ in harness.channel.unary_stream(path, None, None)(b"", timeout=30):
                return False
        else:
            await harness.channel.unary_unary(path, None, None)(b"", timeout=30)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAUTHENTICATED
    return False


def test_authenticators_tell_themselves_in_the_order_in_which_they_are_asked() -> None:
    parts = [
        Part("own", People(), rule_of({"{user}": "{user}@own"})),
        Part("password", PasswordAuthenticator(), rule_of({"{user}": "{user}@pw"})),
    ]
    assert Sources(parts).options() == (
        SignInOption("own", "People", ("basic",)),
        SignInOption("password", "user name and password", ("basic",), "basic", Sessions.ADVISED),
        API_TOKEN,
    )
