"""Every setting of a backend does something: a setting without effect is a promise that nobody
keeps."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiohttp import web

from gateway.backends.base import BaseBackend
from gateway.backends.batch.commands import Answer
from gateway.backends.batch.names import JobName
from gateway.backends.batch.system import Order, SubmitRefused
from gateway.backends.conformance import OTHER_UID, UID
from gateway.backends.contract import BackendUnavailable, Instance, Launch, Resources, Role
from gateway.backends.kubernetes.backend import KubernetesBackend
from gateway.backends.local.backend import LocalBackend
from gateway.backends.noop import NoopBackend
from gateway.backends.pbs.backend import PbsBackend
from gateway.backends.pbs.commands import Dialect, qsub
from gateway.backends.slurm import words as slurm_words
from gateway.backends.slurm.backend import SlurmBackend
from gateway.backends.yarn.backend import YarnBackend

# server/reconcile/sweep.py, server/boot/reach.py
READ_BY_THE_SERVER = {"observe_interval_s", "local"}


@pytest.mark.parametrize(
    "backend",
    [LocalBackend, NoopBackend, SlurmBackend, PbsBackend, KubernetesBackend, YarnBackend],
)
def test_every_setting_is_read_by_its_backend(backend: type[BaseBackend]) -> None:
    modules = {
        sys.modules[one.__module__]
        for one in backend.__mro__
        if one.__module__.startswith("gateway.")
    }
    source = "\n".join(pathlib.Path(str(module.__file__)).read_text() for module in modules)
    read = set(re.findall(r"self\.(\w+)\b(?! = )", source)) | READ_BY_THE_SERVER
    read |= set(getattr(backend, "setting_names", ()))  # words of submissions, below
    assert backend.class_traits(config=True).keys() - read == set()


@pytest.mark.parametrize("cores", [0.01, 0.5, 1.0, 1.01, 2.0, 63.5])
@pytest.mark.parametrize("memory_bytes", [0, 2**20, 2**20 + 1, 3 * 10**9])
def test_a_job_asks_for_what_the_limits_of_its_cluster_count(
    cores: float, memory_bytes: int
) -> None:
    """Limits counted tenths of cores where every job took a whole one."""
    asked = Resources(cores, memory_bytes)
    slurm, pbs = (kind().allots(asked) for kind in (SlurmBackend, PbsBackend))
    order = Order(JobName("dgw", UID, "default"), "a", Role.WORKER, "", (), asked, {}, "alice")
    said = slurm_words.submit_words("sbatch", order)
    assert f"--cpus-per-task={slurm.cores:g}" in said
    mem = [word for word in said if word.startswith("--mem=")]
    assert mem == ([f"--mem={slurm.memory_bytes // 2**20}M"] if memory_bytes else [])
    assert pbs == slurm
    for dialect in Dialect:
        words = " ".join(qsub(order, dialect))
        assert f"ncpus={pbs.cores:g}" in words or f"ppn={pbs.cores:g}" in words
        assert not memory_bytes or f"mem={pbs.memory_bytes // 2**20}mb" in words


def test_every_setting_of_a_job_reaches_sbatch_and_slurmrestd() -> None:
    values = dict.fromkeys(slurm_words.OPTIONS, "VALUE") | {"time_limit": "12:00:00"}
    order = Order(
        JobName("dgw", UID, "default"),
        "a",
        Role.WORKER,
        "",
        (),
        Resources(),
        values | {"requeue": True},
        "alice",
    )
    said = slurm_words.submit_words("sbatch", order)
    assert {f"{option}={values[name]}" for name, (option, _) in slurm_words.OPTIONS.items()} <= set(
        said
    )
    job: Any = slurm_words.submit_body(order, "v0.0.38", "", {"burst_buffer": "x"})["job"]
    told = {name: job[field] for name, (_, field) in slurm_words.OPTIONS.items()}
    assert told == values | {"time_limit": 720}
    assert (job["requeue"], job["burst_buffer"]) == (True, "x")
    others = {"gpu_name", "requeue", "directives", "setup"}  # gpu_name: test_named_resources.py
    assert set(SlurmBackend.setting_names) == {*values, *others}


def test_options_of_sbatch_that_slurmrestd_does_not_take_are_refused_not_dropped() -> None:
    order = Order(
        JobName("dgw", UID, "default"),
        "a",
        Role.WORKER,
        "",
        settings={"directives": ["--exclusive"]},
    )
    with pytest.raises(SubmitRefused, match=r"^directives: not with identity user-token"):
        slurm_words.submit_body(order, "v0.0.38", "", {})
    backend = SlurmBackend(
        identity="user-token",
        rest_url="http://x",
        scheduler_settings={"directives": ["--exclusive"]},
    )
    assert backend.problems() == [
        "c.SlurmBackend.directives: not with identity user-token; use rest_job"
    ]


@pytest.mark.parametrize("dialect", Dialect)
def test_every_setting_of_a_job_reaches_qsub(dialect: Dialect) -> None:
    values = {name: name.upper() for name in PbsBackend.setting_names if name != "setup"}
    lists = {"resource_list": ["RESOURCE=LIST"], "directives": ["-W", "DIREC=TIVES"]}
    said = " ".join(
        qsub(
            Order(JobName("dgw", UID), "a", Role.SCHEDULER, "", settings={**values, **lists}),
            dialect,
        )
    )
    for words in (
        "-q QUEUE",
        "-A ACCOUNT",
        "-P PROJECT",
        "walltime=WALLTIME",
        "RESOURCE=LIST",
        "-W DIREC=TIVES",
    ):
        assert words in said


class Recorded(SlurmBackend):
    """Runs no command; records what it would run."""

    asked: list[tuple[Sequence[str], float, bytes]]

    async def run(
        self,
        argv: Sequence[str],
        *,
        deadline_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Answer:
        self.asked.append((argv, deadline_s, stdin))
        mark = next(
            (
                word.partition(":")[2].partition(",")[0]
                for word in argv
                if word.startswith("--Format=")
            ),
            "",
        )
        row = [
            "7",
            "N/A",
            "PENDING",
            "0",
            "None",
            "N/A",
            "1",
            self.who.account("a"),
            "p",
            f"dgw-{OTHER_UID}-s",
        ]
        heads = [
            "ARRAY_JOB_ID",
            "ARRAY_TASK_ID",
            "STATE",
            "EXIT_CODE",
            "REASON",
            "START_TIME",
            "PRIORITY",
            "USER",
            "PARTITION",
            "NAME",
        ]
        text = "\n".join("".join(cell + mark for cell in cells) for cells in (heads, row))
        return Answer(
            0,
            "7" if argv[0].endswith("sbatch") else '{"jobs": []}' if "--json" in argv else text,
            "",
        )

    def said(self, name: str) -> list[Sequence[str]]:
        """Return the words of every command of one name."""
        return [argv for argv, _, _ in self.asked if argv[0].endswith(name)]


async def recorded(tmp_path: pathlib.Path, **settings: object) -> Recorded:
    """Return one that is open."""
    made = Recorded(root=str(tmp_path / "root"), tag="dgw", first_look_s=0, **settings)
    made.asked = []
    await made.open(lambda _: None)
    return made


async def test_settings_of_commands(tmp_path: pathlib.Path) -> None:
    plain = await recorded(tmp_path)
    await plain.listing(0.0)
    # the second looks for the place in the queue
    assert [argv[0] for argv in plain.said("squeue")] == ["squeue"] * 2
    assert {deadline_s for _, deadline_s, _ in plain.asked} == {60.0}
    with pytest.raises(BackendUnavailable, match="sacct answered"):
        await plain.system.ended(["7"], ["a"])
    given: dict[str, Any] = {
        "commands_directory": "/opt/bin",
        "accounting": False,
        "show_position": False,
        "command_timeout_s": 7.0,
    }
    other = await recorded(tmp_path, **given)
    await other.listing(0.0)
    assert [argv[0] for argv in other.said("squeue")] == ["/opt/bin/squeue"]
    assert {deadline_s for _, deadline_s, _ in other.asked} == {7.0}
    assert await other.system.ended(["7"], ["a"]) == []
    json = await recorded(tmp_path, squeue_output="json")
    await json.listing(0.0)
    assert "--json" in json.said("squeue")[0]


async def test_settings_of_scripts_and_submissions(tmp_path: pathlib.Path) -> None:
    backend = await recorded(
        tmp_path,
        shell="/bin/bash -l",
        scratch_directory="/fast",
        setup=["module load python"],
        partition="cpu",
        max_array_size=2,
        scheduler_settings={"partition": "long", "setup": ["module load other"], "requeue": False},
    )
    workers = [Launch(Instance(UID, Role.WORKER, f"default-{n}"), "a", ("true",)) for n in range(4)]
    scheduler = Launch(Instance(UID, Role.SCHEDULER, "scheduler"), "a", ("true",))
    await backend.start([*workers, scheduler])
    submitted = {
        next(w for w in argv if w.startswith("--job-name=")): (argv, text.decode())
        for argv, _, text in backend.asked
        if text
    }
    first, second = (submitted[f"--job-name=dgw-{UID}-w-default-{n}"] for n in (0, 2))
    assert [next(w for w in argv if w.startswith("--array=")) for argv, _ in (first, second)] == [
        "--array=0-1"
    ] * 2
    words, script = first
    assert {"--partition=cpu", "--requeue"} <= set(words)
    assert script.startswith("#!/bin/bash -l\n")
    assert '"/fast/daskgateway-XXXXXXXXXX"' in script
    assert "\nmodule load python\n" in script
    words, script = submitted[f"--job-name=dgw-{UID}-s"]
    assert {"--partition=long", "--no-requeue"} <= set(words)
    assert "\nmodule load other\n" in script
    await backend.close()


async def test_settings_of_slurmrestd(tmp_path: pathlib.Path) -> None:
    seen: list[tuple[str, str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        seen.append((request.headers["X-SLURM-USER-NAME"], request.path, body))
        return web.json_response({"job_id": 7, "jobs": []})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    backend = SlurmBackend(
        root=str(tmp_path / "root"),
        tag="dgw",
        identity="user-token",
        rest_url=f"http://127.0.0.1:{runner.addresses[0][1]}",
        rest_version="v0.0.37",
        rest_job={"burst_buffer": "x"},
        rest_listing_user="lister",
        token_command=[
            "sh",
            "-c",
            f'echo "$@" >>{tmp_path}/tokens; echo a.b.c',
            "token",
            "{user}",
            "{lifespan_s}",
        ],
        token_lifespan_s=77,
        first_look_s=0,
    )
    await backend.open(lambda _: None)
    await backend.start([Launch(Instance(UID, Role.SCHEDULER, "scheduler"), "games", ("true",))])
    await backend.close()
    await runner.cleanup()
    assert [(user, path) for user, path, _ in seen] == [
        ("lister", "/slurm/v0.0.37/jobs"),
        ("games", "/slurm/v0.0.37/job/submit"),
    ]
    assert seen[1][2]["job"]["burst_buffer"] == "x"
    assert (tmp_path / "tokens").read_text().split("\n") == ["lister 77", "games 77", ""]
