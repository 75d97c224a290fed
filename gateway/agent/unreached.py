"""Why the gateway's server is not reached, in words for who reads a scheduler's log. Pure."""

from __future__ import annotations

import re

MAX_WORDS = 300
_HINTS = (
    (re.compile(r"Hostname Verification Check failed|peer name", re.IGNORECASE), "the name"),
    (re.compile(r"CERTIFICATE_VERIFY_FAILED", re.IGNORECASE), "the CA"),
)
ADVICE = {
    "the name": "its certificate is of another name; see c.DaskGateway.agent_address and tls_cert",
    "the CA": "its certificate is not vouched for by c.DaskGateway.tls_ca",
}
_ANSWERS = {
    "INVALID_ARGUMENT": "refuses this agent's reports",
    "UNAUTHENTICATED": "turns this scheduler away",
    "PERMISSION_DENIED": "turns this scheduler away",
    "NOT_FOUND": "turns this scheduler away",
}


def unreached(address: str, code: str, details: str) -> str:
    """Return one line with the address that was dialled, gRPC's status and its words, and which of
    the gateway's settings to look at where that can be told."""
    words = " ".join(details.split())[:MAX_WORDS] or code
    advice = next((ADVICE[what] for pattern, what in _HINTS if pattern.search(details)), "")
    does = _ANSWERS.get(code, "does not answer")
    return f"the gateway's server at {address} {does} ({code}: {words})" + (
        f"; {advice}" if advice else ""
    )
