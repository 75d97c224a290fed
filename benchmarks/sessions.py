"""What a call with a session costs beside one with an API token: CPU of server and edge together.

`python -m benchmarks.sessions [rounds]`. One user, one connection through the edge, one call after
the other; rounds are interleaved. `tests/rpc/test_session_costs.py` counts what Python does for
each, which is the same on every machine.
"""

from __future__ import annotations

import json
import sys

import grpc
from daskgateway.v1 import credential_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2_grpc

from benchmarks import machine, processes
from benchmarks.figures import Samples, last_line, orders, table
from benchmarks.ours import AUTHORIZATION, OurGateway

ROUNDS, CALLS = 7, 4000
COST = "CPU of a call, µs"
TOKEN, SESSION = "token", "session"
WANTED = 1.15  # a session's / an API token's


def main() -> None:
    """Measure and print; fails if a session's call costs more than it may."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print(f"bench-sessions: {machine.described()}")
    samples = Samples()
    with processes.scratch() as directory, machine.watched() as busy:
        gateway = OurGateway(directory / "ours", noop=True)
        try:
            gateway.start()
            _measure(samples, gateway, rounds)
        finally:
            gateway.stop()
    print(table(samples))
    print(f"the machine was busy with {busy.cores:.2f} cores, this benchmark's own work included")
    ratio = samples.ratio(COST, SESSION, TOKEN)
    costs = {f"{who}_us": samples.median(COST, who) for who in (TOKEN, SESSION)}
    print(last_line("sessions", {"ratio": ratio, **costs}))
    if ratio > WANTED:
        raise SystemExit(
            f"a session's call costs {ratio:.3f} of an API token's, more than {WANTED}"
        )


def _measure(samples: Samples, gateway: OurGateway, rounds: int) -> None:
    assert gateway.process is not None
    edge = json.loads((gateway.state_dir / "edge.json").read_text())["pid"]
    pids = [gateway.process.pid, int(edge)]
    with grpc.insecure_channel(f"127.0.0.1:{gateway.edge_port}") as channel:
        stub = credential_service_pb2_grpc.CredentialServiceStub(channel)
        signed_in = (("authorization", AUTHORIZATION),)
        secrets = {
            TOKEN: stub.CreateToken(pb.CreateTokenRequest(), metadata=signed_in).secret,
            SESSION: stub.CreateSession(pb.CreateSessionRequest(), metadata=signed_in).secret,
        }
        for order in orders(rounds, [TOKEN, SESSION]):
            for who in order:
                shown = (("authorization", f"Bearer {secrets[who]}"),)
                stub.WhoAmI(pb.WhoAmIRequest(), metadata=shown)
                before = machine.cpu_s(pids)
                for _ in range(CALLS):
                    stub.WhoAmI(pb.WhoAmIRequest(), metadata=shown)
                samples.add(COST, who, (machine.cpu_s(pids) - before) / CALLS * 1e6)


if __name__ == "__main__":
    main()
