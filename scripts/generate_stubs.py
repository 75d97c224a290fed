"""Make what is made of the .proto files, in place: Python's stubs, and the descriptors with their
comments, and what is written of the API by itself (`generate_reference.py`).

usage: python scripts/generate_stubs.py [--check]

The public API is in protos/, what server, agent and edge say among themselves in protos_internal/:
two modules, so that nobody who generates stubs from the first gets the second. Python's stubs of
both are one package, in protos/.

protoc stamps its own version into what it generates and makes the import fail on older runtimes,
even where the code would work there. Users bring the protobuf and grpcio their environment has, so
those stamps are taken out; that the stubs do import under protobuf 5, 6 and 7 is tested instead
(tests/style/test_stubs.py, scripts/protobuf_matrix.sh).
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
import tempfile

import generate_reference
from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = pathlib.Path(__file__).resolve().parent.parent / "protos"
INTERNAL = ROOT.parent / "protos_internal"
# The public API with its comments, which stubs leave out: what reflection and the references tell.
DESCRIPTORS = pathlib.PurePosixPath("daskgateway/v1/descriptors.binpb")
# What is written of it by itself, and served by gateways.
REFERENCE = DESCRIPTORS.with_name("reference.md")
OPENAPI = DESCRIPTORS.with_name("openapi.json")

_RUNTIME_IMPORT = re.compile(
    r"^from google\.protobuf import runtime_version as _runtime_version\n", re.M
)
_RUNTIME_CHECK = re.compile(
    r"^_runtime_version\.ValidateProtobufRuntimeVersion\(\n(?:.*\n)*?\)\n", re.M
)
_GRPC_CHECK = re.compile(r"^GRPC_GENERATED_VERSION = (?:.*\n)*?(?=\n\nclass |\n\ndef )", re.M)
_GRPC_IMPORTS = re.compile(r"^import warnings\n", re.M)
_GRPC_METHOD_FLAG = re.compile(r",\n +_registered_method=True\)")


def generate(target: pathlib.Path) -> None:
    """Write the stubs of every .proto to the same places under `target`, and the descriptors."""
    from grpc_tools import _proto, protoc  # type: ignore[import-untyped]

    well_known = (
        pathlib.Path(_proto.__file__).parent
        if _proto.__file__
        else pathlib.Path(_proto.__path__[0])
    )
    public, internal = (
        sorted(str(path.relative_to(module)) for path in module.rglob("*.proto"))
        for module in (ROOT, INTERNAL)
    )
    include = [f"-I{ROOT}", f"-I{INTERNAL}", f"-I{well_known}"]
    stubs = [f"--python_out={target}", f"--pyi_out={target}", f"--grpc_python_out={target}"]
    told = ["--include_source_info", f"--descriptor_set_out={target / DESCRIPTORS}"]
    for made in ([*stubs, *public, *internal], [*told, *public]):
        if protoc.main(["protoc", *include, *made]) != 0:
            raise SystemExit("protoc failed")
    told_of = FileDescriptorSet.FromString((target / DESCRIPTORS).read_bytes())
    (target / REFERENCE).write_text(generate_reference.reference(told_of))
    (target / OPENAPI).write_text(generate_reference.openapi(told_of))
    for path in target.rglob("*_pb2*.py"):
        path.write_text(portable(path.read_text()))
    for path in list(target.rglob("*_pb2_grpc.py")):
        if "class " not in path.read_text():
            path.unlink()  # a file without a service has nothing to say here


def portable(text: str) -> str:
    """Return generated code without its checks of the protobuf and grpcio versions."""
    text = _RUNTIME_CHECK.sub("", _RUNTIME_IMPORT.sub("", text))
    return _GRPC_IMPORTS.sub("", _GRPC_CHECK.sub("", text))


def difference(left: pathlib.Path, right: pathlib.Path) -> list[str]:
    """Return the paths, relative to both, of generated files that differ or exist on one side
    only."""

    def contents(base: pathlib.Path) -> dict[str, bytes]:
        return {
            str(p.relative_to(base)): p.read_bytes()
            for p in (*base.rglob("*_pb2*.py*"), *(base / DESCRIPTORS).parent.iterdir())
            if p.suffix in (".py", ".pyi", ".binpb", ".md", ".json") and p.name != "__init__.py"
        }

    a, b = contents(left), contents(right)
    return sorted(path for path in a.keys() | b.keys() if a.get(path) != b.get(path))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--check",
        action="store_true",
        help="only say whether the stubs are those of the .proto files",
    )
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        generate(pathlib.Path(scratch))
        differing = difference(ROOT, pathlib.Path(scratch))
    if differing:
        print(
            "stubs or descriptors differ from the .proto files; run `make stubs`:",
            *differing,
            sep="\n  ",
            file=sys.stderr,
        )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
