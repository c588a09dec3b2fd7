"""Requests whose flow is changed while they are under way: what is refused, which way out works, what is no change."""

from __future__ import annotations

from typing import Any

import pytest

from faasflow.errors import RequestConflictError
from faasflow.testing import FlowTester, RequestState

REDEPLOYED: dict[str, Any] = {}


def define(flow: Any, context: Any) -> None:
    REDEPLOYED["define"](flow, context)


def former(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("a").apply("a")
    dag.node("b").apply("b")
    dag.node("c").apply("c")
    dag.node("d", aggregator=lambda results: results["b"] + results["c"]).apply("d")
    for source, target in ("ab", "ac", "bd", "cd"):
        dag.edge(source, target)


def reordered(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("d", aggregator=lambda results: results["b"] + results["c"]).apply("d")
    dag.node("c").apply("c")
    dag.node("a").apply("a")
    dag.node("b").apply("b")
    for source, target in ("cd", "bd", "ac", "ab"):
        dag.edge(source, target)


@pytest.fixture
def tester() -> FlowTester:
    REDEPLOYED["define"] = former
    tester = FlowTester(define)
    for name in "abcde":
        tester.function(name, lambda data, name=name: data + name.encode())
    return tester


def changed_flow(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("a").apply("a")
    dag.node("z").apply("e")
    dag.edge("a", "z")


def test_a_resume_of_a_request_whose_flow_was_changed_is_refused_and_leaves_it_paused(tester: FlowTester) -> None:
    tester.engine.start(b"x", request_id="r")
    tester.engine.pause("r")
    tester.settle()
    REDEPLOYED["define"] = changed_flow

    with pytest.raises(RequestConflictError, match="its flow was changed") as caught:
        tester.engine.resume("r")
    tester.clock.advance(3600)
    tester.engine.tick()
    assert caught.value.status == 409
    assert "Deploy the former definition and resume it" in caught.value.hint
    assert tester.engine.state("r") is RequestState.PAUSED

    REDEPLOYED["define"] = former
    tester.engine.resume("r")
    tester.settle()
    assert tester.outcome("r").result == b"xabxacd"


def test_a_resume_while_the_flow_cannot_be_defined_leaves_the_request_paused(tester: FlowTester) -> None:
    tester.engine.start(b"x", request_id="r")
    tester.engine.pause("r")
    REDEPLOYED.pop("define")

    with pytest.raises(Exception, match="define"):
        tester.engine.resume("r")
    assert tester.engine.state("r") is RequestState.PAUSED


@pytest.mark.parametrize("has_message", [True, False])
def test_the_hint_for_a_retry_of_a_request_that_failed_by_the_change_works(tester: FlowTester, has_message) -> None:
    tester.engine.start(b"x", request_id="r")
    tester.engine.deliver("r", tester.transport.pending.popleft().body)
    if not has_message:
        tester.transport.pending.clear()
    REDEPLOYED["define"] = changed_flow
    tester.settle()
    assert tester.outcome("r").state is RequestState.FAILED

    with pytest.raises(RequestConflictError, match="its flow was changed") as caught:
        tester.engine.retry("r")
    assert "Deploy the former definition and retry it, or start a new request with another id" in caught.value.hint
    assert tester.run(b"x", request_id="s").result == b"xae"

    REDEPLOYED["define"] = former
    tester.engine.retry("r")
    tester.settle()
    assert tester.outcome("r").result == b"xabxacd"
    assert len(tester.calls("a")) == 2


@pytest.mark.parametrize("delivered", range(5))
def test_lines_of_define_that_change_places_change_nothing(tester: FlowTester, delivered: int) -> None:
    tester.engine.start(b"x", request_id="r")
    for _ in range(delivered):
        if tester.transport.pending:
            tester.engine.deliver("r", tester.transport.pending.popleft().body)

    REDEPLOYED["define"] = reordered
    tester.settle()

    assert tester.outcome("r").result == b"xabxacd"
    assert [len(tester.calls(name)) for name in "abcd"] == [1, 1, 1, 1]


def test_a_request_of_a_former_version_goes_on_with_its_own_fingerprint(tester: FlowTester) -> None:
    tester.engine.start(b"x", request_id="r")
    key = "faasflow/flow/r/request"
    definition = tester.engine.definition()
    record = tester.state.get(key)
    tester.state.set(key, record.replace(definition.fingerprint.encode(), definition._in_order.encode()))

    tester.settle()

    assert tester.outcome("r").result == b"xabxacd"
