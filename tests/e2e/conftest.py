"""A laptop's installation in its own processes: `faasflow up` on a small stack, to be killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import free_port, wait_until

STACK = """
version: 1.0
provider:
  name: openfaas
functions:
  pipeline:
    lang: faas-flow
    handler: ./pipeline
  upper:
    lang: python3-http
    handler: ./upper
"""

UPPER = """
def handle(event, context):
    print("upper was called")
    return event.body.upper()
"""

PIPELINE = '''
"""Words in, words out: a foreach over the words, beside a count, joined."""

from faasflow import Retry


def words(data: str):
    return {f"{index}:{word}": word for index, word in enumerate(data.split())}


def in_order(results):
    return b" ".join(results.values())


def together(inputs: dict[str, str]):
    return f"{inputs['count']}: {inputs['each']}"


def define(flow, context):
    dag = flow.dag()
    dag.node("begin").modify(lambda data: data)
    each = dag.foreach_branch("each", words, aggregator=in_order)
    each.node("upper").apply("upper", retry=Retry(attempts=5, delay=0.5))
    dag.node("count").modify(lambda data: str(len(data.split())))
    dag.node("end", aggregator=together)
    for middle in ("each", "count"):
        dag.edge("begin", middle)
        dag.edge(middle, "end")
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in (("pipeline", PIPELINE), ("upper", UPPER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "handler.py").write_text(code)
    (tmp_path / "stack.yml").write_text(STACK)
    return tmp_path


class Installation:
    """`faasflow up` as its own process, which can be killed and started again on the same folder and port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "faasflow.cli", "up", "-f", "stack.yml", "--port", str(self.port)]
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(self._is_ready, "the gateway to serve the flow", timeout=60)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=20)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=40)

    def start_request(self, request_id: str, body: bytes) -> str:
        """Start one request as a client would that does not know whether its call came through: again and again, by
        its own id."""
        answer = wait_until(lambda: self._taken(request_id, body), f"request {request_id} to be taken", timeout=60)
        return answer.headers["X-Faas-Flow-Reqid"]

    def states(self) -> dict[str, int]:
        """How many requests are in which state."""
        return dict(Counter(row["state"] for row in self._rows()))

    def wait_for(self, states: dict[str, int], *, timeout: float) -> None:
        """Wait until that many requests are in these states. What goes on shows why they are not, if they are not."""
        try:
            wait_until(lambda: self.states() == states, f"the states {states}", timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._going_on()}") from None

    def _going_on(self) -> str:
        """What is recorded of some requests that did not finish, and the end of the log."""
        rows = [row for row in self._rows() if row["state"] != "FINISHED"]
        url = f"{self.url}/function/pipeline/flow"
        stories = [requests.get(f"{url}/{row['request_id']}", timeout=30).text for row in rows[:5]]
        log = (self.folder / "up.log").read_text().splitlines()[-60:]
        return "\n".join((str(self.states()), f"now {time.time():.3f}", *stories, *log))

    def _rows(self) -> list[dict[str, Any]]:
        listed = requests.get(f"{self.url}/function/pipeline/flow?limit=1000", timeout=30).json()
        rows: list[dict[str, Any]] = listed["requests"] if isinstance(listed, dict) else listed
        return rows

    def result(self, request_id: str) -> str:
        return requests.get(f"{self.url}/function/pipeline/flow/{request_id}/result", timeout=30).text

    def _taken(self, request_id: str, body: bytes) -> requests.Response | None:
        headers = {"X-Faas-Flow-Reqid": request_id}
        answer = requests.post(f"{self.url}/function/pipeline", data=body, headers=headers, timeout=30)
        return answer if answer.status_code in (200, 202) else None

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "up.log").read_text()
        return requests.get(f"{self.url}/function/pipeline/_/ready", timeout=5).status_code == 200


@pytest.fixture
def installation(folder: Path):
    installation = Installation(folder)
    yield installation
    installation.stop()
