"""`faasflow result` against a gateway: what it writes, and how it tells a request without a result apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from click.testing import Result

from faasflow.local import Gateway, load_stack
from tests.cli.support import Project
from tests.support import free_port, wait_until

Run = Callable[..., Result]

# What a request is to come to is what it is started with.
FATES = r"""
    import time
    from pathlib import Path

    OPEN = Path(__file__).with_name("open")

    def define(flow, context):
        dag = flow.dag()
        dag.node("first").modify(lambda data: data)
        dag.node("second").modify(meet)
        dag.edge("first", "second")
        if context.query.get("told"):
            flow.on_failure(lambda error: b'{"sorry": true}')

    def meet(data):
        if data == b"fail":
            raise ValueError("no luck")
        while data == b"wait" and not OPEN.exists():
            time.sleep(0.02)
        return data + b"\x00\xff\n\n"
"""


class Served:
    def __init__(self, project: Project, gateway: Gateway) -> None:
        self.url = gateway.url
        self._project = project

    def start(self, id: str, body: bytes, *, state: str = "", query: str = "") -> None:
        headers = {"X-Faas-Flow-Reqid": id, "Connection": "close"}
        assert requests.post(f"{self.url}/function/fates?{query}", body, headers=headers).status_code == 202
        if state:
            wait_until(lambda: self.state(id) == state, f"{id} is {state}")

    def state(self, id: str) -> str:
        query = {"state": id}
        return requests.get(f"{self.url}/function/fates", params=query, headers={"Connection": "close"}).text

    def let_go(self) -> None:
        (self._project.folder / "fates" / "open").touch()


@pytest.fixture
def fates(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    project.flow("fates", FATES)
    project.function("plain", 'def handle(event, context):\n    return {"statusCode": 200, "body": "anything"}\n')
    gateway = Gateway(load_stack(project.stack), state_dir=tmp_path / "state", port=free_port())
    gateway.start()
    monkeypatch.setenv("OPENFAAS_URL", gateway.url)
    served = Served(project, gateway)
    yield served
    served.let_go()
    gateway.stop(grace=2)


def test_a_result_is_written_byte_by_byte(faasflow: Run, fates: Served, tmp_path: Path) -> None:
    fates.start("a b/?", b"\xfe", state="FINISHED")
    shown = faasflow("result", "a b/?")
    stored = faasflow("result", "a b/?", "--flow", "fates", "-o", str(tmp_path / "out"))

    assert (shown.exit_code, shown.stdout_bytes, shown.stderr) == (0, b"\xfe\x00\xff\n\n", "")
    assert (stored.exit_code, stored.stdout_bytes) == (0, b"")
    assert (tmp_path / "out").read_bytes() == b"\xfe\x00\xff\n\n"


def test_a_request_that_has_not_ended_is_told_apart_with_the_way_on(
    faasflow: Run, fates: Served, tmp_path: Path
) -> None:
    fates.start("r-1", b"wait")
    running = faasflow("result", "r-1", "-o", str(tmp_path / "out"))
    waited = faasflow("result", "r-1", "--wait", "0.3s")
    faasflow("pause", "r-1")
    paused = faasflow("result", "r-1")

    assert [one.exit_code for one in (running, waited, paused)] == [1, 1, 1]
    assert [one.stdout for one in (running, waited, paused)] == ["", "", ""]
    assert "Request 'r-1' has not ended: it is RUNNING." in running.stderr
    assert "hint: Wait for it: faasflow result fates r-1 --wait 1m\n" in running.stderr
    assert "Request 'r-1' has not ended yet." in waited.stderr
    assert "Request 'r-1' has not ended: it is PAUSED." in paused.stderr
    assert "hint: Let it go on: faasflow resume fates r-1\n" in paused.stderr
    assert not (tmp_path / "out").exists()


def test_an_end_can_be_waited_for(faasflow: Run, fates: Served) -> None:
    fates.start("r-1", b"wait")
    fates.let_go()

    assert faasflow("result", "r-1", "--wait", "30s").stdout_bytes == b"wait\x00\xff\n\n"


def test_a_request_that_failed_was_stopped_or_is_not_known_is_told_apart(
    faasflow: Run, fates: Served, tmp_path: Path
) -> None:
    fates.start("bad", b"fail", state="FAILED")
    fates.start("sad", b"fail", state="FAILED", query="told=1")
    fates.start("cut", b"wait")
    faasflow("stop", "cut")
    out = str(tmp_path / "out")
    bad, sad, cut, none = (faasflow("result", id, "-o", out) for id in ("bad", "sad", "cut", "nobody"))

    assert [one.exit_code for one in (bad, sad, cut, none)] == [1, 1, 1, 1]
    assert [one.stdout for one in (bad, sad, cut, none)] == ["", "", "", ""]
    assert "error: Node 'second' failed: ValueError: no luck\n" in bad.stderr
    assert '/fates/flow/sad/result answered 500: {"sorry": true}\n' in sad.stderr
    assert "error: The request was stopped.\n" in cut.stderr
    assert f"error: No flow of {fates.url} knows request 'nobody'.\n" in none.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_no_flow_has_no_results(faasflow: Run, fates: Served) -> None:
    result = faasflow("result", "r-1", "--flow", "plain")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "'plain' did not answer as a flow does.\nhint: Is it a flow?" in result.stderr


def test_a_file_that_cannot_be_written_is_named(faasflow: Run, fates: Served, tmp_path: Path) -> None:
    fates.start("r-1", b"", state="FINISHED")
    result = faasflow("result", "r-1", "-o", str(tmp_path / "none" / "out"))

    assert result.exit_code == 1
    assert f"'{tmp_path}/none/out' cannot be written: No such file or directory." in result.stderr
