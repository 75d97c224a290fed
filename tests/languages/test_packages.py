"""What a release publishes for other languages: it is whole, nothing of the gateway's own is in it,
and it says the gateway's version."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import tarfile
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest
from daskgateway.v1 import cluster_service_pb2, credential_service_pb2
from google.protobuf import descriptor_pb2

from gateway import __version__
from tests.languages import building

ROOT = building.ROOT
PROTOS = {path.name for path in (ROOT / "protos/daskgateway/v1").glob("*.proto")}
pytestmark = pytest.mark.timeout(building.BUILD_S + 60)


def _script() -> Any:
    spec = spec_from_file_location("stub_packages", ROOT / "scripts/stub_packages.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()


def test_the_archive_has_the_public_protos_and_the_licence_alone(tmp_path: pathlib.Path) -> None:
    made = SCRIPT.archive(tmp_path)
    stem = f"daskgateway-protos-{__version__}"
    assert made.name == f"{stem}.tar.gz"
    with tarfile.open(made) as archive:
        names = set(archive.getnames())
    assert names == {f"{stem}/LICENSE"} | {f"{stem}/daskgateway/v1/{name}" for name in PROTOS}
    (tmp_path / "again").mkdir()
    assert SCRIPT.archive(tmp_path / "again").read_bytes() == made.read_bytes()


def test_stubs_are_generated_from_the_archive_alone(tmp_path: pathlib.Path) -> None:
    with tarfile.open(SCRIPT.archive(tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    (module,) = (path for path in tmp_path.iterdir() if path.is_dir())
    files = [str(path.relative_to(module)) for path in module.rglob("*.proto")]
    out = tmp_path / "generated"
    out.mkdir()
    words = [sys.executable, "-m", "grpc_tools.protoc", f"-I{module}", f"--python_out={out}"]
    done = subprocess.run([*words, *files], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in out.rglob("*_pb2.py")} == {
        name.replace(".proto", "_pb2.py") for name in PROTOS
    }


def test_the_descriptor_set_has_every_method_with_its_comment(tmp_path: pathlib.Path) -> None:
    found = descriptor_pb2.FileDescriptorSet.FromString(SCRIPT.descriptors(tmp_path).read_bytes())
    files = {file.name: file for file in found.file}
    assert {name for name in files if name.startswith("daskgateway/")} == {
        f"daskgateway/v1/{name}" for name in PROTOS
    }
    assert "google/protobuf/duration.proto" in files  # whoever reads it needs nothing else
    for module in (cluster_service_pb2, credential_service_pb2):
        file = files[module.DESCRIPTOR.name]
        for service in module.DESCRIPTOR.services_by_name.values():
            commented = {
                tuple(place.path)
                for place in file.source_code_info.location
                if place.leading_comments
            }
            assert {(6, 0, 2, index) for index, _ in enumerate(service.methods)} <= commented


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("0.1.0", "0.1.0"),
        ("1.2.0.dev0", "1.2.0-dev.0"),
        ("1.2.0rc1", "1.2.0-rc.1"),
        ("10.0.3.post2", "10.0.3-post.2"),
    ],
)
def test_versions_are_written_as_npm_and_go_know_them(ours: str, theirs: str) -> None:
    assert SCRIPT.semantic(ours) == theirs
    with pytest.raises(SystemExit, match="cannot be written"):
        SCRIPT.semantic("1.2")


def test_the_npm_package_is_whole(tmp_path: pathlib.Path) -> None:
    building.built(building.TYPESCRIPT)  # which says what is missing here
    made = SCRIPT.package("npm", tmp_path)
    told = json.loads((made / "package.json").read_text())
    assert (told["name"], told["version"]) == ("@daskgateway/stubs", SCRIPT.semantic(__version__))
    words = ["npm", "pack", "--dry-run", "--json"]
    done = subprocess.run(words, cwd=made, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    files = {one["path"] for one in json.loads(done.stdout)[0]["files"]}
    generated = {
        f"dist/daskgateway/v1/{name.removesuffix('.proto')}_pb.{kind}"
        for name in PROTOS
        for kind in ("js", "d.ts")
    }
    errors = {
        f"dist/google/rpc/{name}_pb.{kind}"
        for name in ("status", "error_details")
        for kind in ("js", "d.ts")
    }
    assert files == generated | errors | {"LICENSE", "package.json"}


def test_the_go_module_is_whole_and_builds(tmp_path: pathlib.Path) -> None:
    building.built(building.GO)
    made = SCRIPT.package("go", tmp_path)
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert {"go.mod", "go.sum", "LICENSE", "daskgateway/v1/cluster.pb.go"} <= files
    assert "daskgateway/v1/cluster_service_grpc.pb.go" in files
    assert "daskgateway/v1/daskgatewayv1connect/cluster_service.connect.go" in files
    assert [name for name in files if "internal" in name] == []
    words = ["go", "build", "./..."]
    done = subprocess.run(words, cwd=made, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_the_maven_project_is_whole_and_builds(tmp_path: pathlib.Path) -> None:
    building.built(building.JAVA)
    made = SCRIPT.package("maven", tmp_path)
    assert f"<version>{SCRIPT.semantic(__version__)}</version>" in (made / "pom.xml").read_text()
    done = subprocess.run(
        ["mvn", "-q", "-B", "package"], cwd=made, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout
    (jar,) = (made / "target").glob("*.jar")
    done = subprocess.run(["jar", "tf", str(jar)], capture_output=True, text=True, timeout=60)
    assert "io/github/daskgateway/v1/Cluster.class" in done.stdout
    assert "io/github/daskgateway/v1/ClusterServiceGrpc.class" in done.stdout
    assert {f"daskgateway/v1/{name}" for name in PROTOS} <= set(done.stdout.split())


def test_pythons_stubs_import_nothing_of_dask(tmp_path: pathlib.Path) -> None:
    stubs = sorted(
        f"daskgateway.v1.{path.stem}" for path in (ROOT / "protos/daskgateway/v1").glob("*_pb2*.py")
    )
    program = tmp_path / "imports.py"
    program.write_text("".join(f"import {name}\n" for name in stubs) + "print('alone')\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/languages/alone.py"), str(program)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("alone\n", "")


def test_what_is_to_be_alone_is_refused_dask(tmp_path: pathlib.Path) -> None:
    """The test above, tried on what is wrong."""
    program = tmp_path / "imports.py"
    program.write_text("from daskgateway import Gateway\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/languages/alone.py"), str(program)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert re.search("the stubs are to be used alone, and (gateway|dask|click)", done.stderr)


@pytest.mark.parametrize("lock", ["packages/npm", "examples/typescript"])
def test_lock_files_name_no_addresses(lock: str) -> None:
    text = (ROOT / lock / "package-lock.json").read_text()
    assert re.findall(r'"resolved": "(?!file:)[^"]*"', text) == []
    assert "://" not in re.sub(r'"url": "[^"]*"', "", text)
