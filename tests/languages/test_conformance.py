"""One and the same run by clients in Go, TypeScript, Java and Python (`examples/`), by every way to
a gateway: each step has seen the same."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.gateway_process import PASSWORD, USER
from tests.languages import building, ways

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "languages.md"
RUN_S = 240
OUR = "daskgateway"


def refusal(code: str, reason: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "reason": reason, "domain": OUR, **more}


# What each step has seen, in every language and by every way. ID stands for the cluster's own.
EXPECTED: dict[str, dict[str, Any]] = {
    "sign-in": {"ways": ["password", "api-token"], "user": USER},
    "create": {
        "name": f"users/{USER}/clusters/ID",
        "owner": USER,
        "labels": {"made-by": "conformance"},
        "state": "CLUSTER_STATE_PENDING",
        "replayed": False,
    },
    "repeat": {
        "same": True,
        "replayed": True,
        "reused": refusal("INVALID_ARGUMENT", "REQUEST_ID_REUSED"),
    },
    "wait": {"state": "CLUSTER_STATE_ACTIVE"},
    "watch": {
        "first": "WATCH_EVENT_TYPE_ADDED",
        "name": f"users/{USER}/clusters/ID",
        "complete": True,
    },
    "scale": {"count": 1, "wished": 1, "generations": 1},
    "resume": {"types": ["WATCH_EVENT_TYPE_MODIFIED"], "running": 1},
    "conflict": {"stale": refusal("ABORTED", "ETAG_MISMATCH"), "current": 0},
    "exists": refusal("ALREADY_EXISTS", "CLUSTER_EXISTS"),
    "pages": {
        "names": [f"users/{USER}/clusters/ID-second", f"users/{USER}/clusters/ID"],
        "largest": 1,
    },
    "logs": {"instances": ["scheduler"], "scheduler": True},
    "errors": {
        "invalid": refusal(
            "INVALID_ARGUMENT",
            "FIELD_INVALID",
            fields=["cluster.spec.worker_groups.default.count", "cluster_id"],
        ),
        "missing": refusal("NOT_FOUND", "CLUSTER_NOT_FOUND"),
        "another's": refusal("PERMISSION_DENIED", "NOT_PERMITTED"),
        "nobody": refusal("UNAUTHENTICATED", "CREDENTIALS_INVALID"),
    },
    "deadline": {"code": "DEADLINE_EXCEEDED", "early": True},
    "scheduler": {"with a certificate": "greeted", "without": "refused"},
    "stop": {
        "first": "CLUSTER_STATE_STOPPING",
        "then": "CLUSTER_STATE_STOPPED",
        "reason": "STOP_REQUESTED",
    },
}
Told = list[dict[str, Any]]
SEEN: dict[tuple[str, str], str] = {}  # by way and language: what the matrix says

pytestmark = [pytest.mark.slow, pytest.mark.timeout(building.BUILD_S + 60)]


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ways.Gateways]:
    """The gateways that all are run against."""
    with ways.gateways(tmp_path_factory.mktemp("gateways")) as served:
        yield served


@pytest.fixture(scope="module")
def built() -> dict[str, pathlib.Path]:
    """Where each language's example is built."""
    return {name: building.built(language) for name, language in building.LANGUAGES.items()}


@pytest.fixture(scope="module", params=ways.NAMES)
def ran(
    request: pytest.FixtureRequest,
    built: dict[str, pathlib.Path],
    gateways: ways.Gateways,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, dict[str, tuple[Told, str]]]:
    """What was told by each language, all at a time by one way, and what was said beside."""
    with (
        ways.way(request.param, gateways, tmp_path_factory.mktemp("front")) as way,
        ThreadPoolExecutor(len(built)) as threads,
    ):
        asked = {
            name: threads.submit(run, name, place, way, f"{request.param}-{name.lower()}")
            for name, place in built.items()
        }
        return request.param, {name: told.result() for name, told in asked.items()}


def run(name: str, place: pathlib.Path, way: ways.Way, cluster: str) -> tuple[Told, str]:
    """Run one example to its end; return its lines, with ID for the cluster's, and its errors."""
    environment = building.environment() | {
        "DASKGATEWAY_ADDRESS": way.address,
        "DASKGATEWAY_USER": USER,
        "DASKGATEWAY_PASSWORD": PASSWORD,
        "DASKGATEWAY_CA_FILE": way.ca_file,
    }
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        environment.pop(proxy, None)
    first, *words = building.LANGUAGES[name].run
    done = subprocess.run(
        [str(place / first) if (place / first).exists() else first, *words, way.protocol, cluster],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    text = re.sub(rf"\b{re.escape(cluster)}\b", "ID", done.stdout)
    lines = [json.loads(line) for line in text.splitlines()]
    return lines, done.stderr if done.returncode == 0 else f"exit {done.returncode}: {done.stderr}"


@pytest.mark.parametrize("language", building.LANGUAGES)
def test_every_step_sees_the_same(
    ran: tuple[str, dict[str, tuple[Told, str]]], language: str
) -> None:
    way, told = ran
    lines, beside = told[language]
    skipped = [line["step"] for line in lines if "skipped" in line]
    assert [line["step"] for line in lines] == list(EXPECTED), (lines, beside)
    assert {line["step"]: line["saw"] for line in lines if "skipped" not in line} == {
        step: saw for step, saw in EXPECTED.items() if step not in skipped
    }, beside
    assert all(line["ok"] for line in lines)
    assert skipped == (["scheduler"] if way in ("connect-nginx", "connect-jupyterhub") else [])
    assert beside == ""
    SEEN[way, language] = f"all but {', '.join(skipped)}" if skipped else f"all {len(lines)}"


def test_the_matrix_in_the_documents_is_what_was_seen() -> None:
    assert SEEN, "the runs are this module's own tests: run them with this one"
    written = PAGE.read_text()
    for row in table().splitlines():
        assert row in written, f"docs/languages.md is to show this table:\n{table()}"


def table() -> str:
    """Return the matrix: of what was not run now, nothing."""
    languages = list(building.LANGUAGES)
    rows = [f"| | {' | '.join(languages)} |", f"|---{'|---' * len(languages)}|"]
    for way, words in ways.NAMES.items():
        cells = [SEEN.get((way, language), "") for language in languages]
        if all(cells):
            rows.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(rows)
