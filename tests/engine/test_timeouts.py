"""Time limits of nodes and requests."""

from __future__ import annotations

import threading

import pytest

from faasflow import Retry
from faasflow.engine.engine import Engine
from faasflow.engine.parts import Parts
from faasflow.errors import CallTimeoutError
from faasflow.runtime import SystemClock, definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing import FlowTester, InProcessTransport, OutgoingCall, RequestState, Response
from tests.support import wait_until


def calls(*functions: str, flow_timeout: float | None = None, **options):
    def define(flow, context):
        if flow_timeout is not None:
            flow.timeout(flow_timeout)
        dag = flow.dag()
        node = dag.node("a", **options)
        for function in functions:
            node.apply(function)
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    return define


def taking(tester: FlowTester, *seconds: float):
    """A function that takes so long, one call after the other, and gives up when its caller does."""
    left = list(seconds)

    def answer(call: OutgoingCall) -> Response:
        takes = left.pop(0)
        tester.clock.advance(min(takes, call.timeout))
        if takes > call.timeout:
            raise CallTimeoutError(f"no answer within {call.timeout:g} s")
        return Response(200, {}, b"done")

    return answer


def test_a_call_has_what_is_left_of_the_time_of_its_node() -> None:
    tester = FlowTester(calls("first", "second", timeout=10))
    tester.answer("first", taking(tester, 7))
    tester.answer("second", taking(tester, 30))

    outcome = tester.run(b"x")

    assert [call.timeout for call in tester.transport.calls] == pytest.approx([10, 3], abs=0.1)
    assert outcome.error == "a: NodeTimeoutError: Node 'a' did not end within 10 s."


def test_a_call_has_no_more_than_its_own_timeout() -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.node("a", timeout=10).apply("fn", timeout=4)

    tester = FlowTester(define)
    tester.answer("fn", taking(tester, 1))

    tester.run(b"x")

    assert [call.timeout for call in tester.transport.calls] == [4]


def test_the_result_of_a_node_that_ended_too_late_is_refused() -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.node("a", timeout=10).modify(lambda data: tester.clock.advance(11) or b"late")
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    tester = FlowTester(define)

    outcome = tester.run(b"x")

    assert outcome.error.startswith("a: NodeTimeoutError")
    assert outcome.ran == ["a"]


def test_a_node_that_took_too_long_is_tried_again_with_all_of_its_time() -> None:
    tester = FlowTester(calls("fn", timeout=10, retry=Retry(attempts=3, delay=1, jitter=0)))
    tester.answer("fn", taking(tester, 30, 30, 9))

    outcome = tester.run(b"x")

    assert (outcome.state, outcome.result) == (RequestState.FINISHED, b"done")
    assert [call.timeout for call in tester.transport.calls] == pytest.approx([10, 10, 10], abs=0.1)
    assert len({call.headers["Idempotency-Key"] for call in tester.transport.calls}) == 1


@pytest.mark.parametrize("lost", [0, 1])
def test_the_clock_fails_a_request_that_has_not_ended_in_time(lost) -> None:
    tester = FlowTester(calls("fn", flow_timeout=100))
    tester.function("fn", lambda data: data)
    started = tester.engine.start(b"x", request_id="r")
    for _ in range(lost):
        message = tester.transport.pending.popleft()
        tester.engine.deliver(message.request_id, message.body)
    kept = list(tester.transport.pending)
    tester.transport.pending.clear()

    tester.clock.advance(99)
    tester.engine.tick()
    assert tester.engine.state("r") is RequestState.RUNNING
    tester.clock.advance(2)
    tester.engine.tick()
    outcome = tester.outcome(started.request_id)

    assert outcome.error == ": RequestTimeoutError: The request did not end within 100 s."
    for message in kept:
        tester.engine.deliver(message.request_id, message.body)
    assert tester.outcome("r").ran == outcome.ran


def test_the_result_of_a_node_that_runs_past_the_end_of_its_request_is_refused() -> None:
    def define(flow, context):
        flow.timeout(100)
        flow.on_failure(lambda error: f"failed: {error.error_type}")
        dag = flow.dag()
        dag.node("a").modify(slow)
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    def slow(data: bytes) -> bytes:
        tester.clock.advance(101)
        tester.engine.tick()
        return b"late"

    tester = FlowTester(define)

    outcome = tester.run(b"x")

    assert outcome.state is RequestState.FAILED
    assert outcome.result == b"failed: RequestTimeoutError"
    assert "a" not in outcome.ran
    assert not tester.transport.pending


def test_a_handler_that_hangs_in_its_own_code_fails_in_time_and_its_late_result_is_refused() -> None:
    let_go, states = threading.Event(), []

    def hang(data: bytes) -> bytes:
        let_go.wait(60)
        return b"late"

    def define(flow, context) -> None:
        dag = flow.dag()
        dag.node("n", timeout=0.3).modify(hang)
        dag.node("behind").modify(hang)
        dag.edge("n", "behind")
        flow.finally_(states.append)

    transport = InProcessTransport()
    parts = Parts(
        flow="flow",
        define=definer(define),
        state=MemoryStateStore(),
        data=MemoryDataStore(),
        transport=transport,
        clock=SystemClock(),
        lease_after=0.1,
    )
    engine = Engine(parts)
    engine.start(b"", request_id="r")
    message = transport.pending.popleft()
    worker = threading.Thread(target=engine.deliver, args=("r", message.body))
    worker.start()
    wait_until(lambda: engine.state("r") is RequestState.FAILED, "the hanging node to fail its request")
    wait_until(lambda: states, "finally_ to run")
    is_still_hanging = worker.is_alive()
    let_go.set()
    worker.join(20)

    failure = engine.answer("r").failure
    assert is_still_hanging
    assert failure is not None
    assert (failure.node, failure.error_type) == ("n", "NodeTimeoutError")
    assert (engine.state("r"), states) == (RequestState.FAILED, ["failure"])
