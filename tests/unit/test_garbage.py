"""The collector looks through what is new, and through everything only once much has been put
aside. Each test is a process of its own: the collector is everybody's."""

from __future__ import annotations

import subprocess
import sys

BEGIN = """
import gc, weakref
from gateway.server.boot import garbage
class Node: pass
def cycle():
    node = Node(); node.itself = node
    return node
looked = []
garbage.settle()
put_aside = gc.get_freeze_count()
"""


def run(text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + text], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_what_lives_on_is_put_aside_and_not_looked_through_again() -> None:
    run("""
kept = [Node() for _ in range(1000)]
gc.collect()
assert gc.get_freeze_count() >= put_aside + 1000
assert not [one for one in gc.get_objects() if isinstance(one, Node)]
""")


def test_new_garbage_is_found() -> None:
    run("""
gone = weakref.ref(cycle())
gc.collect()
assert gone() is None
""")


def test_garbage_among_what_was_put_aside_is_found_once_that_has_doubled() -> None:
    run("""
garbage.SLACK = 0
node = cycle()
gone = weakref.ref(node)
gc.collect()
del node
gc.collect()
assert gone() is not None  # put aside
grown = [Node() for _ in range(put_aside)]
for _ in range(3):
    if gone() is None:
        break
    grown += [Node() for _ in range(put_aside)]
    gc.collect()
gc.collect()
assert gone() is None
assert gc.get_freeze_count() > put_aside  # and the rest is put aside again
""")


def test_nothing_is_left_of_it() -> None:
    run("""
garbage.unsettle()
assert gc.get_freeze_count() == 0
kept = [Node() for _ in range(1000)]
gc.collect()
assert gc.get_freeze_count() == 0
""")


def test_what_is_put_aside_is_counted_seldom() -> None:
    """To count it is to walk through all of it, each time that the collector has run."""
    run("""
counted = []
count = gc.get_freeze_count
gc.get_freeze_count = lambda: counted.append(1) or count()
kept = []
for _ in range(50):
    kept.append(Node())
    gc.collect()
assert not counted
garbage.SLACK = -put_aside  # so that the next thousand seem to be too many
kept += [Node() for _ in range(1000)]
gc.collect()
assert counted
""")
