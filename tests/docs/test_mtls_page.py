"""docs/mtls.md, followed from an empty directory: its commands and its configuration as they stand;
only the name, the port and the directory are those here."""

from __future__ import annotations

import pathlib
import sys
import time

import pytest

from tests.docs.pages import WITHIN_S, blocks, run
from tests.e2e.gateway_process import GatewayProcess
from tests.parts import PATH, program
from tests.parts.client_certificates import Authority

NAME, PLACE = "mtls.dask.example.org", "/etc/daskgateway/"


@pytest.mark.timeout(600)
def test_the_page_leads_from_nothing_to_a_robot_that_is_let_in(tmp_path: pathlib.Path) -> None:
    program("openssl", "apt-get install openssl")
    program("grpcurl", "make parts")
    authority, robot, use, back = blocks("mtls", "console")
    for script in (authority, robot):
        done = run(script, tmp_path)
        assert done.returncode == 0, done.stderr
    site = Authority(tmp_path, "site")
    edge, listener = site.server("127.0.0.1"), site.server("localhost")
    listener.cert.rename(tmp_path / "mtls.pem")
    listener.key.rename(tmp_path / "mtls.key")
    (tmp_path / "denied").touch(mode=0o644)
    [settings] = blocks("mtls", "{code-block} python")
    served = GatewayProcess(
        tmp_path,
        settings.replace(NAME, "localhost").replace(PLACE, f"{tmp_path}/"),
        f"c.Proxy.tls_cert, c.Proxy.tls_key = {str(edge.cert)!r}, {str(edge.key)!r}",
    )
    try:
        served.start()
        port = served.address.rpartition(":")[2]
        here = use.replace(f"https://{NAME}", f"https://localhost:{port}")
        here = here.replace(f"{NAME}:443", f"localhost:{port}")
        environment = {
            "PATH": f"{pathlib.Path(sys.executable).parent}:{PATH}",
            "SSL_CERT_FILE": str(site.path),  # which grpcurl reads
            "DASK_GATEWAY__CA_FILE": str(site.path),
            "DASK_GATEWAY__RETRY_FOR": "20s",
        }
        done = run(here, tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        assert "signed in by mtls, until " in done.stdout
        assert done.stdout.count("nightly@robots") == 2
        assert run(back, tmp_path).returncode == 0
        give_up_at = time.monotonic() + WITHIN_S
        while (done := run(here, tmp_path, **environment)).returncode == 0:
            assert time.monotonic() < give_up_at, "the certificate was not taken back"
        assert "was taken back" in done.stderr
    finally:
        served.end()
