"""The form of options in a real kernel: a cell shows it, what is changed in the browser is set, and
a wrong value is told beside its field."""

from __future__ import annotations

import pathlib
import time
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from tests.e2e.gateway_process import GatewayProcess

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

SHOW = """
from daskgateway import Gateway
options = Gateway().cluster_options()
inputs = options.widget().children
print(*(row.children[1].model_id for row in inputs), *(row.children[2].model_id for row in inputs))
print(*options)
options
"""


class Notebook:
    """A kernel, and what a browser would say to it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run a cell; return all that the notebook is told meanwhile."""
        return self._until_idle(self._client.execute(code))

    def change(self, model: str, value: object) -> list[dict[str, Any]]:
        """Change a widget's value, as its user does in the browser."""
        data = {"method": "update", "state": {"value": value}, "buffer_paths": []}
        message = self._client.session.msg("comm_msg", {"comm_id": model, "data": data})
        self._client.shell_channel.send(message)
        return self._until_idle(message["header"]["msg_id"])

    def _until_idle(self, asked: str) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        end = time.monotonic() + 90
        while time.monotonic() < end:
            message = self._client.get_iopub_msg(timeout=90)
            if message["parent_header"].get("msg_id") != asked:
                continue
            told.append(message)
            if message["content"].get("execution_state") == "idle":
                break
        wrong = [one["content"] for one in told if one["msg_type"] == "error"]
        assert wrong == []
        return told


def printed(told: list[dict[str, Any]]) -> list[str]:
    """Return the lines that a cell has printed."""
    streams = (one["content"]["text"] for one in told if one["msg_type"] == "stream")
    return "".join(streams).splitlines()


def test_the_form_of_options_in_a_kernel(served: GatewayProcess, tmp_path: pathlib.Path) -> None:
    manager = KernelManager()
    manager.start_kernel(env=served.environment(), cwd=str(tmp_path))
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=90)
        notebook = Notebook(client)
        told = notebook.run(SHOW)
        models, names = (line.split() for line in printed(told))
        shown = [one for one in told if one["msg_type"] in ("execute_result", "display_data")]
        data = shown[-1]["content"]["data"]
        assert "application/vnd.jupyter.widget-view+json" in data
        inputs = dict(zip(names, models))
        words = dict(zip(names, models[len(names) :]))
        notebook.change(inputs["worker_cores"], 2.0)
        (line,) = printed(notebook.run("print(options.worker_cores, options.chosen())"))
        assert line == "2.0 {'worker_cores': 2.0}"
        said = notebook.change(inputs["environment"], "no equals sign")
        values = {
            one["content"]["comm_id"]: one["content"]["data"].get("state", {}).get("value", "")
            for one in said
            if one["msg_type"] == "comm_msg"
        }
        assert "is no line like NAME=text" in values[words["environment"]]
        notebook.change(inputs["environment"], "A=1")
        (line,) = printed(notebook.run("print(options.environment)"))
        assert line == "{'A': '1'}"
        told = notebook.run("options.worker_cores = 3")
        changed = [one["content"] for one in told if one["msg_type"] == "comm_msg"]
        assert any(one["comm_id"] == inputs["worker_cores"] for one in changed)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
