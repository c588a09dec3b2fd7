"""15. Steering a request. `pause` lets what runs come to its end and starts nothing new; `resume` goes on; `stop`
ends the request. Here the first function steers the request that is calling it.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest

from faasflow.errors import RequestConflictError, RequestNotFoundError
from faasflow.testing import RequestState


def two_steps(flow, context):
    dag = flow.dag()
    dag.node("first").apply("first")
    dag.node("second").apply("second")
    dag.edge("first", "second")
    flow.finally_(partial(write_down, context=context))


def write_down(state: str, *, context) -> None:
    if "log" in context.query:
        Path(context.query["log"]).write_text(state)


def second(body: bytes) -> bytes:
    return body + b", second"


def started_and_paused(run_flow, second=second):
    def first(body: bytes) -> bytes:
        flow.pause("nr-1")
        return b"first"

    flow = run_flow(two_steps, functions={"first": first, "second": second})
    return flow, flow.run(request_id="nr-1")


def test_a_paused_request_starts_nothing_new(run_flow):
    flow, outcome = started_and_paused(run_flow)

    assert outcome.state is RequestState.PAUSED
    assert flow.calls("second") == []


def test_a_resumed_request_goes_on_to_its_end(run_flow):
    flow, _ = started_and_paused(run_flow)

    flow.resume("nr-1")
    outcome = flow.wait("nr-1")

    assert outcome.result == b"first, second"
    assert len(flow.calls("first")) == len(flow.calls("second")) == 1


def test_pausing_and_resuming_again_changes_nothing(run_flow):
    resumed = threading.Event()
    flow, _ = started_and_paused(run_flow, lambda body: second(body) if resumed.wait(30) else b"never resumed")

    flow.pause("nr-1")
    assert flow.state("nr-1") is RequestState.PAUSED

    flow.resume("nr-1")
    flow.resume("nr-1")
    resumed.set()
    assert flow.wait("nr-1").result == b"first, second"
    assert len(flow.calls("second")) == 1


def started_and_stopped(run_flow, **query):
    def first(body: bytes) -> bytes:
        flow.stop("nr-1")
        return b"first"

    flow = run_flow(two_steps, functions={"first": first, "second": second})
    return flow, flow.run(request_id="nr-1", query=query)


def test_a_stopped_request_has_no_result_and_starts_nothing_more(run_flow):
    flow, outcome = started_and_stopped(run_flow)

    assert outcome.state is RequestState.STOPPED
    assert outcome.result is None
    assert flow.calls("second") == []


def test_finally_is_told_of_the_stop(run_flow, tmp_path):
    started_and_stopped(run_flow, log=str(tmp_path / "log"))

    assert (tmp_path / "log").read_text() == "stopped"


def test_a_request_that_has_ended_cannot_be_steered(run_flow):
    flow, _ = started_and_stopped(run_flow)

    flow.stop("nr-1")
    for command in (flow.pause, flow.resume):
        with pytest.raises(RequestConflictError, match="'nr-1' is STOPPED"):
            command("nr-1")


def test_a_request_that_is_not_known_cannot_be_steered(run_flow):
    flow = run_flow(two_steps)

    for command in (flow.pause, flow.resume, flow.stop):
        with pytest.raises(RequestNotFoundError, match="'nobody' is not known"):
            command("nobody")
