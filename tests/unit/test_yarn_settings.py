"""What an administrator may write for YARN: each wrong value has one line that says what would be
right, and what is right reaches containers as it was meant."""

from __future__ import annotations

import pathlib

import pytest

from gateway.backends.contract import Instance, Launch, Role
from gateway.backends.yarn import script
from gateway.backends.yarn.backend import YarnBackend
from gateway.backends.yarn.settings import local_path

RIGHT = {"resourcemanager_urls": ["http://rm1.example.org:8088", "https://rm2.example.org/yarn"]}


def problems(root: pathlib.Path, **settings: object) -> list[str]:
    """Return what is wrong with settings."""
    return YarnBackend(**{"root": str(root), **RIGHT, **settings}).problems()


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("resourcemanager_urls", ["http://rm:80a"], "must look like http://rm.example.org:8088"),
        ("resourcemanager_urls", ["http://[::1"], "must look like http://rm.example.org:8088"),
        ("resourcemanager_urls", ["rm:8088"], "did you mean http://rm:8088?"),
        ("ca_file", "/nowhere/ca.pem", "there is no such file"),
        ("queue", "root..dask", "must be the name of a queue"),
        ("queue", ".", "must be the name of a queue"),
        ("queue", "dask.", "must be the name of a queue"),
        ("queue", "a b", "must be the name of a queue"),
        ("principal", "dask@EXAMPLE.ORG", "keytab: principal and keytab are given together"),
        ("keytab", "/nowhere/dask.keytab", "principal: principal and keytab are given together"),
        ("files", {"model": "hdfs//data/model.bin"}, "hdfs/data/model.bin: there is no such file"),
        ("files", {"model": "HDFS://data/model.bin"}, "must be a path or an address such as"),
        ("files", {"model": "hdfs:///two words"}, "must be a path or an address such as"),
        ("files", {"model": "file:///nowhere"}, "files: 'model': /nowhere: there is no such file"),
        ("files", {"model": 7}, "files: 'model': must be a path or an address"),
        ("files", {"environment": "hdfs:///a"}, "is what `archive` is unpacked as"),
        ("archives", {"x": "hdfs:///envs/x.tar.bz2"}, "must end in one of .zip, .tar.gz, .tgz"),
        ("archives", {"x": "hdfs:///envs/x"}, "must end in one of .zip, .tar.gz, .tgz"),
        ("archives", {"x": "~/x.zip"}, "~ is not replaced"),
        ("archive", "nosuch", "there is no archive 'nosuch'; there are: none"),
        ("application_tags", ["two words"], "must be ASCII without spaces"),
        ("application_tags", list("abcdefg"), "at most 6"),
        ("view_users", ["alice bob"], "view_users: must be names of users, one each"),
        ("modify_users", ["alice,bob"], "modify_users: must be names of users, one each"),
        ("modify_users", [""], "modify_users: must be names of users, one each"),
        ("file_systems", ["other.example.org"], "must look like hdfs://other.example.org"),
        ("environment", {"A-B": "1"}, "'A-B' is no name of a variable"),
        ("environment", {5: "1"}, "5 is no name of a variable"),
        ("environment", {"DASKGATEWAY_SEALED_1": "x"}, "these are the gateway's own"),
        ("environment", {"A": None}, "environment: A: must be a text or a number, not None"),
        ("host_environment", {"A": ["x"]}, "host_environment: A: must be a text or a number"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_its_setting(
    tmp_path: pathlib.Path, setting: str, value: object, told: str
) -> None:
    (line,) = problems(tmp_path, **{setting: value})
    assert line.startswith("c.YarnBackend.")
    assert told in line


def test_what_is_right_is_not_complained_of(tmp_path: pathlib.Path) -> None:
    archive = tmp_path / "x.tar.gz"
    archive.write_text("")
    assert not problems(
        tmp_path,
        queue="root.team.small-1",
        files={"model.bin": "hdfs:///data/model.bin", "b": "s3a://bucket/b", "c": str(archive)},
        archives={"x": str(archive), "y": f"file://{archive}", "z": "hdfs://nn:8020/z.zip"},
        archive="y",
        application_tags=["cost:42"] * 6,
        view_users=["*"],
        modify_users=["alice", "dr.who"],
        environment={"OMP_NUM_THREADS": 1},
    )


def test_a_path_is_the_same_file_in_whatever_directory_the_driver_runs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_path("x.zip") == f"{tmp_path}/x.zip"
    assert local_path("file:///envs/x.zip") == "/envs/x.zip"
    assert local_path("hdfs:///envs/x.zip") is None
    launch = Launch(Instance("c" + "a" * 20, Role.WORKER, "w"), "alice", ("python",))
    for source, seen in (("x.zip", f"{tmp_path}/x.zip"), ("file:///x.zip", "/x.zip")):
        backend = YarnBackend(root=str(tmp_path), archives={"x": source}, archive="x", **RIGHT)
        assert backend._shape(launch).archive == seen
    backend = YarnBackend(root=str(tmp_path), archives={"x": "hdfs:///x.zip"}, archive="x", **RIGHT)
    assert backend._shape(launch).archive == "hdfs:///x.zip"


def test_variables_of_containers_are_beside_their_path_and_may_replace_it() -> None:
    assert YarnBackend(environment={"A": 1}).container_environment() == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "A": "1",
    }
    assert YarnBackend(environment={"PATH": "/x"}).container_environment()["PATH"] == "/x"


def test_lines_of_setup_are_run_as_they_are() -> None:
    line = "date +%RUN%%LOG%%SETUP%"
    assert line in script.container_script([line]).splitlines()
