"""daskgateway-as-user: what sudo may run as a user for the gateway, and nothing else. One file to
read: standard library only.

    daskgateway-as-user run -- sbatch|scancel|squeue|sacct|qsub|qdel|qstat|qselect words…
    daskgateway-as-user write DIRECTORY < JSON of {name: base64}   make it 0700, its files 0600
    daskgateway-as-user entries DIRECTORY                          JSON list of names
    daskgateway-as-user size FILE                                  in bytes; 0 if it is not there
    daskgateway-as-user read FILE OFFSET                           base64 of at most 64 KiB
    daskgateway-as-user remove PATH

Who asks may have stolen the gateway's account, and others may write where a path leads along. So it
refuses to be root; it runs only the commands named above and only from SYSTEM_PATH; and it touches
only what is below a directory named `daskgateway` or `.daskgateway`, by a way that nobody can have
bent but root and this user (`unbent`). It ends by itself after DEADLINE_S, for who started it
cannot end it.
"""

from __future__ import annotations

import sys

# before anything is imported that could be somebody else's
if __name__ == "__main__" and not sys.flags.isolated:
    sys.exit("daskgateway-as-user: it must be run as python3 -I, which its first line should say")

import base64
import contextlib
import errno
import grp
import itertools
import json
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import BinaryIO

COMMANDS = ("sbatch", "scancel", "squeue", "sacct", "qsub", "qdel", "qstat", "qselect")
# one line, the administrator's: directories of the commands, as in PATH
CONFIG = "/etc/daskgateway/as-user.path"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/opt/slurm/bin:/opt/pbs/bin"
# Of squeue and sacct, for sudo keeps nothing: times in UTC, and lists of waiting elements in full,
# which are cut short by default.
LISTING_ENVIRONMENT = {"TZ": "UTC", "SLURM_TIME_FORMAT": "standard", "SLURM_BITSTR_LEN": "0"}
# of the caller's environment, if they name what only root may write
KEPT_VARIABLES = ("SLURM_CONF", "PBS_CONF_FILE")
DEADLINE_S = 120
REMOVE_S = 25.0  # longest try to remove a directory; who asks waits for 30 s
MAX_INPUT_BYTES = 16 * 2**20
MAX_CONFIG_BYTES = 4096
MAX_FILES = 64  # written by one call
MAX_NAMES = 100_000  # told of one directory
MAX_LINKS = 40  # on the way to a directory, as in the kernel
MAX_SHOWN = 200  # characters of what was asked for that a refusal repeats
PIECE_BYTES = 64 * 1024
OWN_PARTS = ("daskgateway", ".daskgateway")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,254}")


class Refused(Exception):
    """What was asked for is not for this program to do; the text says what would be right."""


def shown(text: str) -> str:
    """Return what somebody asked for as a refusal may repeat it: on one line, and not all of it."""
    return repr(text) if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]!r}…"


def program(name: str, path: str) -> str:
    """Return the file of a command; Refused if it is none that may be run."""
    base = os.path.basename(name)
    if base not in COMMANDS:
        raise Refused(f"{shown(name)}: only {', '.join(COMMANDS)} may be run")
    found = shutil.which(base, path=path)
    if found is None or name not in (base, found):
        raise Refused(f"{shown(name)}: not found in {path}; the directories are those of {CONFIG}")
    if any(os.stat(place).st_mode & 0o002 for place in (found, os.path.dirname(found))):
        raise Refused(
            f"{found}, or its directory, can be written by everybody: no command is run from there"
        )
    return found


def run(words: Sequence[str], path: str) -> int:
    """Run a command of a batch system to its end, with a clean environment; return its exit
    code."""
    if len(words) < 2 or words[0] != "--":
        raise Refused("run -- command words…")
    child = subprocess.Popen(
        [program(words[1], path), *words[2:]],
        env=environment(words[1], path),
        cwd="/",
        start_new_session=True,
    )
    try:
        code = child.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        # with all that it has started, which would hold our output open
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise Refused(f"{words[1]} did not answer within {DEADLINE_S} s") from None
    return code if code >= 0 else 128 - code  # as a shell tells of a signal


def environment(command: str, path: str) -> dict[str, str]:
    """Return the environment of a command: of the caller's own, what sudo was told to keep and what
    cannot lead elsewhere."""
    try:
        account = pwd.getpwuid(os.getuid())
    except KeyError:
        raise Refused(f"uid {os.getuid()} is no account of this machine") from None
    kept = {
        "PATH": path,
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "LC_ALL": "C",
    }
    for name, value in ((name, os.environ[name]) for name in KEPT_VARIABLES if name in os.environ):
        named = pathlib.PurePosixPath(value)
        if not named.is_absolute() or ".." in named.parts:
            raise Refused(f"{name}: {shown(value)} must be absolute, without ..")
        with unbent(named.parent) as at, open_plain(named.name, 0, at) as file:
            if os.fstat(file.fileno()).st_mode & 0o022:  # it may name libraries to load
                raise Refused(f"{name}: {shown(value)} can be written by others than root")
        kept[name] = value
    return kept | LISTING_ENVIRONMENT if os.path.basename(command) in ("squeue", "sacct") else kept


def search_path() -> str:
    """Return where commands are looked for: as the administrator says, in a file that only root can
    have written."""
    try:
        descriptor = os.open(CONFIG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return SYSTEM_PATH
    except OSError as error:  # such as a link
        raise Refused(f"{CONFIG} cannot be read, or is no plain file: {error.strerror}") from None
    try:
        file, directory = os.fstat(descriptor), os.stat(os.path.dirname(CONFIG))
        if any(
            one.st_uid != 0 or one.st_mode & 0o022 for one in (file, directory)
        ) or not stat.S_ISREG(file.st_mode):
            raise Refused(
                f"{CONFIG} and its directory must be root's and not be writable by others"
            )
        text = os.fsdecode(os.read(descriptor, MAX_CONFIG_BYTES + 1)).strip()
    finally:
        os.close(descriptor)
    if (
        len(text) > MAX_CONFIG_BYTES
        or not text.isprintable()
        or not all(os.path.isabs(part) for part in text.split(":") if text)
    ):
        raise Refused(
            f"{CONFIG} must be one line of at most {MAX_CONFIG_BYTES} bytes: directories from /"
            f" on, with a colon between two"
        )
    return text or SYSTEM_PATH


def own_path(text: str, *, below: bool = False) -> pathlib.PurePosixPath:
    """Return a path that may be touched, as far as its text tells; Refused if it may not. `below`:
    it must not be the named directory."""
    path = pathlib.PurePosixPath(text)
    parts = path.parts[:-1] if below else path.parts
    if (
        not path.is_absolute()
        or ".." in path.parts
        or "\0" in text
        or not any(part in OWN_PARTS for part in parts)
    ):
        raise Refused(
            f"{shown(text)}: must be absolute, without .., and below a directory named daskgateway"
            f" or .daskgateway"
        )
    return path


@contextlib.contextmanager
def unbent(path: pathlib.PurePosixPath, *, make: bool = False) -> Iterator[int]:
    """Open a directory (O_PATH), made with those above it if it is to be; OSError if it is not
    there.

    Nobody but root and this user can have bent the way, else it is Refused: every directory on it
    is theirs, and others cannot put into it what they like. Links of theirs are followed above the
    first directory named in OWN_PARTS; from there on none is.
    """
    marker = next(
        (number for number, part in enumerate(path.parts) if part in OWN_PARTS), len(path.parts)
    )
    todo = [(part, number < marker) for number, part in enumerate(path.parts)][1:]
    links = 0
    at = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while todo:
            part, may_link = todo.pop(0)
            found = _step(part, at, make)
            if found is not None:
                os.close(at)
                at = found
                _check_directory(str(path), part, os.fstat(at))
                continue
            links += 1
            if (
                not may_link
                or links > MAX_LINKS
                or os.lstat(part, dir_fd=at).st_uid not in (0, os.getuid())
            ):
                raise Refused(
                    f"{shown(str(path))}: {shown(part)} is a link where a directory of this user's"
                    f" must be"
                )
            target = pathlib.PurePosixPath(os.readlink(part, dir_fd=at))
            todo[:0] = [(word, True) for word in target.parts if word != "/"]
            if target.is_absolute():
                os.close(at)
                at = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        yield at
    finally:
        os.close(at)


def _step(part: str, at: int, make: bool) -> int | None:
    """Open the next directory of a way, None if it is a link."""
    # as a directory, so that a home that is mounted on demand is there
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(part, flags, dir_fd=at)
    except FileNotFoundError:
        if not make:
            raise
    except NotADirectoryError:
        if stat.S_ISLNK(os.lstat(part, dir_fd=at).st_mode):
            return None
        raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, 0o700, dir_fd=at)
    return os.open(part, flags, dir_fd=at)


def _check_directory(path: str, part: str, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.getuid()):
        raise Refused(f"{shown(path)}: {shown(part)} belongs to neither root nor this user")
    others = 0o022
    # a group may, if it is root's or a private one, of this user's own name
    with contextlib.suppress(KeyError):
        others -= 0o020 * (
            status.st_gid == 0
            or grp.getgrgid(status.st_gid).gr_name == pwd.getpwuid(os.getuid()).pw_name
        )
    if status.st_mode & others and not status.st_mode & stat.S_ISVTX:
        raise Refused(
            f"{shown(path)}: others can write in {shown(part)}; take that from them, or set its"
            f" sticky bit"
        )


def answer(words: Sequence[str], path: str) -> int:
    """Do what the words say; return the exit code."""
    match list(words):
        case ["run", *rest]:
            return run(rest, path)
        case ["write", directory]:
            write(own_path(directory))
        case ["entries", directory]:
            names: list[str] = []
            with contextlib.suppress(FileNotFoundError), unbent(own_path(directory)) as at:
                names = list_names(f"/proc/self/fd/{at}")
            print(json.dumps(names))
        case ["size", file]:
            print(_look(own_path(file, below=True), 0, 0)[0])
        # `isdigit` takes ² too
        case ["read", file, offset] if re.fullmatch(r"[0-9]{1,18}", offset):
            print(
                base64.b64encode(
                    _look(own_path(file, below=True), int(offset), PIECE_BYTES)[1]
                ).decode()
            )
        case ["remove", target]:
            with (
                contextlib.suppress(FileNotFoundError),
                unbent((tree := own_path(target, below=True)).parent) as at,
            ):
                remove_tree(tree.name, at)
        case _:
            raise Refused((__doc__ or "").strip())
    return 0


def write(directory: pathlib.PurePosixPath) -> None:
    """Make a directory with files out of standard input. It is closed to others, if files are put
    into it."""
    files = _given_files()
    with unbent(directory, make=True) as at:
        if files and os.fstat(at).st_uid != os.getuid():
            raise Refused(
                f"{shown(str(directory))}: must be this user's own, for files to be put into it"
            )
        if files:
            os.chmod(f"/proc/self/fd/{at}", 0o700)
        put_files(at, files)


def _given_files() -> dict[str, bytes]:
    """Return the files of standard input; Refused if it is anything else."""
    raw = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1) if sys.stdin is not None else b""
    # no JSON, no base64, no text, or nested without end
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        files = json.loads(raw) if len(raw) <= MAX_INPUT_BYTES else None
        if isinstance(files, dict) and len(files) <= MAX_FILES and all(map(_NAME.fullmatch, files)):
            return {
                name: base64.b64decode(content, validate=True) for name, content in files.items()
            }
    raise Refused(
        f"write: standard input must be JSON of {{name: base64}}, at most {MAX_FILES} files and"
        f" {MAX_INPUT_BYTES // 2**20} MiB"
    )


def _look(path: pathlib.PurePosixPath, offset: int, count: int) -> tuple[int, bytes]:
    """Return a file's size, and a piece of it; nothing of what is not there, or not a plain file of
    this user's under this name alone."""
    with (
        contextlib.suppress(OSError),
        unbent(path.parent) as at,
        open_plain(path.name, os.getuid(), at) as file,
    ):
        status = os.fstat(file.fileno())
        if status.st_nlink == 1:  # else others may have given it this name
            file.seek(offset)
            return status.st_size, file.read(count)
    return 0, b""


def put_files(at: int, files: Mapping[str, bytes]) -> None:
    """Put files of mode 0600 into an open directory; what has their names already is replaced, and
    no link is followed."""
    for name, content in files.items():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=at)
        descriptor = os.open(
            name,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=at,
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def list_names(directory: str) -> list[str]:
    """Return the names in a directory, sorted; none if it is not there. Refused if there are more
    than MAX_NAMES."""
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in itertools.islice(entries, MAX_NAMES + 1))
    except OSError:
        return []
    if len(names) > MAX_NAMES:
        raise Refused(
            f"{shown(directory)} has more than {MAX_NAMES} files; remove what is not needed"
        )
    return names


def open_plain(
    path: str | os.PathLike[str], owner: int | None = None, at: int | None = None
) -> BinaryIO:
    """Open a regular file to read, of an owner (uid) if one is given; OSError for a link, a pipe
    and whatever else others may put there."""
    descriptor = os.open(
        path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=at
    )
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or owner not in (None, status.st_uid):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file of its owner", os.fspath(path))
    return os.fdopen(descriptor, "rb")


def remove_tree(
    path: str, at: int | None = None, *, within_s: float = REMOVE_S, owners: Collection[int] = ()
) -> None:
    """Remove a directory with all in it, or a file, by descriptors: no link is followed. What is
    not there is no error.

    A directory's own directories are moved to the top, where each has its turn: so depth costs
    neither memory nor descriptors, and a try that is given up after `within_s` has done its part.
    OSError says what stands in the way. `at`: the open directory that the path is relative to.
    `owners` (uids): root enters directories of theirs and its own alone, so that nobody has
    another's emptied.
    """
    until, names = (
        time.monotonic() + within_s,
        map(f"{os.urandom(8).hex()}-{{}}".format, itertools.count()),
    )

    def empty(name: str, top: int) -> None:
        if not _gone(name, top, until):
            with _opened(name, top, owners) as inner:
                _each(inner, lift, top)
            os.rmdir(name, dir_fd=top)

    def lift(name: str, at: int, top: int) -> None:
        if not _gone(name, at, until):
            with _opened(name, at, owners):  # what is moved must be writable
                os.rename(name, next(names), src_dir_fd=at, dst_dir_fd=top)

    try:
        if not _gone(path, at, until):
            with _opened(path, at, owners) as top:
                while not _gone(path, at, until):
                    _each(top, empty)
    except TimeoutError:
        raise TimeoutError(
            errno.ETIMEDOUT, f"not removed within {within_s:g} s; going on with it later", path
        ) from None
    except OSError as error:
        # without what its user may have called a file within
        raise OSError(error.errno, error.strerror, path) from None


def _each(directory: int, work: Callable[..., None], *more: int) -> None:
    """Do something with every entry of an open directory; the first error is raised when all have
    been tried, TimeoutError at once."""
    failed: OSError | None = None
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                work(entry.name, directory, *more)
            except TimeoutError:
                raise
            except OSError as error:
                failed = failed or error
    if failed is not None:
        raise failed


def _gone(name: str, at: int | None, until: float) -> bool:
    """Remove a file or an empty directory; whether it is gone: a directory with something in it is
    not. TimeoutError if it is late."""
    if time.monotonic() > until:
        raise TimeoutError
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        return True
    except IsADirectoryError:
        try:
            # before it is opened: a file system that a user has mounted on it would be asked then
            os.rmdir(name, dir_fd=at)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
            return error.errno == errno.ENOENT
    return True


@contextlib.contextmanager
def _opened(name: str, at: int | None, owners: Collection[int]) -> Iterator[int]:
    """Open a directory to empty it. It becomes root's first if we are root: who has it open still
    can put nothing more into it."""
    with contextlib.ExitStack() as stack:
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        stack.callback(os.close, handle)
        itself, owner = f"/proc/self/fd/{handle}", os.fstat(handle).st_uid
        if owners and owner not in (0, os.geteuid(), *owners):
            raise PermissionError(errno.EPERM, "it has a directory of another account in it")
        with contextlib.suppress(PermissionError):  # where root's rights do not reach
            if os.geteuid() == 0 and owner != 0:
                os.chown(itself, 0, 0)
            os.chmod(itself, 0o700)  # its user may have closed it
        descriptor = os.open(itself, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        yield descriptor


def settle() -> None:
    """Undo what whoever started this process may have left it: signals that do not arrive, closed
    descriptors, files open to others."""
    ignored = {
        number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN
    }
    for number in ignored - {signal.SIGPIPE, signal.SIGXFSZ}:  # which become errors
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.alarm(DEADLINE_S + 5)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # else a file with secrets would become standard output
    while os.open(os.devnull, os.O_RDWR) <= 2:
        pass


def main() -> int:
    """Run the program."""
    try:
        settle()
        if 0 in os.getresuid():
            raise Refused("this is not for root")
        if len({*os.getresuid()}) > 1 or len({*os.getresgid()}) > 1:
            raise Refused(
                "it must be one user and one group alone, with no right of another's to fall back"
                " on"
            )
        return answer(sys.argv[1:], search_path())
    except (Refused, OSError, ValueError) as error:
        print(f"daskgateway-as-user: {error}", file=sys.stderr)
        return 2 if isinstance(error, Refused) else 1


if __name__ == "__main__":
    sys.exit(main())
