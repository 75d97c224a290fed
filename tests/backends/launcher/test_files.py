"""Which files the launcher reads, writes and removes."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable

import pytest

from gateway.backends import as_user
from tests.backends.launcher.asking import (
    ALICE,
    BOB,
    PYTHON,
    SECRET,
    account,
    ask,
    bobs,
    link,
    owned,
    payload,
    private,
    refused,
    told,
)

# Which files


def pipe(path: pathlib.Path) -> None:
    """Nobody writes to it."""
    os.mkfifo(path)


def device(path: pathlib.Path) -> None:
    """It never ends."""
    os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))


def second_name(path: pathlib.Path) -> None:
    """Another name of a file of alice's, which others can give where the system lets them."""
    os.link(private(path.parents[3]) / "key", path)


def symlink(path: pathlib.Path) -> None:
    """A link to a file of alice's."""
    path.symlink_to(private(path.parents[3]) / "key")


@pytest.mark.parametrize(
    "make",
    [pipe, device, bobs, second_name, symlink, pathlib.Path.mkdir],
    ids=lambda make: make.__name__,
)
def test_what_is_no_plain_file_of_the_users_is_read_as_nothing(
    place: pathlib.Path, make: Callable[[pathlib.Path], None]
) -> None:
    path = owned(place / "home" / ALICE / "daskgateway", ALICE) / "log"
    make(path)
    assert told(ask(place, "size", path)) == 0
    assert ask(place, "read", path, 0).stdout == b"\n"


@pytest.mark.parametrize("offset", ["-1", "²", "٣", "9" * 5000, "", "0x1", "1_0", " 1"])
def test_an_offset_is_digits_alone(place: pathlib.Path, offset: str) -> None:
    done = ask(place, "read", "/a/daskgateway/x", offset)
    assert (done.returncode, b"read FILE OFFSET" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["run"],
        ["run", "sbatch"],
        ["run", "--"],
        ["shell"],
        ["size"],
        ["write", "/a/daskgateway", "x"],
    ],
)
def test_what_is_no_request_is_refused_with_what_there_is(
    place: pathlib.Path, words: list[str]
) -> None:
    done = ask(place, *words)
    assert done.returncode == 2
    assert b"command words" in done.stderr or b"daskgateway-as-user remove PATH" in done.stderr


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"x": ' + b"[" * 100_000,
        b'{"x": null}',
        b'{"x": 7}',
        b'{"x": "no base64!"}',
        b'{"x": "YQ"}',
        b'{"x": "\xc3\xbc"}',
        b'{"../x": ""}',
        b'{"a/b": ""}',
        b'{".hidden": ""}',
        b'{"": ""}',
        b'{"x\\n": ""}',
        b'{"x\\u0000": ""}',
        b'{"' + b"x" * 300 + b'": ""}',
        json.dumps(dict.fromkeys(map(str, range(as_user.MAX_FILES + 1)), "")).encode(),
        b'{"x": "' + b"A" * as_user.MAX_INPUT_BYTES + b'"}',
    ],
    ids=range(20),
)
def test_files_to_write_have_plain_names_and_are_few_and_small(
    place: pathlib.Path, raw: bytes
) -> None:
    directory = place / "home" / ALICE / "daskgateway"
    refused(ask(place, "write", directory, stdin=raw), "standard input must be JSON")
    assert not directory.exists()


def test_what_stands_in_a_files_place_is_replaced_and_not_followed(place: pathlib.Path) -> None:
    secret = private(place) / "key"
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    for name, target in (("link", secret), ("other", "/dev/zero")):
        link(directory / name, pathlib.Path(target), ALICE)
    os.mkfifo(directory / "pipe")
    assert (
        ask(place, "write", directory, stdin=payload(link=b"1", other=b"2", pipe=b"3")).returncode
        == 0
    )
    assert [(directory / name).read_bytes() for name in ("link", "other", "pipe")] == [
        b"1",
        b"2",
        b"3",
    ]
    assert secret.read_bytes() == SECRET


def test_a_directory_with_files_without_end_is_not_listed(place: pathlib.Path) -> None:
    (place / "as_user.py").write_text(
        (place / "as_user.py").read_text().replace("MAX_NAMES = 100_000", "MAX_NAMES = 10")
    )
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    for number in range(10):
        (directory / str(number)).touch()
    assert len(told(ask(place, "entries", directory))) == 10  # type: ignore[arg-type]
    (directory / "more").touch()
    refused(ask(place, "entries", directory), "has more than 10 files")


# Removing


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_tree_of_100000_levels_with_few_descriptors_is_removed(place: pathlib.Path) -> None:
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    code = (
        "import os\nos.chdir(os.sys.argv[1])\nfor _ in range(100_000):\n    os.mkdir('d');"
        " os.chdir('d')"
    )
    subprocess.run(
        [*account(ALICE), PYTHON, "-I", "-c", code, str(directory)], check=True, timeout=120
    )
    argv = [
        "/bin/sh",
        "-c",
        'ulimit -n 24; exec "$@"',
        "sh",
        PYTHON,
        "-I",
        f"{place}/as_user.py",
        "remove",
        f"{directory}/d",
    ]
    # as often as the gateway asks: each goes on where the last one's time was over
    for _ in range(10):
        done = subprocess.run([*account(ALICE), *argv], capture_output=True, timeout=60)
        if done.returncode == 0:
            break
        assert b"going on with it later" in done.stderr
    assert (done.returncode, done.stderr, list(directory.iterdir())) == (0, b"", [])


def test_what_its_user_has_closed_is_removed(place: pathlib.Path) -> None:
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE) / "x"
    code = "umask 0; mkdir -p $1/a/b; touch $1/a/b/c; chmod 0 $1/a/b $1/a $1"
    subprocess.run([*account(ALICE), "/bin/sh", "-c", code, "sh", str(directory)], check=True)
    assert ask(place, "remove", directory).returncode == 0
    assert not directory.exists()


def test_links_within_are_removed_and_what_they_lead_to_is_not(place: pathlib.Path) -> None:
    kept = private(place)
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    inner = owned(directory / "x", ALICE)
    link(inner / "to-a-directory", kept, ALICE)
    link(directory / "link", kept, ALICE)
    assert [
        ask(place, "remove", directory / name).returncode for name in ("x", "link", "link/")
    ] == [0, 0, 0]
    assert (list(directory.iterdir()), (kept / "key").read_bytes()) == ([], SECRET)


def test_what_cannot_be_removed_is_told_in_one_line_that_stays_the_same(
    place: pathlib.Path,
) -> None:
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE) / "x"
    owned(directory, ALICE)
    owned(directory / "\x1b[2Jbobs", BOB, 0o700)
    (directory / "\x1b[2Jbobs" / "file").touch()
    answers = {
        (done.returncode, done.stderr)
        for done in (ask(place, "remove", directory) for _ in range(2))
    }
    assert answers == {(1, b"daskgateway-as-user: [Errno 13] Permission denied: 'x'\n")}


def test_removing_is_given_up_in_time(place: pathlib.Path) -> None:
    (place / "as_user.py").write_text(
        (place / "as_user.py").read_text().replace("REMOVE_S = 25.0", "REMOVE_S = 0.0")
    )
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    owned(directory / "x", ALICE)
    done = ask(place, "remove", directory / "x")
    assert (done.returncode, b"not removed within 0 s; going on with it later" in done.stderr) == (
        1,
        True,
    )
