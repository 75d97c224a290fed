"""Plays the agents inside the schedulers of our clusters that run nowhere: real streams, real
credentials, real reports."""

from __future__ import annotations

import asyncio
import json
import pathlib
import random
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Any

import grpc
from daskgateway.internal.v1 import agent_pb2, agent_pb2_grpc

from benchmarks import processes
from benchmarks.figures import batched
from benchmarks.ours import OurGateway
from gateway.agent.agent import DEFAULT_BEAT_S
from gateway.proxy.routes.routes import END
from gateway.server.security.secrets import Keyring
from gateway.wire import AUTHORIZATION

AT_A_TIME = 50  # streams opened together
# of RFC 5737; nothing connects to it, and a loopback address is only believed of the local
# backend's agents
NOWHERE = "192.0.2.1"
READY_S = 60.0


def agent_tokens(state_dir: pathlib.Path) -> Mapping[str, str]:
    """Return the agents' tokens by uid, read where the server keeps them."""
    keyring = Keyring.load(state_dir / "encryption.key")
    with sqlite3.connect(f"file:{state_dir / 'gateway.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT uid, sealed FROM secret").fetchall()
    database.close()
    return {uid: keyring.unseal(sealed).agent_token for uid, sealed in rows}


class Agent:
    """The agent of one cluster."""

    def __init__(self, channel: grpc.aio.Channel, uid: str, token: str) -> None:
        metadata = ((AUTHORIZATION, f"Bearer {token}"), ("dgw-uid", uid))
        self._call: Any = agent_pb2_grpc.AgentServiceStub(channel).Connect(metadata=metadata)
        self._sequence, self._beat_s = 0, DEFAULT_BEAT_S

    async def __aenter__(self) -> Agent:
        """Say hello and take the first directive."""
        versions = {
            "python": "3.11.7",
            "dask": "2026.8.0",
            "distributed": "2026.8.0",
            "msgpack": "1.1.0",
            "cloudpickle": "3.1.1",
        }
        await self.report(
            snapshot=True,
            scheduler_address=f"tls://{NOWHERE}:1",
            dashboard_address=f"{NOWHERE}:1",
            versions=versions,
            idle_ms=-1,
        )
        first = await self._call.read()
        if first is END:
            raise RuntimeError(
                f"the server did not take an agent's report: {await self._call.details()}"
            )
        self._beat_s = first.beat_interval_ms / 1000 or DEFAULT_BEAT_S
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call.cancel()

    async def report(self, **fields: Any) -> None:
        """Send a report."""
        self._sequence += 1
        await self._call.write(
            agent_pb2.AgentReport(sequence=self._sequence, no_client_ms=-1, **fields)
        )

    async def beat(self) -> None:
        """Give signs of life for ever, as often as the server wants them: who gives none is told to
        be silent after a while."""
        # a thousand agents do not beat at one moment
        await asyncio.sleep(random.uniform(0.0, self._beat_s))
        while True:
            await self.report(beat=True)
            await asyncio.sleep(self._beat_s)

    async def directive(self) -> agent_pb2.AgentDirective:
        """Return the next wish."""
        found: agent_pb2.AgentDirective = await self._call.read()
        return found


async def _hold(listener: str, state_dir: pathlib.Path, uids: Sequence[str]) -> None:
    """Keep every cluster's agent connected until standard input ends."""
    tokens = agent_tokens(state_dir)
    beats: list[asyncio.Task[None]] = []
    async with AsyncExitStack() as stack:
        # a connection takes so many streams, and each agent has its own in life
        for chunk in batched(uids, AT_A_TIME):
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(listener, [("grpc.use_local_subchannel_pool", 1)])
            )
            agents = await asyncio.gather(
                *(stack.enter_async_context(Agent(channel, uid, tokens[uid])) for uid in chunk)
            )
            beats += [asyncio.create_task(agent.beat()) for agent in agents]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for beat in beats:
            beat.cancel()


@contextmanager
def held(gateway: OurGateway, uids: Sequence[str]) -> Iterator[None]:
    """Keep every cluster's agent connected meanwhile, by a process of its own."""
    words = [
        sys.executable,
        "-m",
        "benchmarks.our_agents",
        gateway.listener,
        str(gateway.state_dir),
    ]
    process = processes.start(words, gateway.directory / "agents.log", cwd=processes.ROOT)
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(list(uids)) + "\n")
        process.stdin.flush()
        processes.read_line(process, READY_S)
        yield
    finally:
        processes.end(process)


if __name__ == "__main__":
    asyncio.run(_hold(sys.argv[1], pathlib.Path(sys.argv[2]), json.loads(sys.stdin.readline())))
