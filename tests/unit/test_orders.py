"""What passes between the server and an edge that it starts."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys

import pytest

from gateway import orders
from gateway.orders import Orders

RECEIVE = """
import os, sys
from gateway import orders
told = orders.receive(int(sys.argv[1]))
print(told, sorted(os.listdir(orders.place(0))), sorted(os.listdir(orders.place(1))), os.get_inheritable(orders.FIRST_FD))
"""  # noqa: E501


def test_directories_are_found_whatever_becomes_of_their_paths(tmp_path: pathlib.Path) -> None:
    deep = tmp_path / ("d" * 200) / ("e" * 200)
    deep.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b").touch()
    given = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in (deep, tmp_path / "other")]
    ours, theirs = socket.socketpair()
    words = ("--Proxy.prefix='ä'", "x" * 200_000)
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-c", RECEIVE, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
    deep.rename(tmp_path / "moved")
    (tmp_path / "moved" / "a").touch()
    with ours:
        orders.send(ours, Orders(words, (7, 8, True)), given)
        out, _ = child.communicate(timeout=30)
    assert out == f"{Orders(words, (7, 8, True))} ['a'] ['b'] False\n"
    for descriptor in given:
        os.close(descriptor)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"words": ["a"], "run',
        b"[]",
        b"7",
        b"{}",
        b'{"words": 7, "run_as": null}',
        b'{"words": [], "run_as": [1]}',
    ],
)
def test_what_is_cut_short_is_no_order(content: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(content)
        ours.shutdown(socket.SHUT_WR)
        assert orders.receive(theirs.detach()) is None


def test_orders_without_an_account() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        orders.send(ours, Orders(("a",)), [])
        assert orders.receive(theirs.detach()) == Orders(("a",))
