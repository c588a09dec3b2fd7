"""Steering through the embedded gateway, as `faas-cli invoke FLOW --query pause-flow=ID` does; what a pause keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

import pytest
from pytest_httpserver import HTTPServer

from faasflow.http import create_app
from faasflow.local import Gateway
from faasflow.runtime import Handler, build_engine
from faasflow.testing import FlowTester
from tests.http.support import Client, contents, front, served, settings
from tests.support import free_port, wait_until

FLOW = "/function/flow"
IDS = ["r1", "..", "a/b", "%2f", "a?b#c", "a&state=b", "a+b c", "ü😀", "x" * 200]


@contextmanager
def behind_gateway(folder: Path, function: Client) -> Iterator[Client]:
    gateway = Gateway(state_dir=folder, port=free_port())
    gateway.add_upstream("flow", [f"http://127.0.0.1:{function.port}"])
    gateway.start()
    try:
        yield Client(int(gateway.url.rpartition(":")[2]))
    finally:
        gateway.stop(grace=5)


@pytest.fixture
def tester() -> FlowTester:
    """Its requests stand still, as nobody delivers their messages. Those without a body fail."""
    return FlowTester(define_fussy)


def define_fussy(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("first").modify(lambda data: data)
    dag.node("second").modify(lambda data: data or 1 / 0)
    dag.edge("first", "second")


@pytest.fixture
def gateway(tmp_path: Path, tester: FlowTester) -> Iterator[Client]:
    with served(front(tester)) as function, behind_gateway(tmp_path, function) as client:
        yield client


def ask(gateway: Client, method: str, command: str, id: str) -> tuple[int, str]:
    reply = gateway.send(method, f"{FLOW}?{command}={quote(id, safe='')}")
    return reply.status, reply.body.decode() if reply.status == 200 else reply.json["error"]


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("id", IDS)
def test_a_request_of_any_id_is_steered_by_query(gateway: Client, tester: FlowTester, method: str, id: str) -> None:
    tester.engine.start(b"x", request_id=id)
    tester.engine.start(b"x", request_id="another")
    seen = []
    for command in ("pause-flow", "pause-flow", "resume-flow", "resume-flow", "stop-flow", "stop-flow"):
        seen.append((*ask(gateway, method, command, id), ask(gateway, method, "state", id)))

    assert seen == [
        (200, f"Successfully paused request {id}", (200, "PAUSED")),
        (200, f"Successfully paused request {id}", (200, "PAUSED")),
        (200, f"Successfully resumed request {id}", (200, "RUNNING")),
        (200, f"Successfully resumed request {id}", (200, "RUNNING")),
        (200, f"Successfully stopped request {id}", (200, "STOPPED")),
        (200, f"Successfully stopped request {id}", (200, "STOPPED")),
    ]
    assert tester.engine.state("another") == "RUNNING"


def test_a_command_may_come_with_a_body_and_with_other_keys(gateway: Client, tester: FlowTester) -> None:
    tester.engine.start(b"x", request_id="r1")
    reply = gateway.post(f"{FLOW}?a=1&pause-flow=r1&b", b"what faas-cli was given on stdin")

    assert (reply.status, reply.body) == (200, b"Successfully paused request r1")
    assert len(tester.transport.pending) == 1, "nothing was started"


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("id", ["nobody", "a/b", ""])
@pytest.mark.parametrize("command", ["pause-flow", "resume-flow", "stop-flow", "state"])
def test_an_unknown_request_is_404_and_leaves_nothing_behind(
    gateway: Client, tester: FlowTester, method: str, id: str, command: str
) -> None:
    assert ask(gateway, method, command, id) == (404, f"Request {id!r} is not known.")
    assert contents(tester.state) == {}


@pytest.mark.parametrize(
    ("state", "command", "status"),
    [
        ("FINISHED", "pause", 409),
        ("FINISHED", "resume", 409),
        ("FINISHED", "stop", 409),
        ("FAILED", "pause", 409),
        ("FAILED", "resume", 409),
        ("FAILED", "stop", 409),
        ("STOPPED", "pause", 409),
        ("STOPPED", "resume", 409),
        ("STOPPED", "stop", 200),
    ],
)
def test_a_request_that_has_ended_stays_as_it_ended(
    gateway: Client, tester: FlowTester, state: str, command: str, status: int
) -> None:
    tester.engine.start(b"" if state == "FAILED" else b"x", request_id="r1")
    if state == "STOPPED":
        tester.engine.stop("r1")
    tester.settle()
    before = contents(tester.state)
    replies = [gateway.post(target) for target in (f"{FLOW}?{command}-flow=r1", f"{FLOW}/flow/r1/{command}")]

    assert [reply.status for reply in replies] == [status, status]
    assert status == 200 or all(
        f"'r1' is {state}; {command} does not apply" in reply.json["error"] for reply in replies
    )
    assert ask(gateway, "GET", "state", "r1") == (200, state)
    assert contents(tester.state) == before


class Held:
    """A flow whose first node is held until `let_go`; the second one tells the query that it sees."""

    def __init__(self) -> None:
        self._open = Event()
        self.is_inside = Event()
        self.let_go = self._open.set

    def define(self, flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("hold").modify(self._hold)
        dag.node("tell").modify(lambda data: f"{data.decode()} for {context.query.get_all('who')}".encode())
        dag.edge("hold", "tell")

    def _hold(self, data: bytes) -> bytes:
        self.is_inside.set()
        assert self._open.wait(30)
        return data


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return "127.0.0.1", free_port()


@pytest.fixture
def held() -> Iterator[Held]:
    flow = Held()
    yield flow
    flow.let_go()


@pytest.fixture
def running(tmp_path: Path, held: Held) -> Iterator[Client]:
    """The gateway of the held flow, which reaches its queue through it."""
    gateway = Gateway(state_dir=tmp_path, port=free_port())
    own = settings(gateway=gateway.url)
    engine = build_engine(Handler(define=held.define), own)
    with served(create_app(engine, settings=own), threads=8) as function:
        gateway.add_upstream("flow", [f"http://127.0.0.1:{function.port}"])
        gateway.start()
        yield Client(int(gateway.url.rpartition(":")[2]))
        held.let_go()
        gateway.stop(grace=5)


def test_the_callback_and_the_query_survive_a_pause(running: Client, held: Held, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/done").respond_with_data("thanks")
    headers = {"X-Faas-Flow-Reqid": "r/1", "X-Faas-Flow-Callback-Url": httpserver.url_for("/done?a=%2F&b=")}
    started = running.post(f"{FLOW}?who=Ada%20%26%20Co&who=%C3%BC&a", b"tea", headers)
    assert held.is_inside.wait(10)
    ask(running, "POST", "pause-flow", "r/1")
    held.let_go()
    wait_until(lambda: running.get(f"{FLOW}/flow/r%2F1").json["parked"], "the second node is parked")
    told_before = [*httpserver.log]
    ask(running, "POST", "resume-flow", "r/1")
    wait_until(lambda: httpserver.log, "the callback is told")

    assert (started.status, told_before) == (202, [])
    [(told, _)] = httpserver.log
    assert told.get_data().decode() == "tea for ['Ada & Co', 'ü']"
    assert (told.headers["X-Faas-Flow-Reqid"], told.headers["X-Faas-Flow-State"]) == ("r/1", "FINISHED")
    assert told.query_string == b"a=%2F&b="


def test_a_stop_tells_the_callback_once_also_while_paused(running: Client, held: Held, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/done").respond_with_data("thanks")
    headers = {"X-Faas-Flow-Reqid": "r1", "X-Faas-Flow-Callback-Url": httpserver.url_for("/done")}
    running.post(FLOW, b"tea", headers)
    assert held.is_inside.wait(10)
    statuses = [ask(running, "POST", command, "r1")[0] for command in ("pause-flow", "stop-flow", "stop-flow")]
    held.let_go()
    wait_until(lambda: httpserver.log, "the callback is told")

    assert statuses == [200, 200, 200]
    assert [told.headers["X-Faas-Flow-State"] for told, _ in httpserver.log] == ["STOPPED"]
    assert running.get(f"{FLOW}/flow/r1/result").status == 409
