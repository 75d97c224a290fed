"""Whose share a request is counted to: a user has one, however the credentials are spelled, and a
guess has none."""

from __future__ import annotations

import base64

import pytest

from gateway.proxy.upstream.turns import Calls, Share, Shares
from gateway.server.security.tokens import mint
from gateway.wire import basic_credentials

RIGHT = basic_credentials("alice", "wonderland")
VALUE = RIGHT.partition(" ")[2]
SPELLINGS = [
    f"basic {VALUE}",
    f"BASIC {VALUE}",
    f"bAsIc    {VALUE}",
    f"Basic {VALUE} ",
    f"Basic {VALUE}\t",
]


@pytest.mark.parametrize("spelled", SPELLINGS)
async def test_one_user_has_one_share_however_the_credentials_are_spelled(spelled: str) -> None:
    calls = Calls(Shares())
    share = calls.accepted(RIGHT)
    assert not share.stranger
    assert calls.accepted(spelled) == share
    assert calls.share(spelled, "192.0.2.1") == share
    assert len(calls._known) == 1


@pytest.mark.parametrize("spelled", ["bearer dgw_api_x", "BEARER  dgw_api_x", "Bearer dgw_api_x "])
async def test_so_has_a_token(spelled: str) -> None:
    calls = Calls(Shares())
    assert calls.accepted("Bearer dgw_api_x") == calls.accepted(spelled)
    assert len(calls._known) == 1


async def test_all_tokens_of_a_user_and_the_password_are_one_share() -> None:
    """A hundred tokens made a hundred callers of one user, each with a share."""
    calls = Calls(Shares())
    hers = [calls.accepted(f"Bearer {mint('api', 'alice').text}") for _ in range(100)]
    assert set(hers) == {calls.accepted(RIGHT)}
    his = calls.accepted(f"Bearer {mint('api', 'bob').text}")
    assert his not in hers


async def test_a_mark_that_somebody_only_claims_is_worth_nothing() -> None:
    calls = Calls(Shares())
    hers = mint("api", "alice").text
    calls.accepted(f"Bearer {hers}")
    claimed = f"{hers[:-1]}{'a' if hers[-1] != 'a' else 'b'}"
    assert calls.share(f"Bearer {claimed}", "192.0.2.1") == Share(True, "192.0.2.1")


@pytest.mark.parametrize("kind", ["agent", "edge", "api"])
async def test_tokens_that_name_no_user_have_shares_of_their_own(kind: str) -> None:
    """Such as those that an older version made."""
    calls = Calls(Shares())
    texts = [f"dgw_{kind}_ABCDEFGH{number}abcdefg_{'s' * 43}" for number in range(3)]
    assert len({calls.accepted(f"Bearer {text}") for text in texts}) == 3


async def test_passwords_of_one_user_that_are_both_right_are_one_share() -> None:
    """Such as where one password lets everybody in, or an old and a new one hold for a while."""
    calls = Calls(Shares())
    assert calls.accepted(RIGHT) == calls.accepted(basic_credentials("alice", "other"))


@pytest.mark.parametrize(
    "value",
    [basic_credentials("alice", "guess"), f"Basic {VALUE[:-1]}", f"Bearer {VALUE}", "Basic", ""],
)
async def test_who_shows_anything_else_is_a_stranger(value: str) -> None:
    calls = Calls(Shares())
    calls.accepted(RIGHT)
    assert calls.share(value, "192.0.2.1") == Share(True, "192.0.2.1")


async def test_a_user_and_a_token_of_the_same_letters_are_two() -> None:
    calls = Calls(Shares())
    user = base64.b64encode(b"a:b").decode()
    assert (
        calls.accepted(f"Basic {user}") != calls.accepted("Bearer a:b") != calls.accepted("user a")
    )
