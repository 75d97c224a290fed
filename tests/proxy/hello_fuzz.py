"""`make fuzz`: a million damaged hellos, judged by the edge and by OpenSSL. Ends with code 1 at the
first that they disagree on."""

from __future__ import annotations

import random
import sys
import time

from tests.proxy.hello_oracle import disagreement, made_hello, mutated, name_extension
from tests.proxy.test_client_hello import real_hello

SEEDS = [
    real_hello("cabc.daskgateway"),
    real_hello("Some.Host.example", ("h2", "http/1.1")),
    real_hello("c" + "a" * 20 + ".daskgateway"),
    made_hello([(0x0A0A, b""), name_extension(b"greased.example"), (0x1A1A, b"\0")]),
    made_hello([name_extension(b"one.example"), name_extension(b"two.example")]),
    made_hello([(51, bytes(1250)), name_extension(b"quantum.example")]),
]


def main() -> int:
    """Run so many executions."""
    executions = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 2**32
    print(f"{executions} executions, seed {seed}", flush=True)
    chance = random.Random(seed)
    began = time.monotonic()
    for number in range(executions):
        data = mutated(chance, chance.choice(SEEDS))
        found = disagreement(data)
        if found:
            print(f"after {number}: {found}\n{data.hex()}")
            return 1
    print(f"no disagreement in {executions} executions, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
