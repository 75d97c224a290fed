"""Make what users of other languages build upon, as far as it goes without publishing: the protos
as an archive and as a descriptor set, a Go module, an npm package and a Maven project.

    python scripts/stub_packages.py [DIRECTORY]        (`make stub-packages`; default: build/stubs)

The packages' descriptions are in `packages/`; what is made of them is as they are published:

    daskgateway-protos-VERSION.tar.gz     the public .proto files, with the licence
    daskgateway-VERSION.binpb             FileDescriptorSet of them with comments and imports
    go/                                   a Go module, generated code in it
    npm/                                  a package for `npm publish`
    maven/                                a project for `mvn deploy`, the .proto files in it

Needs buf and, for those two, go and npm.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos" / "daskgateway" / "v1"
LEFT_OUT = ("node_modules", "dist", "target", "daskgateway")  # what builds leave in `packages/`
EPOCH = 315532800  # 1980-01-01: archives of the same files are the same


def version() -> str:
    """Return the gateway's."""
    found = re.search(r'^__version__ = "([^"]+)"', (ROOT / "gateway/__init__.py").read_text(), re.M)
    assert found is not None
    return found[1]


def semantic(pep440: str) -> str:
    """Return a version as npm and Go write it: 1.2.0rc1 is 1.2.0-rc.1."""
    found = re.fullmatch(r"(\d+\.\d+\.\d+)(?:\.?(a|b|rc|dev|post)(\d+))?", pep440)
    if found is None:
        raise SystemExit(f"the version {pep440} cannot be written for npm and Go")
    release, kind, number = found.groups()
    return f"{release}-{kind}.{number}" if kind else release


def archive(target: pathlib.Path) -> pathlib.Path:
    """Write the archive of the .proto files; return its path."""
    made = target / f"daskgateway-protos-{version()}.tar.gz"
    files = {f"daskgateway/v1/{path.name}": path for path in sorted(PROTOS.glob("*.proto"))}
    with made.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, EPOCH) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, path in {"LICENSE": ROOT / "LICENSE", **files}.items():
                content = path.read_bytes()
                entry = tarfile.TarInfo(f"daskgateway-protos-{version()}/{name}")
                entry.size, entry.mtime, entry.mode = len(content), EPOCH, 0o644
                tar.addfile(entry, io.BytesIO(content))
    return made


def descriptors(target: pathlib.Path) -> pathlib.Path:
    """Write the descriptor set; return its path."""
    made = target / f"daskgateway-{version()}.binpb"
    with tempfile.TemporaryDirectory() as place:
        _protos_into(pathlib.Path(place))
        _run(["buf", "build", place, "-o", str(made)], pathlib.Path(place))
    return made


def package(name: str, target: pathlib.Path) -> pathlib.Path:
    """Make one of `packages/`, with the version and the licence; return its directory."""
    with tempfile.TemporaryDirectory() as place:
        scratch = pathlib.Path(place)
        _protos_into(scratch / "protos")
        home = scratch / "packages" / name
        ignored = shutil.ignore_patterns(*LEFT_OUT)
        shutil.copytree(ROOT / "packages" / name, home, ignore=ignored)
        shutil.copy(ROOT / "LICENSE", home)
        FINISHED[name](home, scratch / "protos")
        made = target / name
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(home, made, ignore=shutil.ignore_patterns("node_modules"))
    return made


def _go(home: pathlib.Path, protos: pathlib.Path) -> None:
    """Generate the code, which is what is published; the version is the tag of its repository."""
    _run(["buf", "generate"], home)
    (home / "buf.gen.yaml").unlink()


def _npm(home: pathlib.Path, protos: pathlib.Path) -> None:
    for words in (["npm", "ci"], ["npm", "run", "build"]):
        _run(words, home)
    for name in ("package.json", "package-lock.json"):
        _replace(home / name, '"version": "0.0.0"', f'"version": "{semantic(version())}"')


def _maven(home: pathlib.Path, protos: pathlib.Path) -> None:
    """Put the .proto files where Maven's projects have them: a jar brings them too."""
    shutil.copytree(protos, home / "src" / "main" / "proto")
    pom = home / "pom.xml"
    _replace(pom, "<version>0.0.0</version>", f"<version>{semantic(version())}</version>")
    _replace(pom, "${project.basedir}/../../protos", "${project.basedir}/src/main/proto")


FINISHED = {"go": _go, "npm": _npm, "maven": _maven}


def _run(words: list[str], where: pathlib.Path) -> None:
    """Run a program; buf is found beside this Python. What it says is told where it fails."""
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | {"PATH": path}
    done = subprocess.run(words, cwd=where, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: {done.stdout}{done.stderr}")


def _protos_into(place: pathlib.Path) -> None:
    target = place / "daskgateway" / "v1"
    target.mkdir(parents=True)
    for path in PROTOS.glob("*.proto"):
        shutil.copy(path, target)


def _replace(path: pathlib.Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        raise SystemExit(f"{path} does not hold {old}")
    path.write_text(text.replace(old, new, 2 if path.name == "package-lock.json" else 1))


def main() -> int:
    """Make all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", nargs="?", default=str(ROOT / "build" / "stubs"))
    target = pathlib.Path(parser.parse_args().directory).resolve()
    target.mkdir(parents=True, exist_ok=True)
    made = [archive(target), descriptors(target), *(package(name, target) for name in FINISHED)]
    for path in made:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
