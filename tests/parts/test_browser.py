"""A real dashboard in a real browser: logged in it draws and updates, not logged in it asks, to
another user it shows nothing."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from gateway import Gateway, GatewayCluster
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.parts import fronts, program
from tests.parts.fronts import PREFIX
from tests.parts.test_fronts import a_gateway
from tests.ports import free_port

INSTALL = "apt-get install chromium chromium-driver"
PATIENCE_S = 60.0
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1200,900",
)
# Shadow roots are Bokeh's: its canvases are not found from the document.
DEEP = """
function all(root, found) { for (const one of root.querySelectorAll('*')) {
    found.push(one); if (one.shadowRoot) all(one.shadowRoot, found); } return found; }
const everything = all(document, []);
"""
# in one go: an element may be gone before its text is asked for
REFUSAL = "return document.querySelector('p.error')?.textContent"
CANVASES = (
    DEEP + "return everything.filter(one => one.tagName === 'CANVAS' && one.width > 50).length;"
)
TITLES = (
    "return Bokeh.documents[0].all_models ? [...Bokeh.documents[0].all_models].map(one =>"
    " one.text || one.title || '').join(' ') : '';"
)
POINTS = """
let count = 0;
for (const one of Bokeh.documents[0].all_models)
    if (one.type === 'ColumnDataSource') for (const key of Object.keys(one.data)) count += one.data[key].length;
return count;
"""  # noqa: E501


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, str]]:
    """A gateway behind an HTTP-only nginx, below a prefix."""
    port = free_port()
    address = f"http://127.0.0.1:{port}{PREFIX}"
    with a_gateway(tmp_path_factory.mktemp("gateway"), address) as (gateway, edge):
        with fronts.nginx(
            tmp_path_factory.mktemp("front"), fronts.nginx_http(edge, strip=False, port=port), port
        ):
            yield gateway, address


@pytest.fixture
def browser() -> Iterator[Any]:
    """A browser that has been nowhere."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", INSTALL)
    driver = program("chromedriver", INSTALL)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(driver, env={**os.environ, "HOME": profile})
        made = webdriver.Chrome(options=options, service=service)
        try:
            made.set_page_load_timeout(PATIENCE_S)
            yield made
        finally:
            made.quit()


def until(browser: Any, holds: Any) -> Any:
    """Look until something holds in the page."""
    return WebDriverWait(browser, PATIENCE_S, poll_frequency=0.2).until(holds)


def log_in(browser: Any, user: str, password: str) -> None:
    """Fill in the form and send it."""
    browser.find_element(By.ID, "user").send_keys(user)
    browser.find_element(By.ID, "password").send_keys(password)
    browser.find_element(By.TAG_NAME, "button").click()


@pytest.mark.timeout(300)
def test_a_dashboard_in_a_browser(
    behind: tuple[GatewayProcess, str], browser: Any, tmp_path: pathlib.Path
) -> None:
    _, address = behind
    with (
        GatewayCluster(
            "seen", gateway=Gateway(address, auth=(USER, PASSWORD)), n_workers=1
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(1, timeout=60)
        browser.get(cluster.dashboard_link)
        assert browser.find_element(By.TAG_NAME, "h1").text == "Dask dashboard"
        log_in(browser, "bob", "builder")
        assert (
            until(browser, lambda it: it.execute_script(REFUSAL))
            == "That did not open this dashboard."
        )
        assert browser.execute_script(CANVASES) == 0

        log_in(browser, USER, PASSWORD)
        until(
            browser,
            lambda it: it.current_url == cluster.dashboard_link and it.execute_script(CANVASES) > 0,
        )
        browser.get(cluster.dashboard_link.replace("/status", "/individual-task-stream"))
        until(
            browser,
            lambda it: it.execute_script(
                "return typeof Bokeh !== 'undefined' && Bokeh.documents.length > 0"
            ),
        )
        before = browser.execute_script(POINTS)
        assert client.gather(client.map(lambda number: number + 1, range(50), pure=False)) == list(
            range(1, 51)
        )
        # the WebSocket brings what has happened since
        until(browser, lambda it: it.execute_script(POINTS) >= before + 50)
        browser.get(cluster.dashboard_link)
        until(browser, lambda it: it.execute_script(CANVASES) > 2)
        assert browser.get_screenshot_as_file(str(tmp_path / "dashboard.png"))
        keep = os.environ.get("DASKGATEWAY_SCREENSHOT")
        if keep:
            pathlib.Path(keep).write_bytes((tmp_path / "dashboard.png").read_bytes())
        severe = [
            entry
            for entry in browser.get_log("browser")
            if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
        ]
        assert [entry for entry in severe if "401" not in entry["message"]] == []


@pytest.mark.timeout(300)
def test_a_link_with_a_ticket_opens_at_once_and_only_what_it_is_for(
    behind: tuple[GatewayProcess, str], browser: Any
) -> None:
    _, address = behind
    alice, bob = Gateway(address, auth=(USER, PASSWORD)), Gateway(address, auth=("bob", "builder"))
    with GatewayCluster("hers", gateway=alice) as hers, GatewayCluster("his", gateway=bob) as his:
        browser.get(alice.dashboard_url("hers"))
        until(
            browser,
            lambda it: it.current_url == hers.dashboard_link and it.execute_script(CANVASES) > 0,
        )
        browser.get(his.dashboard_link)
        assert browser.find_element(By.TAG_NAME, "h1").text == "Dask dashboard"
        assert browser.execute_script(CANVASES) == 0
