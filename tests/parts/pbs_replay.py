"""A stand-in for OpenPBS made of recorded cases: its own qsub, qstat and qdel, whose jobs really
run on this machine.

It answers as release 23.06 was recorded to, and when told to also wrongly, slowly, never, or as
when its server has crashed. No real server stands behind it: what was never recorded is not known
here.
"""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import re
import shutil
import socketserver
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.parts import executable
from tests.parts.pbs_cases import case
from tests.parts.pbs_state import SERVER, Job, Machine, Part
from tests.parts.pbs_words import (
    Reply,
    block,
    hours,
    kept_by_client,
    parse,
    parse_range,
    plain,
    printed,
    recorded,
    records,
)

CLIENT = pathlib.Path(__file__).with_name("pbs_client.py")
ID = re.compile(r"(\d+)(?:\[([\d,:-]*)\])?(?:\.([\w.-]+))?")
NAME = re.compile(r"[A-Za-z0-9._+-]{1,230}")


@dataclass(frozen=True, slots=True)
class Call:
    """A command that was run."""

    command: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    uid: int = 0
    stdin: str = field(default="", repr=False)


class PbsReplay:
    """The stand-in. Faults are set and taken back by its attributes at any time."""

    def __init__(self, directory: pathlib.Path, cpus: int = 8) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        self.machine = Machine(directory, cpus)
        self.calls: list[Call] = []
        self.delays_s: dict[str, float] = {}  # command → how long it takes
        self.hanging: set[str] = set()  # commands that do nothing and never answer
        self.losing: set[str] = set()  # commands that do what they are told, and never answer
        # command → answers that are given first, instead of its own
        self.canned: dict[str, list[Reply]] = {}
        self.fixed: dict[str, Reply] = {}  # command → what it answers, as long as it is set
        self.foreign: list[str] = []  # other users' jobs, as the text that was printed for them
        # the same by identifier, with what they make qstat tell of other jobs behind them
        self.liars: dict[str, list[str]] = {}
        self.crashed = False
        self.max_array_size = 10000
        self.everybody = True  # query_other_jobs: whether users see the jobs of others
        self.tells = True  # whether users may ask how the server is set up
        # lists no job, as a server does that has not read them yet, though it counts them
        self.empty = False
        self.accounts: dict[int, str] = {}  # uid → name, where the machine's own is not meant
        self.roots = True  # whether root may submit: no server allows it unless acl_roots is set
        self._released = threading.Event()
        # elsewhere: its path must be short
        self._socket = pathlib.Path(tempfile.mkdtemp(prefix="pbs-")) / "s"
        self._socket.parent.chmod(0o755)
        self.bin = directory / "bin"
        self._install()
        replay = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                replay._handle(self.rfile.readline(), self.wfile)

        self._server = socketserver.ThreadingUnixStreamServer(str(self._socket), Handler)
        self._server.daemon_threads = True
        self._socket.chmod(0o777)
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def _install(self) -> None:
        self.bin.mkdir()
        # rather one that every account may run
        python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
        text = CLIENT.read_text().replace('SOCKET = ""', f"SOCKET = {str(self._socket)!r}")
        for command in ("qsub", "qstat", "qdel"):
            path = self.bin / command
            executable(path, f"#!{python} -IS\n{text}")

    def close(self) -> None:
        """End its jobs and itself."""
        self._released.set()
        self.machine.clear()
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._socket.parent)

    def restart(self) -> None:
        """Come back after a crash: waiting jobs are there still, and the next numbers jump to the
        next thousand."""
        self.crashed = False
        self.machine.next_number = -(-(self.machine.next_number + 1) // 1000) * 1000

    @contextmanager
    def hangs(self, *commands: str) -> Iterator[None]:
        """Let commands hang for a while; what hung is not done afterwards either."""
        self.hanging |= set(commands)
        try:
            yield
        finally:
            self.hanging -= set(commands)

    def submitted(self) -> list[Job]:
        """Return what was submitted and is not over."""
        with self.machine.lock:
            return [job for job in self.machine.jobs.values() if not job.over]

    def find(self, text: str) -> tuple[Job, Part]:
        """Return the one job, or part of an array, that an identifier means."""
        match = ID.fullmatch(text)
        assert match is not None
        job = self.machine.jobs[int(match[1])]
        return job, job.parts[int(match[2]) if match[2] else None]

    def shown(self) -> str:
        """Return what every user sees: the words and variables of commands, and what qstat tells of
        all jobs."""
        with self.machine.lock:
            told = [
                block(*one)
                for job in self.machine.jobs.values()
                for one in records(job, parts=True)
            ]
        return "\n".join([*(f"{call.argv} {call.environment}" for call in self.calls), *told])

    def commands(self, name: str) -> list[Call]:
        """Return the calls of one command."""
        return [call for call in self.calls if call.command == name]

    def _handle(self, line: bytes, stream: Any) -> None:
        asked = json.loads(line)
        command, argv = asked["command"], asked["argv"]
        self.calls.append(
            Call(command, tuple(argv), asked["environment"], asked["uid"], asked["stdin"])
        )
        if command in self.hanging:
            self._released.wait()
            return
        time.sleep(self.delays_s.get(command, 0.0))
        if self.canned.get(command):
            reply = self.canned[command].pop(0)
        elif command in self.fixed:
            reply = self.fixed[command]
        elif self.crashed:
            reply = recorded(
                {
                    "qstat": "690-qstat-server-down",
                    "qsub": "692-qsub-server-down",
                    "qdel": "693-qdel-server-down",
                }[command]
            )
        else:
            user = self.accounts.get(asked["uid"]) or pwd.getpwuid(asked["uid"]).pw_name
            with self.machine.lock:
                reply = self._answer(command, argv, asked, user)
        if command in self.losing:
            self._released.wait()
            return
        try:
            stream.write(json.dumps(reply).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            return  # whoever asked has lost patience

    def _answer(
        self, command: str, argv: Sequence[str], asked: Mapping[str, Any], user: str
    ) -> Reply:
        if command == "qsub":
            return self._qsub(argv, asked, user)
        return self._qstat(argv, user) if command == "qstat" else self._qdel(argv, user)

    def _qsub(self, argv: Sequence[str], asked: Mapping[str, Any], user: str) -> Reply:
        if user == "root" and not self.roots:
            return recorded("160-qsub-root-refused")
        options, operands = parse(argv)
        name, queue = options.get("N", ["STDIN"])[-1], options.get("q", ["workq"])[-1]
        refused = self._refused(name, queue, options)
        if refused is not None:
            return refused
        number = self.machine.next_number
        self.machine.next_number += 1
        script = self.machine.spool / f"{number}.SC"
        script.write_text(
            pathlib.Path(asked["cwd"], operands[0]).read_text() if operands else asked["stdin"]
        )
        script.chmod(0o700)
        if os.getuid() == 0:
            os.chown(script, asked["uid"], -1)
        indices = parse_range(options["J"][-1]) if "J" in options else [None]
        job = Job(
            number, "J" in options, name, user, queue, " ".join(argv), str(script), asked["uid"]
        )
        job.cpus = next(
            (
                int(found[1])
                for text in options.get("l", [])
                if (found := re.search(r"ncpus=(\d+)", text))
            ),
            1,
        )
        job.output = options.get("o", [""])[-1]
        job.parts = {index: Part(index) for index in indices}
        self.machine.add(job)
        return 0, f"{job.id()}\n", ""

    def _refused(self, name: str, queue: str, options: Mapping[str, list[str]]) -> Reply | None:
        if "?" in options:
            return recorded("122-qsub-unknown-option")
        if not NAME.fullmatch(name):
            return (
                recorded("14b-qsub-name-chars")
                if len(name) < 231
                else recorded("133-qsub-name-len-231")
            )
        if queue not in self.machine.queues:
            return recorded(
                "118-qsub-queue-not-enabled" if queue == "closed" else "104-qsub-unknown-queue"
            )
        if any("foo=" in text for text in options.get("l", [])):
            return recorded("106-qsub-unknown-resource-in-select")
        if queue == "short" and any(hours(text) > 1 for text in options.get("l", [])):
            return recorded("110-qsub-over-resources-max-walltime")
        if any(re.search(r"walltime=(?!\d+(:\d+)*$)", text) for text in options.get("l", [])):
            return recorded("107-qsub-bad-walltime")
        if "J" in options:
            indices = parse_range(options["J"][-1])
            if len(indices) < 2:
                return recorded("402-qsub-J-1-1")
            if options.get("r") == ["n"]:
                return recorded("412-qsub-J-rerunnable-n")
            if len(indices) > self.max_array_size:
                return recorded("409-qsub-J-over-server-max-array-size")
        return None

    def _qstat(self, argv: Sequence[str], user: str) -> Reply:
        flags = [word for word in argv if word.startswith("-")]
        json_wished = "-F" in flags
        operands = [word for word in argv if not word.startswith("-") and word != "json"]
        parts, old = "-t" in flags, "-x" in flags
        if "-B" in flags and not self.tells:
            return 159, "", "qstat: Unauthorized Request\n"
        if "-B" in flags:
            text = case(
                "657-qstat-B" if self.machine.history else "910-qstat-B-history-never-set"
            ).out
            text = re.sub(
                r'"state_count":"[^"]*"', f'"state_count":"{self.machine.counts()}"', text
            )
            return (
                0,
                text.replace('"query_other_jobs":"True"', f'"query_other_jobs":"{self.everybody}"'),
                "",
            )
        if "-Q" in flags:
            queues = re.findall(
                r'^        "(\w+)":\{.*?^        \}',
                case("654-qstat-Q").out,
                re.MULTILINE | re.DOTALL,
            )
            if operands != ["short"]:
                return (
                    recorded("656-qstat-Q-unknown")
                    if not set(operands) <= {*queues, *self.machine.queues}
                    else (0, "{}", "")
                )
            return recorded("655-qstat-Q-one")
        if "-f" not in flags:
            return recorded("235-qstat-F-json-without-f")
        errors: list[tuple[int, str]] = []
        blocks: list[tuple[str, dict[str, Any]]] = []
        if old and not self.machine.history:
            words = f" {operands[0]}" if operands else ""
            return 0, printed([]), f"qstat: PBS is not configured to maintain job history{words}\n"
        if operands:
            for word in operands:
                if word not in self.liars:
                    self._one(word, parts, old, user, blocks, errors)
        else:
            for job in [] if self.empty else self.machine.jobs.values():
                if (old or not job.over) and (self.everybody or job.owner == user):
                    blocks += records(job, parts)
        code = errors[-1][0] if errors else 0
        complaints = "".join(f"{words}\n" for _, words in errors)
        foreign = [] if operands else list(self.foreign)
        foreign += [
            text
            for word, texts in self.liars.items()
            if word in operands or not operands
            for text in texts
        ]
        if json_wished:
            return code, printed([block(*told) for told in blocks] + foreign), complaints
        return code, "".join(plain(*told) for told in blocks), complaints

    def _one(
        self,
        word: str,
        parts: bool,
        old: bool,
        user: str,
        blocks: list[tuple[str, dict[str, Any]]],
        errors: list[tuple[int, str]],
    ) -> None:
        match = ID.fullmatch(word)
        if match is None:
            errors.append((170, f"qstat: Unknown queue {word}"))
            return
        job = self.machine.jobs.get(int(match[1]))
        full = word if "." in word else f"{word}.{SERVER}"
        if job is None or job.array != (match[2] is not None):
            errors.append((153, f"qstat: Unknown Job Id {full}"))
        elif job.over and not old:
            errors.append(
                (
                    35,
                    f"qstat: {full} Job has finished, use -x or -H to obtain historical job"
                    f" information",
                )
            )
        elif self.everybody or job.owner == user:  # else rc 0 and no job (case 240)
            blocks += records(job, parts)

    def _qdel(self, argv: Sequence[str], user: str) -> Reply:
        known: list[tuple[str, Job, list[Part], bool]] = []
        unknown: list[str] = []
        finished: list[str] = []
        for word in argv:
            if "," in word:
                refused = recorded("907-qdel-list-in-one-word")
                return refused[0], refused[1], f"{refused[2].rpartition(': ')[0]}: {word}\n"
        for word in kept_by_client(argv):
            match = ID.fullmatch(word)
            job = self.machine.jobs.get(int(match[1])) if match else None
            if match is None or job is None or job.array != (match[2] is not None):
                unknown.append(word)
            elif job.over:
                finished.append(word)
            elif job.owner != user:
                return recorded("507-qdel-other-users")
            elif match[2]:
                known.append(
                    (word, job, [job.parts[index] for index in parse_range(match[2])], False)
                )
            else:
                known.append((word, job, job.remaining(), True))
        for _, job, parts, whole in known:
            self.machine.delete(job, parts, user, whole)
        mixed = len({(job.number if job.array else 0, whole) for _, job, _, whole in known}) > 1
        if (unknown and len(argv) > 1) or len(set(argv)) != len(argv) or mixed:
            # cases 466 and 503; what nobody has tried counts as what has crashed
            self.crashed = True
            return recorded("503-qdel-many-one-unknown")
        if unknown:
            return 153, "", f"qdel: Unknown Job Id {unknown[0]}\n"
        if finished:
            return 35, "", "".join(f"qdel: Job has finished {word}\n" for word in finished)
        return 0, "", ""
