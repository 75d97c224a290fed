"""The certificate that HTTP is served with: taken up again on SIGHUP or when its files change, and
never lost to a broken one."""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
import signal
import ssl
import sys

import aiohttp
import pytest

from gateway.configfile import ConfigurationError
from gateway.proxy.http import certificate
from tests.config import pki
from tests.parts.fronts import self_signed
from tests.proxy.served import serving, ticket


def shown(port: int) -> str:
    """Return the certificate that a new connection is shown."""
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=10)


async def test_files_that_change_are_taken_up_and_broken_ones_are_not(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(certificate, "CHECK_S", 0.05)
    caplog.set_level(logging.INFO, "gateway.proxy.http.certificate")
    chain, key = self_signed(tmp_path)

    async def logged(words: str, count: int) -> None:
        async with asyncio.timeout(20):
            while sum(words in record.message for record in caplog.records) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async with serving(tmp_path, tls_cert=str(chain), tls_key=str(key)) as served:
        first = await asyncio.to_thread(shown, served.port)
        assert first == chain.read_text()
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", served.port, ssl=ssl.create_default_context(cafile=str(chain))
        )
        key.write_text("rubbish")
        await logged("the old one stays", 1)
        assert await asyncio.to_thread(shown, served.port) == first
        key.unlink()
        await logged("the old one stays", 2)
        self_signed(tmp_path)
        await logged("was read again", 1)
        second = await asyncio.to_thread(shown, served.port)
        assert second == chain.read_text()
        assert second != first
        # what was begun before goes on
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        context = ssl.create_default_context(cafile=str(chain))
        async with aiohttp.ClientSession() as caller:
            address = served.dashboard.replace("http://", "https://")
            async with caller.get(
                f"{address}/x?ticket={ticket()}", ssl=context, allow_redirects=False
            ) as answer:
                assert "; Secure" in answer.headers["Set-Cookie"]


async def test_a_certificate_that_cannot_be_used_at_the_start_is_told(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "key.pem").touch(mode=0o600)
    (tmp_path / "key.pem").write_text("rubbish")
    with pytest.raises(ConfigurationError, match=r"c\.Proxy\.tls_(cert|key): "):
        async with serving(
            tmp_path, tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem")
        ):
            pass


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_passphrase(
    tmp_path: pathlib.Path,
) -> None:
    pki.make(tmp_path)
    served = certificate.ServedCertificate(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    served.load()
    shown_before = served.context
    (tmp_path / "locked.pem").replace(tmp_path / "key.pem")
    served.reload()
    assert served.context is shown_before
    with pytest.raises(ConfigurationError, match=r"c\.Proxy\.tls_cert, tls_key: "):
        served.load()


async def test_sighup_takes_up_a_new_certificate(tmp_path: pathlib.Path) -> None:
    chain, key = self_signed(tmp_path)
    (tmp_path / "token").write_text("t")
    reading, writing = os.pipe()
    settings = {
        "address": "127.0.0.1:0",
        "state_dir": tmp_path / "edge",
        "token_file": tmp_path / "token",
        "server_address": f"unix:{tmp_path}/no.sock",
        "tls_cert": chain,
        "tls_key": key,
    }
    words = [f"--Proxy.{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "gateway", "proxy", f"--ready-fd={writing}", *words]
    process = await asyncio.create_subprocess_exec(
        *command, pass_fds=[writing], stderr=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    os.close(writing)
    assert process.stderr is not None
    try:
        line = await asyncio.to_thread(os.read, reading, 100)
        port = int(line.decode().strip().rpartition(":")[2])
        first = await asyncio.to_thread(shown, port)
        self_signed(tmp_path)
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(20):
            while b"the certificate was read again" not in await process.stderr.readline():
                pass
        second = await asyncio.to_thread(shown, port)
        assert second == chain.read_text()
        assert second != first
    finally:
        os.close(reading)
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0


async def test_a_sighup_that_comes_while_the_edge_still_loads_does_not_end_it(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "daskgateway_config.py").write_text(
        "import os, signal\n"
        "os.kill(os.getpid(), signal.SIGHUP)  # the file is read long before the handler stands\n"
        "c = get_config()\n"
        f"c.Proxy.address, c.Proxy.state_dir = '127.0.0.1:0', {str(tmp_path / 'edge')!r}\n"
        f"c.Proxy.token_file, c.Proxy.server_address = {str(tmp_path / 'token')!r},"
        f" 'unix:{tmp_path}/no.sock'\n"
    )
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "gateway", "proxy", f"--ready-fd={writing}"]
    process = await asyncio.create_subprocess_exec(
        *command, pass_fds=[writing], stderr=asyncio.subprocess.DEVNULL, cwd=tmp_path
    )
    os.close(writing)
    with os.fdopen(reading) as ready:
        line = await asyncio.to_thread(ready.readline)
    if process.returncode is None and line:
        process.send_signal(signal.SIGTERM)
    assert (await process.wait(), line.partition(" ")[0]) == (0, "ready")
