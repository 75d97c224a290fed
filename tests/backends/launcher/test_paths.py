"""Which paths the launcher takes, with what others put in its way."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable, Sequence

import pytest

from tests.backends.launcher.asking import (
    ALICE,
    BOB,
    SECRET,
    ask,
    link,
    owned,
    payload,
    private,
    refused,
    told,
)

# Which paths


CALLS: dict[str, Sequence[str]] = {
    "write": [],
    "entries": [],
    "size": [],
    "read": ["0"],
    "remove": [],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "path",
    [
        "relative/daskgateway/x",
        "/home/x",
        "/x/daskgateway/../y/z",
        "/x/daskgatewayx/y",
        "",
        "/x/DASKGATEWAY/y",
    ],
)
def test_a_path_that_is_not_below_a_directory_of_ours_is_refused(
    place: pathlib.Path, call: str, path: str
) -> None:
    refused(
        ask(place, call, path, *CALLS[call], stdin=b"{}"), "must be absolute, without .., and below"
    )


@pytest.mark.parametrize("call", ["size", "read", "remove"])
def test_the_named_directory_itself_is_neither_read_nor_removed(
    place: pathlib.Path, call: str
) -> None:
    home = place / "home" / ALICE
    owned(home / "daskgateway", ALICE)
    refused(ask(place, call, home / "daskgateway", *CALLS[call]), "below a directory named")
    assert (home / "daskgateway").exists()


def by_bob(place: pathlib.Path) -> pathlib.Path:
    """A link of bob's to where alice's secrets are, named as ours."""
    return link(place / "shared" / "daskgateway", private(place), BOB)


def by_alice(place: pathlib.Path) -> pathlib.Path:
    """The same by alice."""
    return link(place / "home" / ALICE / "daskgateway", private(place), ALICE)


def by_root(place: pathlib.Path) -> pathlib.Path:
    """The same by root."""
    return link(place / "home" / ALICE / ".daskgateway", private(place), "root")


def further_down(place: pathlib.Path) -> pathlib.Path:
    """A link below a directory of ours."""
    owned(place / "home" / ALICE / "daskgateway", ALICE)
    return link(place / "home" / ALICE / "daskgateway" / "logs", private(place), ALICE)


def on_the_way(place: pathlib.Path) -> pathlib.Path:
    """A link of bob's above: to a directory of alice's that is named as ours, but was never
    meant."""
    source = owned(place / "home" / ALICE / "src", ALICE)
    owned(source / "daskgateway", ALICE)
    (source / "daskgateway" / "key").write_bytes(SECRET)
    shutil.chown(source / "daskgateway" / "key", ALICE)
    return link(place / "shared" / "way", source, BOB) / "daskgateway"


def in_a_ring(place: pathlib.Path) -> pathlib.Path:
    """Links that lead to each other."""
    return (
        link(place / "home" / ALICE / "ring", place / "home" / ALICE / "ring", ALICE)
        / "daskgateway"
    )


LINKS = [by_bob, by_alice, by_root, further_down, on_the_way, in_a_ring]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("make", LINKS, ids=lambda make: make.__name__)
def test_no_link_leads_to_what_is_not_ours(
    place: pathlib.Path, call: str, make: Callable[[pathlib.Path], pathlib.Path]
) -> None:
    directory = make(place)
    path = directory if call in ("write", "entries") else directory / "key"
    refused(
        ask(place, call, path, *CALLS[call], stdin=payload(key=b"planted")),
        "is a link where a directory",
    )
    kept = [path for path in (place / "home" / ALICE).rglob("key") if not path.is_symlink()]
    assert [path.read_bytes() for path in kept] == [SECRET] * len(kept)
    assert kept or make is in_a_ring


def test_links_of_roots_and_the_users_own_may_stand_above(place: pathlib.Path) -> None:
    real = owned(place / "home" / "real", ALICE)
    link(place / "home" / "root's", real, "root")
    os.symlink("../home/root's", place / "home" / "relative")
    directory = place / "home" / "relative" / "daskgateway"
    assert ask(place, "write", directory, stdin=payload(key=SECRET)).returncode == 0
    assert (real / "daskgateway" / "key").read_bytes() == SECRET
    assert told(ask(place, "entries", directory)) == ["key"]


@pytest.mark.parametrize("call", CALLS)
def test_a_directory_of_another_user_on_the_way_is_refused(place: pathlib.Path, call: str) -> None:
    """He could put another in the place of what is written there, while it is used."""
    owned(place / "shared" / "bobs", BOB, 0o777)
    owned(place / "shared" / "bobs" / "daskgateway", ALICE)
    path = f"{place}/shared/bobs/daskgateway/x/y"
    refused(
        ask(place, call, path, *CALLS[call], stdin=b"{}"),
        "'bobs' belongs to neither root nor this user",
    )
    assert list((place / "shared" / "bobs" / "daskgateway").iterdir()) == []


@pytest.mark.parametrize(("mode", "group"), [(0o777, ALICE), (0o775, "users"), (0o770, BOB)])
@pytest.mark.parametrize("call", CALLS)
def test_a_directory_that_others_write_in_is_refused(
    place: pathlib.Path, call: str, mode: int, group: str
) -> None:
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    shutil.chown(directory, group=group)
    directory.chmod(mode)
    refused(
        ask(place, call, f"{directory}/x/y", *CALLS[call], stdin=b"{}"),
        "others can write in 'daskgateway'",
    )


def test_a_private_group_may_write_and_a_shared_directory_may_be_sticky(
    place: pathlib.Path,
) -> None:
    directory = owned(place / "home" / ALICE / "daskgateway", ALICE)
    shutil.chown(directory, group=ALICE)
    directory.chmod(0o775)
    assert ask(place, "write", directory, stdin=payload(key=SECRET)).returncode == 0
    assert directory.stat().st_mode & 0o777 == 0o700  # where secrets lie
    (place / "shared" / "daskgateway").mkdir()
    (place / "shared" / "daskgateway").chmod(0o1777)
    assert (
        ask(
            place, "write", place / "shared" / "daskgateway" / ALICE, stdin=payload(key=SECRET)
        ).returncode
        == 0
    )


def test_secrets_are_never_put_into_a_directory_of_anybody_elses(place: pathlib.Path) -> None:
    (place / "shared" / "daskgateway").mkdir()
    (place / "shared" / "daskgateway").chmod(0o1777)  # root's
    refused(
        ask(place, "write", place / "shared" / "daskgateway", stdin=payload(key=SECRET)),
        "must be this user's own",
    )
    assert list((place / "shared" / "daskgateway").iterdir()) == []


def test_what_is_not_there_is_nothing_and_no_error(place: pathlib.Path) -> None:
    missing_one = place / "home" / ALICE / "daskgateway" / "none" / "file"
    assert told(ask(place, "entries", missing_one)) == []
    assert told(ask(place, "size", missing_one)) == 0
    assert ask(place, "read", missing_one, 0).stdout == b"\n"
    assert ask(place, "remove", missing_one).returncode == 0
    owned(place / "home" / ALICE / "daskgateway", ALICE)
    (place / "home" / ALICE / "daskgateway" / "none").touch()  # where a directory should be
    assert told(ask(place, "size", missing_one)) == 0
    done = ask(place, "remove", missing_one)
    assert (done.returncode, b"Not a directory" in done.stderr) == (1, True)
