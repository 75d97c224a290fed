"""Go through a release as far as it goes without publishing: build, look into what was built,
install it, and use it.

    python scripts/check_release.py        (`make release-check`)

Needs the packages `build` and `twine` where it runs.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gateway import __version__  # noqa: E402
from gateway.wire import DISTRIBUTION  # noqa: E402

STEM = f"{DISTRIBUTION.replace('-', '_')}-{__version__}"
WHEEL_HAS = (
    "gateway/__init__.py",
    "gateway/py.typed",
    "gateway/server/app.py",
    "daskgateway/v1/cluster_service.proto",
    "daskgateway/v1/descriptors.binpb",
    "daskgateway/v1/reference.md",
    "daskgateway/v1/openapi.json",
    "daskgateway/v1/cluster_service_pb2.py",
    "daskgateway/v1/cluster_service_pb2.pyi",
    "daskgateway/v1/cluster_service_pb2_grpc.py",
    f"{STEM}.dist-info/entry_points.txt",
    f"{STEM}.dist-info/licenses/LICENSE",
)
SDIST_HAS = (
    f"{STEM}/pyproject.toml",
    f"{STEM}/README.md",
    f"{STEM}/gateway/__init__.py",
    f"{STEM}/protos/daskgateway/v1/cluster.proto",
    f"{STEM}/protos_internal/daskgateway/internal/v1/agent.proto",
)
NEVER = ("tests/", "benchmarks/", ".venv", "__pycache__", ".pem", ".key")
LIGHT = """
import sys, daskgateway.v1.cluster_service_pb2_grpc, daskgateway.v1.credential_service_pb2_grpc
assert not {{"dask", "gateway"}} & set(sys.modules), "the stubs bring more than themselves"
import gateway
from importlib.metadata import entry_points, version
assert version({distribution!r}) == gateway.__version__ == {version!r}
from daskgateway import Gateway, GatewayCluster
for group in ("dask_cli", "distributed.comm.backends", "dask_cluster_discovery"):
    ours = [point for point in entry_points(group=group) if point.value.startswith("daskgateway:")]
    assert ours, group
    for point in ours:
        point.load()
"""
WHOLE = """
from importlib.metadata import entry_points
for group in ("gateway.backends", "gateway.authenticators"):
    for point in entry_points(group=group):
        point.load()
"""


def main() -> int:
    """Build and check; the first thing that is wrong ends it."""
    with tempfile.TemporaryDirectory() as place:
        built = pathlib.Path(place) / "dist"
        _run(sys.executable, "-m", "build", "--outdir", str(built), str(ROOT))
        wheel, sdist = built / f"{STEM}-py3-none-any.whl", built / f"{STEM}.tar.gz"
        _contents(zipfile.ZipFile(wheel).namelist(), WHEEL_HAS, wheel.name)
        with tarfile.open(sdist) as archive:
            _contents(archive.getnames(), SDIST_HAS, sdist.name)
        _run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
        # beside the wheel: protos, descriptors and the packages of other languages
        _run(sys.executable, str(ROOT / "scripts/stub_packages.py"), str(built / "stubs"))
        _used(
            pathlib.Path(place) / "light",
            str(wheel),
            LIGHT.format(distribution=DISTRIBUTION, version=__version__),
        )
        _used(pathlib.Path(place) / "whole", f"{wheel}[server]", WHOLE)
    print(
        f"{STEM}: wheel and sdist are whole, install and load; so are the stubs of other languages"
    )
    return 0


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


def _contents(names: list[str], wanted: tuple[str, ...], what: str) -> None:
    missing = [name for name in wanted if name not in names]
    unwanted = [name for name in names if any(part in name for part in NEVER)]
    if missing or unwanted:
        raise SystemExit(f"{what}: lacks {missing}, should not have {unwanted}")


def _used(home: pathlib.Path, what: str, program: str) -> None:
    """Install into a new environment and run a program there."""
    _run(sys.executable, "-m", "venv", str(home))
    _run(str(home / "bin/pip"), "--disable-pip-version-check", "-q", "install", what)
    _run(str(home / "bin/python"), "-W", "error::ImportWarning", "-c", program)
    _run(str(home / "bin/daskgateway"), "--version")


if __name__ == "__main__":
    sys.exit(main())
