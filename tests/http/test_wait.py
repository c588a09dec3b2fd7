"""Callers that wait for the result of a flow that takes longer than one delivery."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from faasflow.runtime import SystemClock
from faasflow.testing import FlowTester
from tests.http.conftest import Serve, define_chain
from tests.http.support import Client, deliver_all
from tests.support import wait_until


@pytest.fixture
def chain() -> FlowTester:
    return FlowTester(define_chain, clock=SystemClock())


@pytest.fixture
def running(serve: Serve, chain: FlowTester) -> Iterator[Client]:
    """The chain, with somebody who delivers its messages."""
    client, ended = serve(chain), threading.Event()

    def deliver() -> None:
        while not ended.wait(0.01):
            deliver_all(chain, client)

    thread = threading.Thread(target=deliver)
    thread.start()
    yield client
    ended.set()
    thread.join()


@pytest.mark.parametrize("wait", ["30s", "30", "0.5m", "30000ms", "29.5"])
def test_a_start_waits_for_the_result(running: Client, wait: str) -> None:
    reply = running.start(b"x", query=f"wait={wait}")

    assert (reply.status, reply.body, reply.headers["x-faas-flow-state"]) == (200, b"x12", "FINISHED")


@pytest.mark.parametrize("prefer", ["wait=30", "respond-async, wait=30", "handling=lenient; WAIT = 30", 'wait="30"'])
def test_a_start_waits_as_the_prefer_header_wishes(running: Client, prefer: str) -> None:
    reply = running.post("/", b"x", {"Prefer": prefer})

    assert (reply.status, reply.body) == (200, b"x12")


def test_a_wait_that_is_too_short_answers_202_and_the_request_goes_on(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    started = time.monotonic()
    reply = client.start(b"x", id="r1", query="wait=200ms")
    took = time.monotonic() - started
    deliver_all(chain, client)

    assert (reply.status, reply.json) == (202, {"request_id": "r1", "state": "RUNNING"})
    assert 0.2 <= took < 5
    assert client.get("/flow/r1/result").body == b"x12"


def test_a_result_can_be_waited_for(running: Client) -> None:
    id = running.start(b"x").headers["x-faas-flow-reqid"]

    assert running.get(f"/flow/{id}/result?wait=30s").body == b"x12"


def test_the_result_of_a_running_request_is_202(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    client.start(b"x", id="r1")
    reply = client.get("/flow/r1/result")

    assert (reply.status, reply.json) == (202, {"request_id": "r1", "state": "RUNNING"})


def test_a_second_start_joins_the_wait_for_the_first(
    serve: Serve, chain: FlowTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(chain)
    client.start(b"x", id="r1")
    replies: list[Any] = []
    is_waiting, wait = threading.Event(), chain.engine.wait
    monkeypatch.setattr(chain.engine, "wait", lambda *of: is_waiting.set() or wait(*of))
    waiting = threading.Thread(target=lambda: replies.append(client.start(b"x", id="r1", query="wait=30s")))
    waiting.start()
    assert is_waiting.wait(20)
    put = len(chain.transport.pending)
    deliver_all(chain, client)
    waiting.join()

    assert put == 1
    assert [reply.body for reply in replies] == [b"x12"]


@pytest.mark.parametrize("wait", ["soon", "", "-1", "1e3", "30 s", "inf", "nan"])
def test_a_wait_that_is_not_understood_is_refused_before_anything_is_recorded(
    serve: Serve, chain: FlowTester, wait: str
) -> None:
    reply = serve(chain).post(f"/?wait={wait.replace(' ', '+')}")

    assert (reply.status, repr(wait) in reply.json["error"]) == (400, True)
    assert list(chain.state.list("")) == []


@pytest.mark.parametrize("prefer", ["wait", "wait=soon", "await=30", "return=minimal"])
def test_a_preference_that_is_not_understood_is_ignored(serve: Serve, chain: FlowTester, prefer: str) -> None:
    assert serve(chain).post("/", b"", {"Prefer": prefer}).status == 202


def test_nobody_waits_longer_than_the_watchdog_lets_a_call_take(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain, exec_timeout=1.2)
    started = time.monotonic()
    reply = client.start(query="wait=1h")

    assert reply.status == 202
    assert time.monotonic() - started < 1.2


def test_callers_who_wait_leave_threads_for_what_they_wait_for(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain, threads=2)
    replies: list[Any] = []
    waiting = [
        threading.Thread(target=lambda: replies.append(client.start(b"x", query="wait=30s")), daemon=True)
        for _ in range(2)
    ]
    for thread in waiting:
        thread.start()
    wait_until(lambda: len(chain.transport.pending) == 2, "both starts to be taken")
    third = client.start(b"x", query="wait=30s")
    deliver_all(chain, client)
    for thread in waiting:
        thread.join()

    assert third.status == 202
    assert [reply.body for reply in replies] == [b"x12", b"x12"]
