"""What YARN's and skein's own words are told as: each text here was said by a real Hadoop 3.4.2 and
skein 0.8.2."""

from __future__ import annotations

import pytest

from gateway.backends.yarn import words

MEMORY_MOST = (
    "Failure in container allocator:\nInvalid resource request! Cannot allocate containers as"
    " requested resource is greater than maximum allowed allocation. Requested resource"
    " type=[memory-mb], Requested resource=<memory:8192, vCores:1>, maximum allowed"
    " allocation=<memory:4096, vCores:4>, please note that maximum allowed allocation is"
    " calculated by scheduler\n\tat org.apache.hadoop.yarn.Scheduler.check(Scheduler.java:1)"
)
DIED = (
    "Application application_1_0012 failed 1 times (global limit =2; local limit is =1) due to AM"
    " Container for appattempt_1_0012_000001 exited with  exitCode: {code}\nFailing this"
    " attempt.Diagnostics: {more}"
)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "411.5 MB of 256 MB physical memory used",
            "it was killed for memory: it used 411.5 MB of the 256 MB of physical memory that it"
            " may use",
        ),
        (
            MEMORY_MOST,
            "it asks for more than YARN gives to one container: memory:8192, vCores:1, and at most"
            " memory:4096, vCores:4 is allowed",
        ),
        (
            "Failed to submit application, exception: org.apache.hadoop.yarn.exceptions."
            "YarnException: Application application_1_0002 submitted by user root to unknown queue:"
            " nosuch",
            "there is no queue nosuch",
        ),
        (
            "Failed to submit application, exception: org.apache.hadoop.security."
            "AccessControlException: Queue root.stopped is STOPPED. Cannot accept submission of"
            " application: application_1_0003",
            "queue root.stopped is stopped and takes no applications",
        ),
        (
            "[2026-11-28 05:01:48.712]\njava.lang.reflect.UndeclaredThrowableException\n"
            "\tat org.apache.hadoop.yarn.util.FSDownload.call(FSDownload.java:430)\n"
            "Caused by: org.apache.hadoop.yarn.exceptions.YarnException: Download and unpack"
            " failed\n\tat org.apache.hadoop.yarn.util.FSDownload.unpack(FSDownload.java:325)\n"
            "Caused by: java.io.IOException: Error executing command. gzip -dc | (cd '/local/new"
            ".tar.gz' && tar -x ) Process exited with exit code 2.\n\t... 10 more",
            "its files could not be brought to the node: Error executing command. gzip -dc | (cd"
            " '/local/new.tar.gz' && tar -x ) Process exited with exit code 2.",
        ),
        (
            "[2026-11-28 05:01:48.712]\njava.io.FileNotFoundException: File does not exist:"
            " hdfs://nn/envs/new.tar.gz\n\tat org.apache.hadoop.yarn.util.FSDownload.call(F:1)",
            "a file to localise is not there: hdfs://nn/envs/new.tar.gz",
        ),
        (
            "Application application_1_0012 was killed by user root at 127.0.0.1",
            "it was killed in YARN by root",
        ),
        (
            "Application killed by admin... was killed by user dr.who",
            "it was killed in YARN by dr.who",
        ),
        (
            DIED.format(code=137, more="[Container killed on request. Exit code is 137"),
            "its application master ended with code 137",
        ),
        (
            DIED.format(code=-100, more="Container released on a *lost* node"),
            "its node was lost: the NodeManager does not answer any more",
        ),
        (
            "Resource 'yarn.io/gpu' is not defined in your cluster's configuration",
            "YARN has no resource yarn.io/gpu here, such as GPUs that nobody configured",
        ),
        (
            "File file:/nonexistent does not exist",
            "a file to localise is not there: file:/nonexistent",
        ),
        (
            'Permission denied: user=dask, access=READ, inode="/envs/x.tar.gz":alice:supergroup',
            "HDFS does not let dask read /envs/x.tar.gz: see the rights of what `files` and"
            " `archives` name, and of the directories above",
        ),
        (
            'Permission denied: user=bob, access=WRITE, inode="/user":hdfs:supergroup:drwxr-xr-x',
            "HDFS does not let bob write to /user: an administrator makes /user/bob, owned by bob",
        ),
        (
            "java.io.IOException: Resource hdfs://nn/envs/x.tar.gz is not publicly accessible and"
            " as such cannot be part of the public cache.",
            "its archive hdfs://nn/envs/x.tar.gz cannot be read by everybody in HDFS, so nodes"
            " cannot keep it between clusters: hadoop fs -chmod a+r, and a+x of the directories"
            " above",
        ),
        (
            "Failed to submit application, exception: org.apache.hadoop.fs."
            'UnsupportedFileSystemException: No FileSystem for scheme "htfs"',
            "Hadoop has no file system htfs:// here, which `files`, `archives` or `file_systems`"
            " name",
        ),
        (
            "Failed to submit application, exception: java.lang.IllegalArgumentException:"
            " java.net.UnknownHostException: nosuch",
            "Hadoop does not find the host nosuch; the addresses in `files`, `archives` or"
            " `file_systems` may name it",
        ),
        (
            "Application application_1_0002 submitted by user root to non-leaf queue : team",
            "queue team has queues below it: name one of those",
        ),
        ("Container failed during execution, see logs for more information.", ""),
        ("Killed by user request.", ""),
        ("", ""),
    ],
)
def test_a_reason_is_in_words(said: str, told: str) -> None:
    assert words.reason(said) == told


def test_what_nobody_knows_is_told_as_it_was_said_without_its_stack() -> None:
    said = "java.io.IOException: the moon is full\n\tat org.apache.Moon.rise(Moon.java:7)\n"
    assert words.reason(said) == "the moon is full"
    assert len(words.reason("x" * 10_000)) == words.MOST


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Application is added to the scheduler and is not yet activated. Queue's AM resource"
            " limit exceeded.  Details : AM Partition = <DEFAULT_PARTITION>",
            "queue small runs as many applications as it may (its limit for application masters is"
            " reached); it starts when one of them ends",
        ),
        (
            "AM container is launched, waiting for AM container to Register with RM",
            "its application master is starting",
        ),
        ("Application is Activated, waiting for resources to be assigned for AM.  Details", "room"),
        ("Attempt recovered after RM restart", "was restarted"),
        ("", "YARN has not started it yet in queue small"),
    ],
)
def test_why_an_application_waits(said: str, told: str) -> None:
    assert told in words.waiting(said, "small")


def test_what_is_beyond_the_queue_is_refused_with_its_number() -> None:
    most = {"memory_mb": 4096, "vcores": 4}
    size = {"memory_mb": 8192, "vcores": 1, "gpus": 0, "fpgas": 0}
    assert words.beyond(size, most, "q") == (
        "it asks for 8192 MiB of memory, and queue q gives at most 4096 to one container"
    )
    assert "5 cores" in words.beyond(size | {"memory_mb": 1, "vcores": 5}, most, "q")
    assert words.beyond(size | {"memory_mb": 1, "gpus": 1}, most, "q") == (
        "it asks for 1 gpus, and queue q gives none"
    )
    assert words.beyond(size | {"memory_mb": 4096}, most, "q") == ""
    assert words.beyond(size, {"memory_mb": 0, "vcores": 0}, "q") == ""  # it was not told
