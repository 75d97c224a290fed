"""What skein keeps of an application in HDFS (`.skein/ID`, in the home of whose it is): its master
removes it, unless it dies; and nobody does, if the driver died before there was a master."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.backends.batch import commands
from gateway.backends.contract import BackendUnavailable
from gateway.backends.yarn.answers import APPLICATION_ID

DIRECTORY = ".skein"


async def remove(application: str, account: str, env: Mapping[str, str], timeout_s: float) -> None:
    """Remove what is left of an application that has ended, if anything is. BackendUnavailable if
    that cannot be."""
    place = f"{DIRECTORY}/{application}"
    answer = await _hadoop(["-rm", "-r", "-f", "-skipTrash", place], account, env, timeout_s)
    if answer.code != 0:
        raise BackendUnavailable(f"{place} is left in HDFS: {answer.complaint}")


async def holder(file: str, account: str, env: Mapping[str, str], timeout_s: float) -> str:
    """Return the application below whose directory a file was uploaded; empty if there is none.
    BackendUnavailable if that cannot be told."""
    words = ["-ls", "-C", f"{DIRECTORY}/*/*/{file}"]
    answer = await _hadoop(words, account, env, timeout_s)
    if answer.code != 0 and "No such file or directory" not in answer.err:
        raise BackendUnavailable(f"{DIRECTORY} in HDFS cannot be searched: {answer.complaint}")
    found = [line.split("/") for line in answer.out.splitlines() if line.endswith(f"/{file}")]
    return next(
        (parts[-3] for parts in found if len(parts) > 2 and APPLICATION_ID.fullmatch(parts[-3])), ""
    )


async def _hadoop(
    words: list[str], account: str, env: Mapping[str, str], timeout_s: float
) -> commands.Answer:
    variables = {**env, "HADOOP_PROXY_USER": account} if account else env
    return await commands.run(["hadoop", "fs", *words], deadline_s=timeout_s, env=variables)
