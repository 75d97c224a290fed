"""Which launches travel in one submission: those that differ by the worker's number alone. Pure;
knows no batch system."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.backends.batch.names import JobName, job_name, split_worker
from gateway.backends.contract import Instance, Launch, Role
from gateway.wire import decimal

Ranges = tuple[range, ...]
NOBODY = Instance("", Role.WORKER, "")


@dataclass(frozen=True, slots=True)
class Batch:
    """Launches of one submission. Element `i` of the array is `launches[...]` whose number is
    `name.number + i`."""

    name: JobName
    launches: tuple[Launch, ...]  # in order of their numbers
    # of the array's elements, from 0; empty for one launch, which is a job of its own
    indices: Ranges = ()

    @property
    def launch(self) -> Launch:
        """The first launch: the others differ from it in the instance only."""
        return self.launches[0]

    def index_of(self, launch: Launch) -> int | None:
        """Return which element a launch is, None in a job that is no array."""
        return split_worker(launch.instance.name)[1] - self.name.number if self.indices else None


def batches(
    tag: str,
    launches: Sequence[Launch],
    *,
    max_size: int,
    max_index: int | None = None,
    contiguous: bool = False,
) -> list[Batch]:
    """Return every launch in as few submissions as possible.

    max_size: most elements of one array; max_index: greatest index of one (default: max_size - 1);
    contiguous: whether the batch system takes one range only (`0-7`), no lists (`0,3-5`).
    ValueError for an instance whose name cannot be a job's.
    """
    made: list[Batch] = []
    span = (max_size - 1 if max_index is None else max_index) + 1
    for alike in _alike(launches):
        if alike[0].instance.role is Role.SCHEDULER:
            made += [Batch(job_name(tag, launch.instance), (launch,)) for launch in alike]
            continue
        numbered = sorted(
            ((split_worker(launch.instance.name)[1], launch) for launch in alike),
            key=lambda pair: pair[0],
        )
        for chunk in _chunks(numbered, max_size, span, contiguous):
            base = chunk[0][0]
            indices = ranges(number - base for number, _ in chunk) if len(chunk) > 1 else ()
            made.append(
                Batch(
                    job_name(tag, chunk[0][1].instance),
                    tuple(launch for _, launch in chunk),
                    indices,
                )
            )
    return made


def _alike(launches: Sequence[Launch]) -> list[list[Launch]]:
    """Return the launches in groups that differ in the worker's number only."""
    groups: list[tuple[tuple[str, str], Launch, list[Launch]]] = []
    for launch in launches:
        instance = launch.instance
        key = (
            instance.uid,
            "" if instance.role is Role.SCHEDULER else split_worker(instance.name)[0],
        )
        shape = replace(launch, instance=NOBODY)
        for known, known_shape, members in groups:
            if known == key and known_shape == shape:
                members.append(launch)
                break
        else:
            groups.append((key, shape, [launch]))
    return [members for _, _, members in groups]


def _chunks(
    numbered: Sequence[tuple[int, Launch]], max_size: int, span: int, contiguous: bool
) -> Iterator[list[tuple[int, Launch]]]:
    chunk: list[tuple[int, Launch]] = []
    for pair in numbered:
        broken = chunk and contiguous and pair[0] != chunk[-1][0] + 1
        if chunk and (broken or len(chunk) >= max_size or pair[0] - chunk[0][0] >= span):
            yield chunk
            chunk = []
        chunk.append(pair)
    if chunk:
        yield chunk


def ranges(numbers: Iterable[int]) -> Ranges:
    """Return numbers as ascending ranges without gaps."""
    found: list[range] = []
    for number in sorted(set(numbers)):
        if found and found[-1].stop == number:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return tuple(found)


def format_ranges(indices: Ranges) -> str:
    """Return ranges as batch systems write them: `0-3,7`."""
    return ",".join(str(r.start) if len(r) == 1 else f"{r.start}-{r.stop - 1}" for r in indices)


def parse_ranges(text: str) -> Ranges:
    """Return the ranges in `0-3,7,9-21:2`, a limit behind `%` ignored; ValueError if it is
    something else."""
    numbers: list[range] = []
    for part in filter(None, text.partition("%")[0].split(",")):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        begin, end, by = (decimal(word, 9) for word in (first, last or first, step or "1"))
        if begin is None or end is None or not by:
            raise ValueError(f"{part!r:.100} is no range")
        numbers.append(range(begin, end + 1, by))
    return tuple(numbers)
