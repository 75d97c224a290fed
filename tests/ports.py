"""Ports that nobody else takes between when a test chooses them and when its program listens.

A port that the kernel just gave (port 0) and that was let go may be given to anybody at once: every
connection that goes out takes one of the same range. So these are outside that range, and each is
reserved among all processes of tests on this machine, by an abstract socket that bears its number,
for as long as this process lives.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket

RANGE = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 20_000


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free, and is given to no other test."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return as many, next to each other."""
    low, high = map(int, RANGE.read_text().split())
    outside = [port for port in range(LOWEST, 65536) if not low <= port <= high]
    places = outside or range(LOWEST, 65536)  # where all of them are given to connections
    start = os.getpid() * 37 % len(places)  # where one process begins to look the next does not
    for offset in range(0, len(places), count):
        first = places[(start + offset) % len(places)]
        if first + count <= 65536 and _reserved(range(first, first + count)):
            return list(range(first, first + count))
    raise AssertionError(f"no {count} free ports next to each other from {LOWEST} on")


def _reserved(ports: range) -> bool:
    """Reserve ports, all or none."""
    with contextlib.ExitStack() as stack:
        held = []
        for port in ports:
            held.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held[-1].bind(f"\0daskgateway-tests-port-{port}")
                listener.bind(("127.0.0.1", port))
            except OSError:
                return False
        for holder in held:
            holder.detach()  # its descriptor stays open until this process ends
    return True
