"""Which file of the user's hides a package from us: a script is often called as what it uses, and
Python looks in the program's directory first.

Needs as little as it can: what is hidden may be a part of Python itself.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Iterator

# Packages of others that we need, and that fail late if something else has their name.
NEEDED = ("dask", "distributed", "grpc", "google", "tornado", "msgpack", "cloudpickle", "yaml")
# Of these the client's library can do without; a program of such a name would be run twice.
OF_PROGRAMS = ("click", "rich", "cryptography", "packaging")
_OF_ALL = ("__init__.py", "__pycache__", "py.typed")  # in any package


def behind(error: BaseException) -> str:
    """Return which file hides a package, in a sentence, if an import failed by it; else nothing."""
    chain = _chain(error)
    said = " ".join(map(str, chain))
    named = [path for name, path in _loaded() if f"'{name}'" in said or f"'{name}." in said]
    for path in [*_traced(chain), *named, *(path for name, path in _loaded() if name in NEEDED)]:
        if words := _told(path):
            return words
    return ""


def loaded() -> str:
    """Return which file was imported, or is the program itself, in place of a package that we need,
    in a sentence; nothing if none is."""
    for name, path in _loaded():
        if name in NEEDED and (words := _told(path)):
            return words
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    return _told(program) if program and _name(program) in (*NEEDED, *OF_PROGRAMS) else ""


def _loaded() -> Iterator[tuple[str, str]]:
    """Yield modules of the first level with their files."""
    for name in [name for name in list(sys.modules) if "." not in name]:
        path = getattr(sys.modules.get(name), "__file__", None)
        if name != "__main__" and isinstance(path, str):
            yield name, path


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an error with those that it came of."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _traced(chain: list[BaseException]) -> Iterator[str]:
    """Yield files that were being run when errors were raised, the innermost first."""
    for error in chain:
        files, at = [], error.__traceback__
        while at is not None:
            files.append(at.tb_frame.f_code.co_filename)
            at = at.tb_next
        if isinstance(error, SyntaxError) and error.filename:  # which never ran
            yield error.filename
        yield from reversed(files)


def _name(path: str) -> str:
    folder, file = os.path.split(path)
    return os.path.basename(folder) if file == "__init__.py" else file.removesuffix(".py")


def _told(path: str) -> str:
    """Return the sentence about a file, if it hides something of another place."""
    if not path.endswith(".py"):  # such as Dask's own command, a program called `dask`
        return ""
    path = os.path.abspath(path)
    name = _name(path)
    is_package = os.path.basename(path) == "__init__.py"
    place = os.path.dirname(os.path.dirname(path) if is_package else path)
    if place in _of_python() or not _finds(place) or not _is_another(name, path, place):
        return ""
    what = os.path.dirname(path) if is_package else path
    kind = "folder" if is_package else "file"
    return f"{what} hides the package {name} from daskgateway: give that {kind} another name"


def _of_python() -> set[str]:
    """Return the directories of Python itself, and where packages are installed."""
    places = {os.path.dirname(os.path.abspath(os.__file__))}
    named = ("site-packages", "dist-packages", "lib-dynload")
    return places | {one for one in sys.path if os.path.basename(one) in named}


def _finds(place: str) -> bool:
    """Whether Python looks for modules there."""
    return any(_same(one or os.getcwd(), place) for one in sys.path)


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _is_another(name: str, path: str, place: str) -> bool:
    """Whether the module that Python would find without that place is not of the same kind: a copy
    of a package that somebody works on is no other."""
    if name in sys.builtin_module_names:
        return False  # which nothing hides
    later = [one for one in sys.path if not _same(one or os.getcwd(), place)]
    found = importlib.machinery.PathFinder.find_spec(name, later)
    if found is None:
        return name in sys.stdlib_module_names
    theirs = list(found.submodule_search_locations or ())
    if not theirs or os.path.basename(path) != "__init__.py":
        return True
    return not (_content(os.path.dirname(path)) & set().union(*map(_content, theirs)))


def _content(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder)) - set(_OF_ALL)
    except OSError:
        return set()
