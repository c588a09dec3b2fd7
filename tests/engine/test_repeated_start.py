"""A start that is repeated with its id and body joins the first one: nothing runs twice beside it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import Any

import pytest

from faasflow.errors import RequestConflictError, StoreUnavailableError
from faasflow.testing import FlowTester, RequestState
from faasflow.testing.faults import FlakyStore, Operation
from tests.support import wait_until


def single(flow: Any, context: Any) -> None:
    flow.sync_node().apply("fn")


def chain(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("a").apply("fn")
    dag.node("b").modify(lambda data: data)
    dag.edge("a", "b")


class SlowFunction:
    """A function that answers when it `may_answer`, and counts its calls."""

    def __init__(self) -> None:
        self.may_answer = Event()
        self.calls = 0
        self._lock = Lock()

    def __call__(self, body: bytes) -> bytes:
        with self._lock:
            self.calls += 1
        assert self.may_answer.wait(30)
        return body.upper()


@pytest.mark.parametrize("define", [single, chain])
def test_fifty_starts_at_once_call_the_function_once(define: Callable[..., None]) -> None:
    tester, function = FlowTester(define), SlowFunction()
    tester.function("fn", function)

    with ThreadPoolExecutor(50) as pool:
        starts = [pool.submit(tester.engine.start, b"x", request_id="r") for _ in range(50)]
        wait_until(lambda: sum(one.done() for one in starts) >= 49, "49 starts are answered")
        function.may_answer.set()
        states = {one.result().state for one in starts}
    tester.settle()

    assert function.calls == 1
    assert states <= {RequestState.RUNNING, RequestState.FINISHED}
    assert tester.engine.start(b"x", request_id="r").body == b"X"


@pytest.mark.parametrize("define", [single, chain])
@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.0, 5.0, 29.0])
def test_a_start_that_comes_again_later_puts_and_calls_nothing(define: Callable[..., None], seconds: float) -> None:
    tester, function = FlowTester(define), SlowFunction()
    tester.function("fn", function)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(tester.engine.start, b"x", request_id="r")
        wait_until(lambda: function.calls or tester.transport.pending, "the first start is at work")
        tester.clock.advance(seconds)
        put = len(tester.transport.pending)
        second = tester.engine.start(b"x", request_id="r")
        function.may_answer.set()
        first.result()

    assert second.state is RequestState.RUNNING
    assert (len(tester.transport.pending), function.calls) == (put, 1 - put)


@pytest.mark.parametrize("define", [single, chain])
def test_a_start_that_died_once_it_was_recorded_is_repaired_by_the_clock(define: Callable[..., None]) -> None:
    tester = FlowTester(define)
    tester.function("fn", bytes.upper)
    dying = FlowTester(define, state=FlakyStore(tester.state, after=lambda one: one.is_write), data=tester.data)
    with pytest.raises(StoreUnavailableError):
        dying.engine.start(b"x", request_id="r")

    again = tester.engine.start(b"x", request_id="r")
    tester.settle()

    assert again.state is RequestState.RUNNING
    assert tester.outcome("r").result == b"X"
    assert len(tester.calls("fn")) == 1


def test_what_a_start_could_not_record_is_done_by_the_queue_and_not_only_by_the_clock() -> None:
    writes: list[Operation] = []

    def second_write(operation: Operation) -> bool:
        writes.extend([operation] * operation.is_write)
        return operation.is_write and len(writes) == 2

    tester = FlowTester(single)
    flaky = FlowTester(single, state=FlakyStore(tester.state, before=second_write), transport=tester.transport)
    tester.function("fn", bytes.upper)
    with pytest.raises(StoreUnavailableError):
        flaky.engine.start(b"x", request_id="r")

    assert len(tester.transport.pending) == 1
    tester.drain()
    assert tester.outcome("r").result == b"X"


def test_another_body_is_refused_while_the_first_start_is_under_way() -> None:
    tester = FlowTester(chain)
    tester.engine.start(b"x", request_id="r")

    with pytest.raises(RequestConflictError, match="another body"):
        tester.engine.start(b"y", request_id="r")

    assert len(tester.transport.pending) == 1
