"""Where an agent reports to and as whom, and the channel on which it does."""

from __future__ import annotations

import os
from dataclasses import dataclass

import grpc

from gateway import wire

CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_http_proxy", 0),
]


@dataclass(frozen=True)
class Setup:
    """What the agent finds in its environment."""

    uid: str
    address: str
    token: str
    ca: bytes
    server_name: str = ""  # in the server's certificate; empty: that in the address

    @classmethod
    def load(cls) -> Setup:
        """Return it; KeyError or OSError if something is missing, ValueError if the address is none
        that a token may be sent to."""
        with open(os.environ[wire.ENV_AGENT_TOKEN_FILE]) as file:
            token = file.read().strip()
        with open(os.environ[wire.ENV_AGENT_CA_FILE], "rb") as bundle:
            ca = bundle.read()
        address = os.environ[wire.ENV_AGENT_ADDRESS]
        if not ca or not address.startswith(("https://", "unix:/")):
            raise ValueError(
                f"{address} is no address that a token may be sent to; with https:// it is known"
                f" who answers there"
            )
        return cls(
            os.environ[wire.ENV_UID],
            address,
            token,
            ca,
            os.environ.get(wire.ENV_AGENT_SERVER_NAME, ""),
        )

    def channel(self) -> grpc.Channel:
        """Return a channel to the server. Nothing is sent to anybody but whom the CA, and no other
        one of this machine, vouches for."""
        target = self.address.removeprefix("https://")
        if target == self.address:
            return grpc.insecure_channel(self.address, CHANNEL_OPTIONS)
        named = [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []
        return grpc.secure_channel(
            target, grpc.ssl_channel_credentials(self.ca), [*CHANNEL_OPTIONS, *named]
        )
