"""What an agent says of a server that it does not reach: the address, the error, and where to
look."""

from __future__ import annotations

import pytest

from gateway.agent.unreached import MAX_WORDS, unreached

ADDRESS = "https://gateway.example.org:8001"


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ("failed to connect to all addresses; last error: Connection refused", "refused"),
        ("", "UNAVAILABLE: UNAVAILABLE"),
        (
            "Ssl handshake failed: SSL_ERROR_SSL: error:1000007d:SSL routines::"
            "CERTIFICATE_VERIFY_FAILED: self signed certificate",
            "not vouched for by c.DaskGateway.tls_ca",
        ),
        ("Hostname Verification Check failed.", "see c.DaskGateway.agent_address and tls_cert"),
        ("Peer name gateway is not in peer certificate", "of another name"),
    ],
)
def test_the_dialled_address_and_the_error_are_told_in_one_line(details: str, words: str) -> None:
    said = unreached(ADDRESS, "UNAVAILABLE", details)
    assert said.startswith(f"the gateway's server at {ADDRESS} does not answer (UNAVAILABLE: ")
    assert words in said
    assert "\n" not in said


def test_what_is_told_is_bounded() -> None:
    assert len(unreached(ADDRESS, "UNAVAILABLE", "x\n" * 10_000)) < MAX_WORDS + 200
