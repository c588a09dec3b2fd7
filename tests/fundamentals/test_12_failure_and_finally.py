"""12. Failure and the end. A call that fails, or code that raises, fails its node, and with it the request: nothing
new starts. `flow.on_failure` may say what callers are told; `flow.finally_` runs at the end of every request, however
it ended.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from faasflow.testing import RequestState


def payment(flow, context):
    dag = flow.dag()
    dag.node("reserve").apply("reserve")
    dag.node("charge").apply("charge")
    dag.node("ship").apply("ship")
    dag.edge("reserve", "charge")
    dag.edge("charge", "ship")


def fine(body: bytes) -> bytes:
    return body


def no_money(body: bytes) -> bytes:
    raise ValueError("the card is empty")


FUNCTIONS = {"reserve": fine, "charge": no_money, "ship": fine}


def test_a_failed_call_fails_the_request_and_nothing_more_starts(run_flow):
    flow = run_flow(payment, functions=FUNCTIONS)

    outcome = flow.run(b"tea")

    assert outcome.state is RequestState.FAILED
    assert outcome.result is None
    assert outcome.ran == ["reserve", "charge"]
    assert flow.calls("ship") == []


def test_the_failure_names_the_node_the_operation_and_the_reason(run_flow):
    failure = run_flow(payment, functions=FUNCTIONS).run(b"tea").failure

    assert (failure.node, failure.operation, failure.error_type) == ("charge", "charge", "CallError")
    assert failure.message == "Function 'charge' answered 500."
    assert failure.hint == "It said: ValueError: the card is empty"


def own_code(flow, context):
    flow.sync_node().modify(divide)


def divide(number: int) -> float:
    return 1 / number


def test_an_exception_in_code_fails_the_request_with_its_traceback(run_flow):
    outcome = run_flow(own_code).run(b"0")

    assert outcome.error == "sync: ZeroDivisionError: division by zero"
    assert "return 1 / number" in outcome.failure.traceback


def apologising(flow, context):
    payment(flow, context)
    flow.on_failure(partial(apologise, context=context))


def apologise(error, *, context) -> dict:
    return {"sorry": context.request_id, "node": error.node, "why": error.error_type}


def test_what_on_failure_returns_is_the_answer_of_a_failed_request(run_flow):
    outcome = run_flow(apologising, functions=FUNCTIONS).run(b"tea", request_id="nr-1")

    assert outcome.state is RequestState.FAILED
    assert outcome.result == b'{"sorry":"nr-1","node":"charge","why":"CallError"}'


def tidy(flow, context):
    payment(flow, context)
    flow.finally_(partial(write_down, context=context))


def write_down(state: str, *, context) -> None:
    Path(context.query["log"]).write_text(f"{state} of {context.request_id}, {context.state}")


def test_finally_is_told_of_success(run_flow, tmp_path):
    log = tmp_path / "log"

    run_flow(tidy, functions={**FUNCTIONS, "charge": fine}).run(b"tea", query={"log": str(log)}, request_id="nr-1")

    assert log.read_text() == "success of nr-1, success"


def test_finally_is_told_of_failure(run_flow, tmp_path):
    log = tmp_path / "log"

    run_flow(tidy, functions=FUNCTIONS).run(b"tea", query={"log": str(log)}, request_id="nr-1")

    assert log.read_text() == "failure of nr-1, failure"
