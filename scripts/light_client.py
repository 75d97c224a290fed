"""Install only the light client, out of a wheel and under the oldest Python that is here, and
compute with it on a real gateway.

`python3.10` is used where it is found, else the Python that runs this.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SERVER_ONLY = ("sqlalchemy", "aiohttp", "traitlets", "uvloop", "h2", "grpc_interceptor")
CHECK = f"""
import importlib.util, sys
assert not [name for name in {SERVER_ONLY!r} if importlib.util.find_spec(name)], "the light install brings a server's packages"
from importlib.resources import files
assert all(files(name).joinpath("py.typed").is_file() for name in ("gateway", "daskgateway")), "type checkers see no types"
import asyncio
from daskgateway import AsyncGateway, Gateway, GatewayCluster
with GatewayCluster("light", n_workers=1) as cluster, cluster.get_client() as client:
    assert client.submit(sum, [20, 22]).result(timeout=60) == 42
    assert "light, ACTIVE" in repr(Gateway().get_cluster("light"))
    assert asyncio.run(AsyncGateway().get_cluster("light")).uid == cluster.describe().uid == cluster.uid
print("Python", ".".join(map(str, sys.version_info[:3])), "computes with the light client")
"""  # noqa: E501


def works(python: str) -> bool:
    """Whether a command is a Python that runs."""
    return (
        shutil.which(python) is not None
        and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0
    )


def main() -> int:
    sys.path.insert(0, str(ROOT))
    from tests.e2e.gateway_process import GatewayProcess

    python = next(command for command in ("python3.10", sys.executable) if works(command))
    with tempfile.TemporaryDirectory() as directory:
        home = pathlib.Path(directory) / "venv"
        subprocess.run([python, "-m", "venv", str(home)], check=True)
        subprocess.run(
            [str(home / "bin/pip"), "--disable-pip-version-check", "-q", "install", str(ROOT)],
            check=True,
        )
        gateway = GatewayProcess(pathlib.Path(directory))
        gateway.start("--DaskGateway.stop_clusters_on_exit=True")
        try:
            environment = gateway.environment()
            subprocess.run(
                [str(home / "bin/python"), "-c", CHECK], check=True, env=environment, cwd=directory
            )
            subprocess.run(
                [str(home / "bin/daskgateway"), "clusters", "list", "--all"],
                check=True,
                env=environment,
                cwd=directory,
            )
            refused = subprocess.run(
                [str(home / "bin/daskgateway"), "serve"],
                env=environment,
                cwd=directory,
                capture_output=True,
                text=True,
            )
            assert refused.returncode == 2, refused
            assert (
                "pip install 'dask-gateway-grpc[server]'" in refused.stderr
                or "Python 3.11" in refused.stderr
            ), refused.stderr
        finally:
            gateway.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
