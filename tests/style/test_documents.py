"""What the documents name is there: files, modules, and the targets of make."""

from __future__ import annotations

import fnmatch
import importlib
import pathlib
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "protos").rglob("*.md"),
    ]
)
HISTORY = "CHANGELOG.md"  # it tells of what there was
ENDINGS = (".py", ".md", ".proto", ".sh", ".toml", ".txt", ".yaml", ".c")
# Files of other people's, that look like ours.
NOT_OURS = ("daskgateway_config.py", "robots.txt", "gateway.yaml")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.*-]+(/[\w.*-]+)*/?")
MODULE = re.compile(r"(gateway|tests|benchmarks)(\.\w+)+")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def tracked() -> set[str]:
    """Return every file of the repository and every directory, as paths from its root."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    files = set(done.stdout.split()) if done.returncode == 0 else set()
    found = files or {str(path.relative_to(ROOT)) for path in ROOT.rglob("*")}
    return found | {str(parent) for path in found for parent in pathlib.PurePath(path).parents}


OURS = tracked()
PLACES = {path for path in OURS if "/" not in path and (ROOT / path).is_dir()}


def spans(text: str) -> Iterator[str]:
    """Yield what stands between single backticks."""
    yield from SPAN.findall(FENCE.sub("", text))


def looks_like_ours(span: str) -> bool:
    """Whether a text names a file or directory of this repository, were it there."""
    if not PATH.fullmatch(span) or span in NOT_OURS:
        return False
    first = span.split("/")[0]
    return ("/" in span and first in PLACES - {"."}) or (
        span.endswith(ENDINGS) and span not in ENDINGS
    )


def is_there(span: str, document: pathlib.Path) -> bool:
    """Whether there is such a file: from the root on, from the document's own directory, or below
    one of ours (`core/plan.py`)."""
    name = span.rstrip("/")
    beside = document.parent.relative_to(ROOT) / name
    patterns = (name, str(beside), f"*/{name}")
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns for path in OURS)


def resolves(dotted: str) -> bool:
    """Whether there is such a module, or such a name in one."""
    words = dotted.split(".")
    for count in range(len(words), 0, -1):
        try:
            found: object = importlib.import_module(".".join(words[:count]))
        except ModuleNotFoundError:
            continue
        for word in words[count:]:
            if not hasattr(found, word):
                return False
            found = getattr(found, word)
        return True
    return False


def targets() -> set[str]:
    """Return what make can make."""
    text = (ROOT / "Makefile").read_text()
    found = set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))
    return found | {f"bench-{path.stem}" for path in (ROOT / "benchmarks").glob("*.py")}


def made(text: str) -> Iterator[str]:
    """Yield the targets that a text's commands name."""
    for command in re.findall(r"(?:`|^\s*(?:\$ )?|&& )make( [^`\n&|;]+)", text, re.MULTILINE):
        for word in shlex.split(command, comments=True):
            if re.fullmatch(r"[a-z][a-z-]*", word):
                yield word


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(document: pathlib.Path) -> None:
    text = document.read_text()
    missing = {
        f"the link {link}"
        for link in LINK.findall(SPAN.sub("", FENCE.sub("", text)))
        if not re.match(r"\w+:", link) and not (document.parent / link).exists()
    }
    if document.name != HISTORY:
        named = set(spans(text))
        missing |= {
            f"the file {span}"
            for span in named
            if looks_like_ours(span) and not is_there(span, document)
        }
        missing |= {
            f"the module {span}"
            for span in named
            if MODULE.fullmatch(span)
            and resolves(".".join(span.split(".")[:2]))
            and not resolves(span)
        }
        missing |= {f"make {target}" for target in set(made(text)) - targets()}
    assert missing == set()


def test_a_name_of_nothing_is_found() -> None:
    """The test above, tried on what is wrong."""
    document = ROOT / "docs" / "hpc.md"
    for span in ("gateway/server/nosuch.py", "core/nosuch.py", "tests/nosuch", "NOSUCH.md"):
        assert looks_like_ours(span), span
        assert not is_there(span, document), span
    for span in ("core/plan.py", "gateway/server/core", "hpc-pbs.md", "tests/unit/test_plan*.py"):
        assert looks_like_ours(span), span
        assert is_there(span, document), span
    for span in ("/etc/daskgateway/cert.pem", "users/alice", "gateway.auth.token", "c.Proxy.x"):
        assert not looks_like_ours(span), span
    assert not resolves("gateway.backends.nosuch")
    assert not resolves("gateway.backends.contract.Nosuch")
    assert resolves("gateway.backends.contract.Backend.start")
    text = "see `make nosuch` and\n    $ make ARGS='-k plan' test && make docs  # make it\n"
    assert list(made(text)) == ["nosuch", "test", "docs"]
    assert set(made(text)) - targets() == {"nosuch"}
