"""A call that only starts another flow has no result: it fails by name, and is not repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from faasflow import Retry
from faasflow.testing import FlowTester, RequestState, Response


def calling(**options: Any) -> Callable[[Any, Any], None]:
    def define(flow: Any, context: Any) -> None:
        flow.dag().node("n", retry=Retry(attempts=3, delay=0)).apply("other", **options)

    return define


def answered(status: int, *, state: str, **options: Any) -> tuple[FlowTester, Any]:
    tester = FlowTester(calling(**options))
    tester.answer("other", lambda call: Response(status, {"x-faas-flow-state": state}, b"an id"))
    return tester, tester.run(b"data")


@pytest.mark.parametrize("state", ["RUNNING", "PAUSED"])
def test_a_flow_that_was_only_started_fails_the_call_by_name_once_with_the_way_out(state: str) -> None:
    tester, outcome = answered(202, state=state)

    assert outcome.state is RequestState.FAILED
    assert outcome.failure.error_type == "StartedFlowError"
    assert "Function 'other' is a flow: it answered 202" in outcome.failure.message
    assert '{"wait": "30s"}' in outcome.failure.hint
    assert len(tester.calls("other")) == 1


def test_the_result_of_a_flow_that_has_ended_is_the_data() -> None:
    _, outcome = answered(200, state="FINISHED")

    assert outcome.result == b"an id"


def test_another_202_is_a_success() -> None:
    _, outcome = answered(202, state="")

    assert outcome.result == b"an id"


def test_on_response_may_take_the_202_as_the_data() -> None:
    _, outcome = answered(202, state="RUNNING", on_response=lambda response: response.body.upper())

    assert outcome.result == b"AN ID"
