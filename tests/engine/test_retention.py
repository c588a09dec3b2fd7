"""What is removed of ended requests, and when."""

from __future__ import annotations

import pytest

from faasflow.errors import RequestConflictError, RequestNotFoundError
from faasflow.testing import FlowTester, RequestState

WEEK = 7 * 86400.0


def define(flow, context):
    dag = flow.dag()
    dag.node("a").modify(lambda data: context.set("key", data) or data * 100_000)
    dag.node("b").modify(lambda data: data)
    dag.edge("a", "b")


def test_nothing_is_left_of_an_ended_request_once_its_time_has_come() -> None:
    tester = FlowTester(define)
    for number in range(3):
        tester.run(b"x", request_id=f"old-{number}")
    tester.clock.advance(WEEK + 1)
    tester.run(b"x", request_id="old")
    tester.engine.start(b"x", request_id="running")

    assert tester.engine.tick().removed == 3

    assert {key.split("/")[2] for key in tester.state.list("faasflow/")} == {
        "old",
        "running",
        "$requests",
        "$ended",
        "$timers",
        "$clock",
    }
    assert {key.split("/")[2].partition(".")[0] for key in tester.data.list("faasflow/")} == {"old"}
    assert [row["request_id"] for row in tester.engine.requests().rows] == ["running", "old"]
    with pytest.raises(RequestNotFoundError):
        tester.engine.state("old-1")


def test_a_request_that_has_not_ended_is_kept_however_old() -> None:
    tester = FlowTester(define)
    tester.engine.start(b"x", request_id="slow")
    tester.clock.advance(2 * WEEK)

    assert tester.engine.tick().removed == 0
    with pytest.raises(RequestConflictError, match="RUNNING"):
        tester.engine.remove("slow")

    assert tester.engine.state("slow") is RequestState.RUNNING


def test_removal_that_was_cut_off_is_completed_by_the_next() -> None:
    tester = FlowTester(define)
    tester.run(b"x", request_id="r")
    tester.data.configure("flow", "r").cleanup()

    tester.engine.remove("r")

    assert not tester.state.list("")
    assert not tester.data.list("")


def test_an_entry_of_the_list_that_leads_nowhere_is_removed_too() -> None:
    tester = FlowTester(define)
    tester.run(b"x", request_id="r")
    for key in tester.state.list("faasflow/flow/$requests/"):
        tester.state.delete(key)
    tester.state.configure("flow", "r").cleanup()
    tester.clock.advance(WEEK + 1)

    tester.engine.tick()

    assert left(tester) == ["$clock"]


def left(tester: FlowTester) -> list[str]:
    """What is stored beside requests, by the last part of its keys."""
    return [key.rpartition("/")[2] for key in tester.state.list("")]


def test_more_than_a_batch_is_removed() -> None:
    tester = FlowTester(define)
    for number in range(207):
        tester.run(b"x", request_id=str(number))
    tester.clock.advance(WEEK + 1)

    assert tester.engine.tick().removed == 207
    assert left(tester) == ["$clock"]
