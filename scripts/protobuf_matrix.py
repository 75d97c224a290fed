"""Import the stubs, and carry a message through them, under every major version of protobuf that
users may have.

Each version goes into a directory of its own; nothing of this environment but Python itself is
used.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
VERSIONS = ("protobuf==5.29.*", "protobuf==6.*", "protobuf==7.*")
CHECK = """
import google.protobuf
from daskgateway.v1 import cluster_pb2, cluster_service_pb2, cluster_service_pb2_grpc, credential_service_pb2_grpc
from daskgateway.internal.v1 import agent_pb2_grpc, route_pb2_grpc
cluster = cluster_pb2.Cluster(name="users/a/clusters/b", revision=7)
cluster.spec.options.update({"worker_cores": 2.0})
cluster.spec.worker_groups["default"].count = 3
assert cluster_pb2.Cluster.FromString(cluster.SerializeToString()) == cluster
print("protobuf", google.protobuf.__version__, "imports the stubs")
"""  # noqa: E501


def main() -> int:
    failed = 0
    for version in VERSIONS:
        with tempfile.TemporaryDirectory() as target:
            install = [
                sys.executable,
                "-m",
                "pip",
                "--disable-pip-version-check",
                "-q",
                "install",
                "--target",
                target,
            ]
            subprocess.run(
                [*install, version, "grpcio>=1.65", "googleapis-common-protos"], check=True
            )
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join([target, str(ROOT / "protos")]),
            }
            done = subprocess.run(
                [sys.executable, "-S", "-W", "error", "-c", CHECK], env=environment
            )
            failed += done.returncode != 0
            if done.returncode:
                print(f"{version}: the stubs do not import", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
