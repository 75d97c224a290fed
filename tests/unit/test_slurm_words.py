"""What is said to Slurm."""

from __future__ import annotations

import json

import pytest

from gateway.backends.batch.arrays import ranges
from gateway.backends.batch.system import Cancel, Order, SubmitRefused
from gateway.backends.contract import Resources, Role
from gateway.backends.slurm import words
from tests.unit.slurm_told import NAME, UID


def order(**settings: object) -> Order:
    """Return a submission of three workers."""
    log = "/shared/50%/default@40+{index}.log"
    resources = Resources(1.5, 3 * 2**30 + 1)
    return Order(
        NAME,
        "dgw",
        Role.WORKER,
        "#!/bin/sh\nsecret\n",
        ranges([0, 1, 5]),
        resources,
        settings,
        "alice",
        log,
    )


def test_everything_configured_is_one_word_of_sbatch_each() -> None:
    given = order(
        partition="long",
        account="proj-{user}",
        time_limit=90,
        gres="gpu:1",
        requeue=True,
        directives=["--exclusive"],
    )
    said = words.submit_words("sbatch", given)
    assert said[0] == "sbatch"
    assert f"--job-name=dgw1-{UID}-w-default-40" in said
    assert "--array=0-1,5" in said
    assert "--cpus-per-task=2" in said
    assert "--mem=3073M" in said
    assert "--output=/shared/50%%/default@40+%a.log" in said
    assert {
        "--partition=long",
        "--account=proj-alice",
        "--time=90",
        "--gres=gpu:1",
        "--requeue",
        "--exclusive",
    } <= set(said)
    assert not any("secret" in word for word in said)


@pytest.mark.parametrize("value", ["a\nb", "-x", "x" * 2000, "a\0b", "a\x1bb"])
def test_a_value_that_is_none_is_refused_with_its_setting(value: str) -> None:
    with pytest.raises(SubmitRefused, match=r"^partition: must be a printable text") as refused:
        words.submit_words("sbatch", order(partition=value))
    assert refused.value.permanent


@pytest.mark.parametrize(
    ("directive", "why"),
    [
        ("--uid=0", "set by the gateway itself"),
        ("-J=x", "set by the gateway itself"),
        ("--wrap=reboot", "set by the gateway itself"),
        ("--job-nam=x", "set by the gateway itself"),
        ("--arr=0-9", "set by the gateway itself"),
        ("--outpu=/x", "set by the gateway itself"),
        ("--wra=reboot", "set by the gateway itself"),
        ("--ex=NONE", "set by the gateway itself"),
        ("-M", "set by the gateway itself"),
        ("-V", "set by the gateway itself"),
        ("script.sh", "no option of sbatch"),
        ("--comment=a\n--uid=0", "no option of sbatch"),
        ("-n4", "no option of sbatch"),
        (7, "no option of sbatch"),
    ],
)
def test_a_directive_that_is_not_free_is_refused(directive: object, why: str) -> None:
    with pytest.raises(SubmitRefused, match=why):
        words.submit_words("sbatch", order(directives=[directive]))


FREE = """
account bb bbf begin comment cpu-freq dependency deadline delay-boot gres gres-flags hold ignore-pbs no-kill licenses container
distribution mail-type mail-user mcs-label nice ntasks-per-node overcommit partition power priority profile propagate qos reboot
oversubscribe core-spec signal spread-job switches thread-spec time time-min use-min-nodes verbose wckey cluster-constraint contiguous
constraint nodefile mincpus reservation tmp nodelist exclude exclusive mem-per-cpu sockets-per-node cores-per-socket threads-per-core
extra-node-info ntasks-per-core ntasks-per-socket cpus-per-gpu gpus gpu-bind gpu-freq gpus-per-node gpus-per-socket gpus-per-task
mem-per-gpu mem-bind network hint prefer tres-per-task umask
"""  # of `sbatch --help`  # noqa: E501


@pytest.mark.parametrize("name", FREE.split())
def test_no_other_option_is_taken_for_the_beginning_of_one_that_is_not_free(name: str) -> None:
    assert words.directives([f"--{name}=1"]) == [f"--{name}=1"]


def test_many_are_cancelled_by_one_command() -> None:
    cancels = [Cancel("7", "dgw", ranges(range(250))), Cancel("8", "dgw")]
    assert words.cancel_words("scancel", cancels) == [
        ["scancel", "7_[0-99]", "7_[100-199]", "7_[200-249]", "8"]
    ]
    assert len(words.cancel_words("scancel", [Cancel(str(n), "dgw") for n in range(1200)])) == 3


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("1:30", 2),
        ("12:00:00", 720),
        ("2-00", 2880),
        ("2-01:30", 2970),
        ("1-00:00:01", 1441),
    ],
)
def test_time_limits_in_minutes(text: str, minutes: int) -> None:
    assert words.minutes(text) == minutes


def test_a_time_limit_that_is_none_is_refused() -> None:
    with pytest.raises(SubmitRefused, match="one looks like 90"):
        words.minutes("soon")


def test_a_request_to_slurmrestd_says_the_same() -> None:
    body = words.submit_body(
        order(partition="long", time_limit="1:00:00", constraint="fast"),
        "v0.0.38",
        "/bin",
        {"nice": 5},
    )
    job = body["job"]
    assert isinstance(job, dict)
    assert (job["array"], job["memory_per_node"], job["cpus_per_task"], job["time_limit"]) == (
        "0-1,5",
        3073,
        2,
        60,
    )
    assert (job["partition"], job["constraints"], job["nice"], job["requeue"]) == (
        "long",
        "fast",
        5,
        False,
    )
    assert job["environment"] == {"PATH": "/bin"}
    assert json.loads(json.dumps(words.submit_body(order(), "v0.0.40", "/bin", {})))["job"][
        "environment"
    ] == ["PATH=/bin"]
