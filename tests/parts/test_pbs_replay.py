"""The stand-in for PBS starts what a real server would start."""

from __future__ import annotations

import pathlib
import subprocess

from tests.parts import executable
from tests.parts.pbs_replay import PbsReplay


def test_a_job_runs_while_something_still_has_its_script_open(tmp_path: pathlib.Path) -> None:
    """As a process has that another thread forked while the script was written, until it runs a
    program of its own."""
    replay = PbsReplay(tmp_path / "pbs")
    replay.machine.scheduling = False
    script = f"#!/bin/sh -e\necho here >{tmp_path}/said\n"
    subprocess.run(
        [str(replay.bin / "qsub"), "-N", "x"],
        input=script,
        text=True,
        check=True,
        capture_output=True,
    )
    (job,) = replay.submitted()
    with open(job.script, "ab"), replay.machine.lock:
        replay.machine.scheduling = True
        replay.machine.schedule()
        replay.machine.wait_for(lambda: job.over)
    replay.close()
    assert job.parts[None].status == 0
    assert (tmp_path / "said").read_text() == "here\n"


def test_a_program_is_written_so_that_it_can_be_run_at_once(tmp_path: pathlib.Path) -> None:
    for words in ("one", "two $x"):
        executable(tmp_path / "program", f"#!/bin/sh\necho '{words}'\n")
        assert (
            subprocess.run([tmp_path / "program"], capture_output=True, text=True).stdout
            == f"{words}\n"
        )
