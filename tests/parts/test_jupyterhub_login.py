"""A whole JupyterHub with its own proxy, and the gateway as a service of it: from a user's server
with no argument, and from the Hub's page to a dashboard with no second login."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from gateway import Gateway, GatewayCluster
from tests.docs.pages import blocks
from tests.e2e.gateway_process import GatewayProcess
from tests.parts import missing, program
from tests.parts.test_browser import CANVASES, browser, until
from tests.ports import free_ports

__all__ = ["browser"]
PREFIX = "/services/daskgateway"
START_S = 120.0
pytestmark = pytest.mark.timeout(600)
CONFIG = """
c.JupyterHub.bind_url = "http://127.0.0.1:{front}/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy}"
c.ConfigurableHTTPProxy.command = [{chp!r}]
c.ConfigurableHTTPProxy.pid_file = "{directory}/proxy.pid"
c.JupyterHub.db_url = "sqlite:///{directory}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{directory}/cookie_secret"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{directory}/home/{{username}}"
c.Spawner.cmd = [{python!r}, "{directory}/server.py"]
"""
# A service that is an administrator's script, behind what docs/jupyterhub.md says.
TESTER = """
c.JupyterHub.services.append(dict(name="tester", api_token="{tester}"))
c.JupyterHub.load_roles.append(dict(name="admin", services=["tester"]))
"""
# What runs in a user's server: first a script of the user's, then the server itself.
SERVER = """
import subprocess, sys, os
with open(os.path.join({directory!r}, "script.log"), "w") as log:
    words = [sys.executable, os.path.join({directory!r}, "script.py")]
    subprocess.Popen(words, stdout=log, stderr=log)
os.execv(sys.executable, [sys.executable, "-m", "jupyterhub.singleuser", "--allow-root"])
"""
SCRIPT = """
from distributed import Client
from gateway import GatewayCluster

with GatewayCluster(n_workers=1) as cluster, Client(cluster) as client:
    print("computed", sum(client.gather(client.map(lambda one: one * one, range(10)))), flush=True)
"""


class WholeHub:
    """A Hub with its proxy, and the gateway behind it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.front, self.hub, self.proxy, self.edge, self.server = free_ports(5)
        self.service, self.tester = secrets.token_hex(16), secrets.token_hex(16)
        self.process: subprocess.Popen[bytes] | None = None
        users, site, _, at_hub, in_browsers = blocks("jupyterhub", "python")
        self.of_hub = self._here(users + at_hub)
        self.gateway = GatewayProcess(
            directory,
            self._here(site + in_browsers),
            "c.JupyterHubAuthenticator.cache_ttl_s = 5",
        )

    def _here(self, text: str) -> str:
        """Return lines of docs/jupyterhub.md as its reader writes them who has these ports."""
        for there, here in (
            ("https://hub.example.org", f"http://127.0.0.1:{self.front}"),
            ("http://hub.internal:8081", f"http://127.0.0.1:{self.hub}"),
            ("127.0.0.1:8200", f"127.0.0.1:{self.edge}"),
            ("127.0.0.1:8201", f"127.0.0.1:{self.server}"),
            ('"…"', repr(self.service)),
        ):
            assert there in text or there in ("http://hub.internal:8081", "127.0.0.1:8201")
            text = text.replace(there, here)
        return text

    @property
    def address(self) -> str:
        """Where users reach the gateway."""
        return f"http://127.0.0.1:{self.front}{PREFIX}"

    def start(self) -> None:
        """Start them, and wait until they answer."""
        self.gateway.start()
        chp = program("configurable-http-proxy", "scripts/install_parts.sh")
        config = self.directory / "jupyterhub_config.py"
        told = {**vars(self), "chp": chp, "python": sys.executable}
        config.write_text(CONFIG.format(**told) + self.of_hub + TESTER.format(**told))
        (self.directory / "server.py").write_text(SERVER.format(directory=str(self.directory)))
        (self.directory / "script.py").write_text(SCRIPT)
        with (self.directory / "hub.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(config)],
                cwd=self.directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **os.environ,
                    "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
                    "PYTHONWARNINGS": "ignore",
                    "JUPYTERHUB_CRYPT_KEY": "",
                },
            )
        ends_at = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < ends_at, self.log()
            time.sleep(0.2)

    def log(self) -> str:
        """Return the end of what the Hub has written."""
        return (self.directory / "hub.log").read_text()[-5000:]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/healthz", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return what the Hub's API answers to an administrator."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.hub}/hub/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.tester}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def stop(self) -> None:
        """End them."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(OSError):  # users' servers are process groups of their own
                self.ask("DELETE", "users/alice/server")
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.gateway.end()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeHub]:
    """A Hub for a module's tests, which knows alice."""
    if importlib.util.find_spec("jupyterhub") is None:
        missing("jupyterhub", "pip install -e '.[test]'")
    made = WholeHub(tmp_path_factory.mktemp("hub"))
    try:
        made.start()
        made.ask("POST", "users/alice")
        yield made
    finally:
        made.stop()


def eventually(holds: Any, words: Any, within_s: float = 180.0) -> None:
    """Look until something holds."""
    ends_at = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends_at, words()
        time.sleep(0.5)


def test_a_script_in_a_users_server_computes_with_no_argument(hub: WholeHub) -> None:
    hub.ask("POST", "users/alice/server")
    log = hub.directory / "script.log"
    eventually(
        lambda: log.exists() and "computed 285" in log.read_text(),
        lambda: f"{log.read_text() if log.exists() else ''}\n{hub.log()}",
    )


def test_from_the_hubs_page_to_a_dashboard_with_no_second_login_and_out_again(
    hub: WholeHub, browser: Any
) -> None:
    token = hub.ask("POST", "users/alice/tokens", {"note": "a test"})["token"]
    with GatewayCluster("seen", gateway=Gateway(hub.address, auth=token)) as cluster:
        link = cluster.dashboard_link
        browser.get(f"http://127.0.0.1:{hub.front}/hub/login?next=/hub/home")
        browser.find_element(By.NAME, "username").send_keys("alice")
        browser.find_element(By.NAME, "password").send_keys("any")
        browser.find_element(By.ID, "login_submit").click()
        until(browser, lambda it: "/hub/login" not in it.current_url)
        # the Hub's own page names the service
        browser.get(f"http://127.0.0.1:{hub.front}/hub/home")
        service = browser.find_element(By.CSS_SELECTOR, f'a[href*="{PREFIX}"]').get_attribute(
            "href"
        )
        browser.get(service)
        until(browser, lambda it: "signed in as" in it.page_source)
        assert "alice" in browser.page_source
        browser.find_element(By.LINK_TEXT, "seen").click()
        until(browser, lambda it: it.current_url == link and it.execute_script(CANVASES) > 0)
        browser.get(f"http://127.0.0.1:{hub.front}/hub/logout")

        def out() -> bool:
            browser.get(link)
            return not browser.execute_script(CANVASES) and "/hub/login" in browser.current_url

        # seen: 35 s at most, which follows from what edge and server keep
        eventually(out, lambda: browser.page_source[:3000], 60.0)
