"""daskgateway-as-user: what sudo may run as a user for the gateway, and nothing else. One file to read: standard library only.

    daskgateway-as-user run -- sbatch|scancel|squeue|sacct|qsub|qdel|qstat|qselect words…
    daskgateway-as-user write DIRECTORY < JSON of {name: base64}     make it 0700, the files in it 0600
    daskgateway-as-user entries DIRECTORY                            JSON list of names
    daskgateway-as-user size FILE                                    in bytes; 0 if it is not there
    daskgateway-as-user read FILE OFFSET                             base64 of at most 64 KiB
    daskgateway-as-user remove PATH

It refuses to be root, runs only the commands named above and only from SYSTEM_PATH, and touches only paths that are absolute, have no
`..`, and have a part named `daskgateway` or `.daskgateway`. It ends by itself after DEADLINE_S, for who started it cannot end it.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import BinaryIO

COMMANDS = ("sbatch", "scancel", "squeue", "sacct", "qsub", "qdel", "qstat", "qselect")
CONFIG = "/etc/daskgateway/as-user.path"  # one line, the administrator's: directories of the commands, as in PATH
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/opt/slurm/bin:/opt/pbs/bin"
# Of squeue and sacct: times in UTC, and lists of waiting elements in full, which are cut short by default.
LISTING_ENVIRONMENT = {"TZ": "UTC", "SLURM_TIME_FORMAT": "standard", "SLURM_BITSTR_LEN": "0"}
DEADLINE_S = 120
MAX_INPUT_BYTES = 16 * 2**20
PIECE_BYTES = 64 * 1024
OWN_PARTS = ("daskgateway", ".daskgateway")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,254}")


class Refused(Exception):
    """What was asked for is not for this program to do; the text says what would be right."""


def program(name: str, path: str) -> str:
    """Return the file of a command; Refused if it is none that may be run."""
    base = os.path.basename(name)
    if base not in COMMANDS:
        raise Refused(f"{name}: only {', '.join(COMMANDS)} may be run")
    found = shutil.which(base, path=path)
    if found is None or name not in (base, found):
        raise Refused(f"{name}: not found in {path}; the directories are those of {CONFIG}")
    return found


def own_path(text: str) -> pathlib.Path:
    """Return a path that may be touched; Refused if it may not."""
    path = pathlib.Path(text)
    if not path.is_absolute() or ".." in path.parts or not any(part in OWN_PARTS for part in path.parts) or "\0" in text:
        raise Refused(f"{text}: must be absolute, without .., and have a directory named daskgateway or .daskgateway")
    return path


def run(words: Sequence[str], path: str) -> int:
    """Run a command of a batch system in place of this process, with a clean environment."""
    if len(words) < 2 or words[0] != "--":
        raise Refused("run -- command words…")
    account = pwd.getpwuid(os.getuid())
    environment = {"PATH": path, "HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name, "LC_ALL": "C"}
    environment |= {key: os.environ[key] for key in ("SLURM_CONF", "PBS_CONF_FILE", "TZ") if key in os.environ}
    if os.path.basename(words[1]) in ("squeue", "sacct"):  # sudo keeps nothing of what the gateway sets
        environment |= LISTING_ENVIRONMENT
    try:
        done = subprocess.run([program(words[1], path), *words[2:]], env=environment, cwd="/", timeout=DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        raise Refused(f"{words[1]} did not answer within {DEADLINE_S} s") from None
    return done.returncode if done.returncode >= 0 else 128 - done.returncode  # as a shell tells of a signal


def write(directory: pathlib.Path) -> None:
    """Make a directory with files out of standard input."""
    raw = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    files = json.loads(raw) if len(raw) <= MAX_INPUT_BYTES else None
    if not isinstance(files, dict) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in files):
        raise Refused("write: standard input must be JSON of {name: base64}, at most 16 MiB")
    write_files(directory, {name: base64.b64decode(str(content)) for name, content in files.items()})


def answer(words: Sequence[str], path: str) -> int:
    """Do what the words say; return the exit code."""
    match list(words):
        case ["run", *rest]:
            return run(rest, path)
        case ["write", directory]:
            write(own_path(directory))
        case ["entries", directory]:
            print(json.dumps(list_names(str(own_path(directory)))))
        case ["size", file]:
            print(own_path(file).stat().st_size if own_path(file).exists() else 0)
        case ["read", file, offset] if re.fullmatch(r"[0-9]{1,18}", offset):  # `isdigit` takes ² too
            print(base64.b64encode(read_piece(str(own_path(file)), int(offset))).decode())
        case ["remove", target]:
            remove_tree(str(own_path(target)))
        case _:
            raise Refused((__doc__ or "").strip())
    return 0


def write_files(directory: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Make a directory of mode 0700 with files of mode 0600; a file that is there already is replaced."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).unlink(missing_ok=True)
        descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def list_names(directory: str) -> list[str]:
    """Return the names in a directory, sorted; none if it is not there."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def open_plain(path: str | os.PathLike[str], owner: int | None = None) -> BinaryIO:
    """Open a regular file to read; OSError if it is none, such as a link or a pipe, or, with an owner (uid) given, is not that owner's.

    Whoever may write in the file's directory can have put there what leads elsewhere, or what never ends.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or owner not in (None, status.st_uid):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file of its owner", os.fspath(path))
    return os.fdopen(descriptor, "rb")


def read_piece(path: str, offset: int, owner: int | None = None) -> bytes:
    """Return at most PIECE_BYTES of a file; nothing if it is not there, or is not to be read (`open_plain`)."""
    try:
        with open_plain(path, owner) as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)
    except OSError:
        return b""


def remove_tree(path: str) -> None:
    """Remove a directory with all in it, or a file; what is not there is no error."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        return


def search_path() -> str:
    """Return where commands are looked for: as the administrator says, in a file that only root can have written."""
    try:
        status = os.stat(CONFIG)
        if status.st_uid != 0 or status.st_mode & 0o022:
            raise Refused(f"{CONFIG} must be root's and not be writable by others")
        return pathlib.Path(CONFIG).read_text().strip() or SYSTEM_PATH
    except FileNotFoundError:
        return SYSTEM_PATH


def main() -> int:
    """Run the program."""
    signal.alarm(DEADLINE_S + 5)
    os.umask(0o077)
    try:
        if 0 in (os.getuid(), os.geteuid()):
            raise Refused("this is not for root")
        return answer(sys.argv[1:], search_path())
    except Refused as error:
        print(f"daskgateway-as-user: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"daskgateway-as-user: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
