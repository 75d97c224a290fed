"""Images for a node that reaches no registry, made of what runs these tests: its Python, Dask, and
this working tree's client. `ctr images import` takes what is written here (docker-archive).

Times of files are kept, for what Python has compiled is only taken by them; rights are not: any
user may read it all.
"""

from __future__ import annotations

import compileall
import hashlib
import importlib.metadata
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from packaging.requirements import Requirement

from tests.parts import program

ROOT = pathlib.Path(__file__).parents[2]
DISTRIBUTION = "dask-gateway-grpc"
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "site-packages"}
HOME, SITE = "/usr/local", "/opt/site"  # of Python in the image, and of what is installed
PAUSE = """#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int s) { _exit(0); }
static void reap(int s) { while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) {
    signal(SIGTERM, end); signal(SIGINT, end); signal(SIGCHLD, reap);
    for (;;) pause();
}
"""


@dataclass
class Layer:
    """What an image holds, by path."""

    files: dict[str, pathlib.Path] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def tree(self, source: pathlib.Path, target: str) -> None:
        """Take a directory, but for what nobody runs."""
        for directory, inner, names in os.walk(source):
            inner[:] = [name for name in inner if name not in LEFT_OUT]
            here = target / pathlib.PurePosixPath(directory).relative_to(source)
            for name in names:
                self.files[str(here / name)] = pathlib.Path(directory) / name

    def write(self, path: pathlib.Path) -> None:
        """Write it as a tar file."""
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, source in sorted(self.files.items()):
                info = tar.gettarinfo(os.path.realpath(source), name.lstrip("/"))
                info.type = tarfile.REGTYPE  # also of what has several names
                info.size = os.stat(source).st_size
                _plain(info, 0o755 if info.mode & 0o100 else 0o644)
                with open(source, "rb") as file:
                    tar.addfile(info, file)
            for name, text in self.texts.items():
                info = tarfile.TarInfo(name.lstrip("/"))
                info.size = len(text)
                _plain(info, 0o644)
                tar.addfile(info, io.BytesIO(text.encode()))
            for name, to in self.links.items():
                info = tarfile.TarInfo(name.lstrip("/"))
                info.type, info.linkname = tarfile.SYMTYPE, to
                tar.addfile(info)


def _plain(info: tarfile.TarInfo, mode: int) -> None:
    info.mode, info.uid, info.gid, info.uname, info.gname = mode, 0, 0, "", ""


def image(layer: Layer, name: str, directory: pathlib.Path, config: Mapping[str, object]) -> None:
    """Write an image of one layer as `directory/name.tar`; it is called docker.io/test/NAME:1."""
    inner = directory / f"{name}.layer.tar"
    layer.write(inner)
    with inner.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    words = json.dumps(
        {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    told = f"{hashlib.sha256(words).hexdigest()}.json"
    manifest = [{"Config": told, "RepoTags": [called(name)], "Layers": ["layer.tar"]}]
    with tarfile.open(directory / f"{name}.tar", "w") as tar:
        tar.add(inner, "layer.tar")
        for path, content in ((told, words), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    inner.unlink()


def called(name: str) -> str:
    """Return what an image is called."""
    return f"docker.io/test/{name}:1"


def pause(directory: pathlib.Path) -> None:
    """Write the image of what holds a pod's namespaces."""
    source, made = directory / "pause.c", directory / "pause"
    source.write_text(PAUSE)
    compiler = program("gcc", "make parts")
    subprocess.run([compiler, "-static", "-O1", "-o", str(made), str(source)], check=True)
    image(Layer(files={"/pause": made}), "pause", directory, {"Entrypoint": ["/pause"]})


def dask(
    directory: pathlib.Path, *, name: str = "dask", packages: Iterable[pathlib.Path] = ()
) -> None:
    """Write the image of schedulers and workers, with some packages more if wished."""
    layer = Layer()
    base = pathlib.Path(sys.base_prefix)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    python = pathlib.Path(os.path.realpath(sys.executable))
    layer.files[f"{HOME}/bin/{version}"] = python
    layer.links[f"{HOME}/bin/python"] = version
    stdlib = pathlib.Path(sysconfig.get_path("stdlib", vars={"installed_base": str(base)}))
    layer.tree(stdlib, f"{HOME}/lib/{version}")
    layer.files |= dict(_installed())
    for package in packages:
        layer.tree(package, f"{SITE}/{package.name}")
    for package in (ROOT / "gateway", ROOT / "protos" / "daskgateway"):
        # as pip does: nothing can be written there once it runs
        compileall.compile_dir(package, quiet=1)
        layer.tree(package, f"{SITE}/{package.name}")
    programs = [python, *(path for path in layer.files.values() if ".so" in path.name)]
    layer.files |= _libraries(programs)
    busybox = program("busybox", "make parts")
    layer.files["/bin/busybox"] = pathlib.Path(busybox)
    for applet in ("sh", "cat", "mkdir", "sleep", "ls"):
        layer.links[f"/bin/{applet}"] = "busybox"
    layer.texts["/etc/passwd"] = "root:x:0:0::/:/bin/sh\ndask:x:1000:1000::/tmp:/bin/sh\n"
    layer.texts["/etc/group"] = "root:x:0:\ndask:x:1000:\n"
    env = [
        f"PATH={HOME}/bin:/bin",
        f"LD_LIBRARY_PATH=/lib:{HOME}/lib",
        f"PYTHONHOME={HOME}",
        f"PYTHONPATH={SITE}",
        "PYTHONDONTWRITEBYTECODE=1",
        "HOME=/tmp",
    ]
    image(layer, name, directory, {"Env": env})


def _installed() -> Iterator[tuple[str, pathlib.Path]]:
    """Yield the files of all that this distribution needs, without its extras."""
    waiting, seen = [DISTRIBUTION], set[str]()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        needed = [Requirement(text) for text in found.requires or ()]
        waiting += [
            one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})
        ]
        for file in found.files or ():
            source = pathlib.Path(str(found.locate_file(file)))
            if ".." in file.parts or not source.is_file() or LEFT_OUT & set(file.parts):
                continue
            # the working tree itself is taken by its files
            if name != DISTRIBUTION or ".dist-info" in file.parts[0]:
                yield f"{SITE}/{file}", source


def _libraries(programs: Iterable[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Return the shared libraries that programs need, as the loader finds them here."""
    found: dict[str, pathlib.Path] = {}
    words = ["ldd", *sorted({str(path) for path in programs})]
    told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120).stdout
    for name, path in re.findall(r"^\s*(?:(\S+) => )?(/\S+) \(0x", told, re.M):
        loader = path.startswith("/lib64/") and not name
        found[path if loader else f"/lib/{pathlib.Path(path).name}"] = pathlib.Path(path)
    return found
