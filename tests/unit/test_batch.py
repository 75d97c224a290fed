"""The pure parts of the layer for batch systems: names, arrays, scripts, sights, log files."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.backends.batch import arrays, sight
from gateway.backends.batch.logfiles import INDEX, file_name, log_of, prefix
from gateway.backends.batch.names import JobName, job_name, parse_job_name, split_worker
from gateway.backends.batch.script import Dialect, job_script
from gateway.backends.batch.sight import explained, merged, sights, waiting_words
from gateway.backends.batch.system import Cancel, Job
from gateway.backends.contract import (
    DIRECTORY,
    NAME,
    Instance,
    Launch,
    Phase,
    Role,
)
from tests.unit.batch_jobs import OTHER, UID, job

numbers = st.lists(st.integers(0, 5000), min_size=1, max_size=60, unique=True)


def launch(name: str, uid: str = UID, **fields: object) -> Launch:
    """Return a launch that differs from others by its name alone."""
    role = Role.SCHEDULER if name == "scheduler" else Role.WORKER
    return Launch(Instance(uid, role, name), "alice", ("run", NAME), **fields)  # type: ignore[arg-type]


@given(
    st.sampled_from(["default", "gpu-2", "scheduler"]), st.integers(0, 10**8), st.integers(0, 1000)
)
def test_a_jobs_name_tells_its_instance(group: str, base: int, index: int) -> None:
    name = JobName("dgw1", UID, group, base)
    assert parse_job_name(str(name)) == name
    assert name.instance(index) == Instance(UID, Role.WORKER, f"{group}-{base + index}")
    assert job_name("dgw1", name.instance(index)) == JobName("dgw1", UID, group, base + index)


@pytest.mark.parametrize("earlier", ["", "0"])
def test_a_schedulers_name_tells_that_it_is_one_also_as_an_earlier_build_wrote_it(
    earlier: str,
) -> None:
    instance = Instance(UID, Role.SCHEDULER, "scheduler")
    name = job_name("dgw1", instance)
    assert str(name) == f"dgw1-{UID}-s"
    assert parse_job_name(f"{name}{earlier}").instance() == instance  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name",
    [
        "default-٣",
        "default-007",
        "default-00",
        "default-1234567890",
        "default-1\n",
        "x" * 33 + "-0",
        "-1",
        "Default-1",
    ],
)
def test_an_instance_has_one_name_only(name: str) -> None:
    """Anybody may call his job so, and the file where its log should be."""
    assert parse_job_name(f"dgw1-{UID}-w-{name}") is None
    with pytest.raises(ValueError, match="a worker's name"):
        split_worker(name)
    assert (
        log_of(Instance(UID, Role.WORKER, "default-3"), ["default@٣+0.log", "default@0+٣.log"])
        == ""
    )


@pytest.mark.parametrize(
    "text",
    ["", "bash", f"dgw1-{UID}", f"dgw1-{UID}-s1", f"dgw1-{UID}-w-default", f"x dgw1-{UID}-s"],
)
def test_other_jobs_names_tell_nothing(text: str) -> None:
    assert parse_job_name(text) is None


@given(numbers, st.integers(1, 50), st.booleans())
def test_every_launch_is_in_one_array_and_keeps_its_name(
    chosen: list[int], max_size: int, contiguous: bool
) -> None:
    made = arrays.batches(
        "dgw1", [launch(f"default-{n}") for n in chosen], max_size=max_size, contiguous=contiguous
    )
    seen = []
    for batch in made:
        indices = [i for run in batch.indices for i in run] or [0]
        assert len(indices) == len(batch.launches) <= max_size
        assert max(indices) < max_size
        assert not contiguous or len(batch.indices) <= 1
        seen += [batch.name.instance(index).name for index in indices]
        assert [batch.name.instance(batch.index_of(one)) for one in batch.launches] == [
            one.instance for one in batch.launches
        ]
    assert sorted(seen) == sorted(f"default-{n}" for n in chosen)


def test_a_thousand_workers_are_one_array_and_what_differs_is_not() -> None:
    thousand = [launch(f"default-{n}") for n in range(5000, 6000)]
    (one,) = arrays.batches("dgw1", thousand, max_size=1000)
    assert (str(one.name), arrays.format_ranges(one.indices)) == (
        f"dgw1-{UID}-w-default-5000",
        "0-999",
    )
    others = [
        launch("default-0"),
        launch("gpu-0"),
        launch("default-1", OTHER),
        launch("default-1", env={"A": "1"}),
        launch("scheduler"),
    ]
    assert len(arrays.batches("dgw1", others, max_size=1000)) == 5


@given(st.sets(st.integers(0, 300)))
def test_ranges_are_read_as_they_are_written(chosen: set[int]) -> None:
    text = arrays.format_ranges(arrays.ranges(chosen))
    assert {i for run in arrays.parse_ranges(text) for i in run} == chosen
    assert {i for run in arrays.parse_ranges(text + "%5") for i in run} == chosen


@pytest.mark.parametrize(
    "text",
    ["٣", "0-٣", "1_0", " 1", "+1", "-1", "0-3:0", "0-3:-1", "1.5", "9" * 5000, "0-" + "9" * 10],
)
def test_what_is_no_range_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is no range"):
        arrays.parse_ranges(text)


def test_an_array_that_is_larger_than_any_of_ours_counts_for_nothing() -> None:
    """Its user can make it, and its elements would fill the memory."""
    large = Job(
        "7", f"dgw1-{UID}-w-default-0", "dgw", Phase.RUNNING, (range(sight.MAX_ELEMENTS + 1),)
    )
    assert sights("dgw1", [large]).by_instance == {}


def test_steps_of_ranges_are_understood() -> None:
    assert arrays.parse_ranges("0-3,9,20-24:2") == (range(4), range(9, 10), range(20, 25, 2))


def run_script(
    batch: arrays.Batch, dialect: Dialect, tmp_path: pathlib.Path, index: int | None
) -> subprocess.CompletedProcess[str]:
    """Run a job's script as an element."""
    return run_text(job_script(batch, dialect), tmp_path, index)


def run_text(
    text: str, tmp_path: pathlib.Path, index: int | None
) -> subprocess.CompletedProcess[str]:
    """Run the text of a script as an element's."""
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)} | (
        {} if index is None else {"INDEX": str(index)}
    )
    pipe, shell = subprocess.PIPE, ["/bin/sh", "-s"]
    with subprocess.Popen(
        shell, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env, start_new_session=True
    ) as child:
        try:
            out, errors = child.communicate(text, timeout=100)
        finally:  # nothing of it outlives the test, if it fails either
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(shell, child.returncode, out, errors)


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=30))
def test_no_word_is_ever_read_as_shell(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    word = text.replace(NAME, "").replace(DIRECTORY, "")
    argv = ("/usr/bin/printf", "%s|%s|", word, NAME)
    one = Launch(
        Instance(UID, Role.WORKER, "default-3"),
        "alice",
        argv,
        {"TEXT": word},
        {"a file.pem": word.encode()},
    )
    (batch,) = arrays.batches("dgw1", [one], max_size=1)
    done = run_script(batch, Dialect("INDEX"), tmp_path_factory.getbasetemp(), None)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{word}|default-3|", "")


def test_an_element_finds_its_name_its_files_and_its_log_and_leaves_nothing(
    tmp_path: pathlib.Path,
) -> None:
    program = 'cat "$1/key.pem"; echo " $0 $WHERE"; stat -c %a "$1" "$1/key.pem"; pwd'
    words = ("/bin/sh", "-c", program, NAME, DIRECTORY)
    alike = [
        replace(launch(f"default-{n}"), argv=words, env={"WHERE": f"{DIRECTORY}/x"})
        for n in (40, 43)
    ]
    (batch,) = arrays.batches(
        "dgw1", [replace(one, files={"key.pem": b"secret"}) for one in alike], max_size=10
    )
    dialect = Dialect(
        "INDEX",
        setup=["export SET=up", 'echo "setup $SET"'],
        log_path=f"{tmp_path}/{file_name(batch)}",
    )
    assert run_script(batch, dialect, tmp_path, 3).returncode == 0
    said = (tmp_path / "default@40+3.log").read_text().splitlines()
    directory = said[1].removeprefix("secret default-43 ").removesuffix("/x")
    assert said == [
        "setup up",
        f"secret default-43 {directory}/x",
        "700",
        "600",
        f"{directory}/scratch",
    ]
    assert not pathlib.Path(directory).exists()


def test_files_come_from_the_staging_directory_where_there_is_one(tmp_path: pathlib.Path) -> None:
    (batch,) = arrays.batches(
        "dgw1",
        [
            replace(
                launch("scheduler"),
                argv=("cat", f"{DIRECTORY}/key.pem"),
                files={"key.pem": b"in the script"},
            )
        ],
        max_size=1,
    )
    stage = tmp_path / "staged it's"
    stage.mkdir()
    (stage / "key.pem").write_text("staged")
    assert "aW4gdGhlIHNjcmlwdA" not in job_script(batch, Dialect("INDEX", stage=str(stage)))
    assert run_script(batch, Dialect("INDEX", stage=str(stage)), tmp_path, None).stdout == "staged"
    (stage / "key.pem").unlink()
    assert run_script(batch, Dialect("INDEX", stage=str(stage)), tmp_path, None).returncode == 71


def test_a_scripts_exit_code_is_the_programs_and_a_signal_is_passed_on(
    tmp_path: pathlib.Path,
) -> None:
    one = replace(
        launch("scheduler"),
        argv=(
            "/bin/sh",
            "-c",
            'sleep 600 >/dev/null 2>&1 & trap "kill $!; exit 9" TERM; kill -TERM $PPID; wait',
        ),
    )
    (batch,) = arrays.batches("dgw1", [one], max_size=1)
    done = run_script(batch, Dialect("INDEX"), tmp_path, None)
    assert done.returncode == 9
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_comes_before_the_launchs_number_is_known_is_passed_on(
    tmp_path: pathlib.Path,
) -> None:
    words = "trap 'exit 9' TERM; kill -TERM $PPID; : >ready; sleep 600 >/dev/null 2>&1 & wait"
    one = replace(launch("scheduler"), argv=("/bin/sh", "-c", words))
    (batch,) = arrays.batches("dgw1", [one], max_size=1)
    # as if the shell were slow between the two
    late = 'while ! [ -e "$1/scratch/ready" ]; do sleep 0.01; done\ndgw_child=$!'
    text = job_script(batch, Dialect("INDEX")).replace("dgw_child=$!", late)
    done = run_text(text, tmp_path, None)
    assert (done.returncode, list(tmp_path.iterdir())) == (9, [])


def test_of_two_jobs_the_one_that_runs_counts_then_the_older_and_the_other_is_cancelled() -> None:
    name = f"dgw1-{UID}-s"
    found = sights(
        "dgw1",
        [job(name, Phase.QUEUED, "5"), job(name, Phase.RUNNING, "8"), job(name, Phase.GONE, "3")],
    )
    assert found.by_instance[Instance(UID, Role.SCHEDULER, "scheduler")].job.id == "8"
    assert found.doubled == [Cancel("5", "dgw")]
    found = sights("dgw1", [job(name, Phase.QUEUED, "10"), job(name, Phase.QUEUED, "9")])
    assert found.by_instance[Instance(UID, Role.SCHEDULER, "scheduler")].job.id == "9"
    assert found.doubled == [Cancel("10", "dgw")]


def test_jobs_of_other_gateways_and_of_other_users_count_for_nothing() -> None:
    assert sights("dgw1", [job(f"dgw2-{UID}-s"), job("bash")]).by_instance == {}
    assert sights("dgw1", [job(f"dgw1-{UID}-s")], {UID: "alice"}).by_instance == {}


def test_elements_that_wait_are_one_line_until_they_run() -> None:
    name = f"dgw1-{UID}-w-default-100"
    found = sights(
        "dgw1", [job(name, Phase.QUEUED, indices=(2, 3, 4)), job(name, Phase.RUNNING, indices=(0,))]
    )
    phases = {instance.name: seen.observation.phase for instance, seen in found.by_instance.items()}
    assert phases == {"default-100": Phase.RUNNING} | dict.fromkeys(
        ("default-102", "default-103", "default-104"), Phase.QUEUED
    )
    assert found.by_instance[Instance(UID, Role.WORKER, "default-103")].observation.handle == "7/3"


def test_why_a_job_waits_is_told_with_its_place_and_its_time() -> None:
    waiting = job(
        "x",
        Phase.QUEUED,
        message="other jobs come first (Priority)",
        position=4,
        starts_at=1_795_577_848_000,
    )
    assert (
        waiting_words(waiting)
        == "other jobs come first (Priority); position 4 in the queue; expected to start at"
        " 2026-11-25 03:37Z"
    )
    assert waiting_words(job("x", Phase.QUEUED)) == "the batch system has told no reason yet"


def test_cancels_are_merged_by_job() -> None:
    one, two = arrays.ranges([1]), arrays.ranges([2])
    made = merged(
        [Cancel("7", "a", one), Cancel("7", "a", two), Cancel("8", "a"), Cancel("8", "a", one)]
    )
    assert made == [Cancel("7", "a", (range(1, 3),)), Cancel("8", "a")]


def test_what_only_the_log_knows_is_told() -> None:
    assert "killed for memory" in explained(
        "its job failed (FAILED)", "slurmstepd: error: Exceeded job memory limit"
    )
    assert (
        explained("its job failed (FAILED)", "ZeroDivisionError")
        == "its job failed (FAILED)\nZeroDivisionError"
    )


@pytest.mark.parametrize("before", ["", f"{UID}."])
def test_a_log_is_found_by_its_name(before: str) -> None:
    (batch,) = arrays.batches("dgw1", [launch("default-40"), launch("default-43")], max_size=10)
    files = [file_name(batch, before).replace(INDEX, str(i)) for i in (0, 3)] + [
        f"{before}scheduler.log",
        f"{OTHER}.default-43.log",
        "x",
    ]
    assert log_of(launch("default-43").instance, files, before) == f"{before}default@40+3.log"
    assert log_of(launch("scheduler").instance, files, before) == f"{before}scheduler.log"
    assert log_of(launch("default-41").instance, files, before) == ""
    assert (prefix("/logs/{uid}", UID), prefix("/logs/{user}", UID)) == ("", f"{UID}.")
