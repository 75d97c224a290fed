"""What a job's script says: POSIX shell text that makes a private directory on the node, puts the
files there and runs the launch.

Pure; knows no batch system but by the name of the variable that holds an element's index.
Everything a job needs travels in this text, or lies in a staging directory that the node shares.
Nothing that a user may choose is ever read as shell: every word is quoted.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.backends.batch.arrays import Batch
from gateway.backends.batch.logfiles import INDEX
from gateway.backends.contract import DIRECTORY, NAME, Role
from gateway.variables import SHELLS

END = "DASKGATEWAY_END"  # of a file's text; no base64 line is like it
EXIT_NO_DIRECTORY, EXIT_NO_FILE = 70, 71
# A signal is passed on, or ends what has not begun; whatever the end, the directory goes, also if
# something in it was closed.
TRAPS = (
    """trap '[ -n "$dgw_child" ] || exit 143; dgw_signal=1; kill -TERM "$dgw_child" 2>/dev/null || :' HUP INT QUIT TERM""",  # noqa: E501
    """trap '[ ! -d "${1-}" ] || rm -rf -- "$1" 2>/dev/null || { chmod -R u+rwX -- "$1"; rm -rf -- "$1"; }' EXIT""",  # noqa: E501
)
# One that comes while the launch has begun, and its number is not known yet, is passed on then.
NOTE = "trap dgw_early=1 HUP INT QUIT TERM"
PASS_ON = '[ -z "$dgw_early" ] || kill -TERM "$dgw_child" 2>/dev/null || :'
# The shell must outlive its child to remove the directory. A wait that a signal has interrupted
# told of the signal, and is repeated. One that is repeated after the child was waited for ends with
# 127, and the code is known.
WAIT = (
    "while :; do",
    'dgw_signal=; wait "$dgw_child" && dgw_now=0 || dgw_now=$?',
    '[ -n "$dgw_code" ] && [ "$dgw_now" -eq 127 ] || dgw_code=$dgw_now',
    '[ -n "$dgw_signal" ] || exit "$dgw_code"',
    "done",
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between sites and batch systems."""

    index_variable: str  # of the environment: index of the array's element
    shell: str = "/bin/sh"  # what runs the script, with its arguments
    # the administrator's lines, such as `module load python`; run before anything else
    setup: Sequence[str] = ()
    # where the private directory is made: text within double quotes of the shell
    scratch: str = "${TMPDIR:-/tmp}"
    # shared directory that holds the launch's files; empty: they travel in the script
    stage: str = ""
    # where the script itself sends its output, `{index}` is the element's; empty: the batch system
    # sees to it
    log_path: str = ""


def job_script(batch: Batch, dialect: Dialect) -> str:
    """Return the script of a submission.

    The private directory and the instance's name are the script's own words, "$1" and "$2", for
    which no variable can stand. Variables of the launch are set in a shell of its own, which
    becomes the launch: nothing that a user may set reaches what comes before or after.
    """
    launch = batch.launch
    index = f"${{{dialect.index_variable}:-0}}"
    lines = [f"#!{dialect.shell}", "umask 077"]
    if dialect.log_path:
        log = _quoted(dialect.log_path, {INDEX: index})
        # a job whose log cannot be written runs all the same
        lines.append(f"( : >>{log} ) 2>/dev/null && exec >>{log} 2>&1")
    lines += [*dialect.setup, "dgw_child= dgw_code= dgw_early=", *TRAPS]
    lines.append(
        f'set -- "$(mktemp -d "{dialect.scratch}/daskgateway-XXXXXXXXXX")" {_name(batch, index)}'
    )
    lines.append(
        f'case "$1" in /*) mkdir "$1/scratch" ;; *) false ;; esac || exit {EXIT_NO_DIRECTORY}'
    )
    lines += _files(launch.files, dialect.stage)
    lines += [NOTE, "(", f'cd "$1/scratch" || exit {EXIT_NO_DIRECTORY}']
    lines += [
        f"export {key}={_quoted(value, {DIRECTORY: '$1'})}"
        for key, value in sorted(launch.env.items())
        if _can_be_set(key)
    ]
    lines.append(
        "exec "
        + " ".join(
            '"$2"' if word == NAME else _quoted(word, {DIRECTORY: "$1"}) for word in launch.argv
        )
    )
    lines += [") &", "dgw_child=$!", TRAPS[0], PASS_ON, *WAIT]
    return "\n".join(lines) + "\n"


def _can_be_set(key: str) -> bool:
    # the shell can export no other
    return _VARIABLE.fullmatch(key) is not None and key not in SHELLS


def _name(batch: Batch, index: str) -> str:
    instance = batch.launch.instance
    if instance.role is Role.SCHEDULER or not batch.indices:
        return shlex.quote(instance.name)
    return f'"{batch.name.group}-$(({batch.name.number} + {index}))"'


def _files(files: Mapping[str, bytes], stage: str) -> list[str]:
    lines: list[str] = []
    for name, content in sorted(files.items()):
        path = f'"$1"/{shlex.quote(name)}'
        if stage:
            lines.append(f"cp {shlex.quote(f'{stage}/{name}')} {path} || exit {EXIT_NO_FILE}")
        else:
            text = base64.encodebytes(content).decode()
            lines.append(f"base64 -d >{path} <<'{END}' || exit {EXIT_NO_FILE}\n{text}{END}")
    return lines


def _quoted(word: str, expanded: Mapping[str, str]) -> str:
    """Return a word for the shell: literal, but for the placeholders, which become expansions
    within double quotes."""
    pattern = "|".join(re.escape(placeholder) for placeholder in expanded)
    pieces = re.split(f"({pattern})", word)
    return (
        "".join(
            f'"{expanded[piece]}"' if piece in expanded else shlex.quote(piece)
            for piece in pieces
            if piece
        )
        or "''"
    )
