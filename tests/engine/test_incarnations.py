"""A request id that is used again: nothing of the earlier request reaches the later one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from faasflow.engine.engine import Engine
from faasflow.engine.removal import Removal
from faasflow.errors import (
    RequestConflictError,
    RequestNotFoundError,
    StoreError,
    StoreUnavailableError,
    TryAgainError,
)
from faasflow.testing import FlowTester, RequestState
from faasflow.testing.faults import FlakyDataStore, FlakyStore, Operation

WEEK = 7 * 86400.0
LARGE = b"x" * 100_000


def chain(flow, context):
    dag = flow.dag()
    dag.node("a").modify(lambda data: data + b"a")
    dag.node("b").modify(lambda data: data + b"b")
    dag.edge("a", "b")


def removed(tester: FlowTester, id: str = "r") -> None:
    tester.engine.remove(id)
    assert not [key for key in tester.state.list("faasflow/flow/") if key.split("/")[2] == id]


def test_messages_of_a_removed_request_change_nothing_in_a_new_one_with_its_id() -> None:
    tester = FlowTester(chain)
    tester.engine.start(b"old", request_id="r")
    kept = list(tester.transport.pending)
    tester.drain()
    tester.engine.stop("r") if tester.engine.state("r") is RequestState.RUNNING else None
    removed(tester)
    tester.engine.start(b"new", request_id="r")

    for message in kept:
        tester.engine.deliver("r", message.body)
    assert len(tester.transport.pending) == 1

    tester.drain()
    assert tester.outcome("r").result == b"newab"


def test_a_delivery_that_outlives_its_request_writes_nothing() -> None:
    def define(flow, context):
        def outlive(data: str) -> str:
            if data == "old":
                tester.engine.stop("r")
                removed(tester)
                tester.engine.start(b"new", request_id="r")
                context.set("key", "of the old one")
            return f"{data}, {context.get('key', 'nothing')}"

        dag = flow.dag()
        dag.node("a").modify(outlive)
        dag.node("b").modify(lambda data: data)
        dag.edge("a", "b")

    tester = FlowTester(define)
    tester.engine.start(b"old", request_id="r")
    tester.drain()

    assert tester.outcome("r").result == b"new, nothing"


def test_a_late_delivery_leaves_nothing_behind_a_removed_request() -> None:
    def define(flow, context):
        def outlive(data: bytes) -> bytes:
            tester.engine.stop("r")
            removed(tester)
            with pytest.raises(RequestNotFoundError):
                context.set("key", "value")
            return data

        dag = flow.dag()
        dag.node("a").modify(outlive)
        dag.node("b").modify(lambda data: data)
        dag.edge("a", "b")

    tester = FlowTester(define)
    tester.engine.start(b"x", request_id="r")
    tester.drain()
    tester.clock.advance(3600)
    tester.engine.tick()

    assert [key.split("/")[2] for key in tester.state.list("faasflow/flow/")] == ["$clock"]


@pytest.mark.parametrize("cut_off_after", range(5))
def test_a_removal_that_was_cut_off_is_finished_and_takes_nothing_of_a_new_request(cut_off_after: int) -> None:
    tester = FlowTester(chain, inline_limit=0)
    tester.run(b"x", request_id="r")
    left = cut_off_after

    def fails(operation: Operation) -> bool:
        nonlocal left
        left -= operation.name == "transact"
        return left < 0

    dying = Engine(replace(tester.engine._parts, state=FlakyStore(tester.state, before=fails)))
    try:
        dying.remove("r")
    except StoreUnavailableError:
        if cut_off_after:
            with pytest.raises(RequestNotFoundError):
                tester.engine.state("r")
            with pytest.raises(RequestNotFoundError):
                tester.engine.retry("r")
            tester.engine.start(b"new", request_id="r")
            tester.drain()
            assert tester.outcome("r").result == b"newab"
            assert len(tester.data.list("")) == 3
    tester.clock.advance(WEEK + 1)
    tester.engine.tick()

    assert [key.split("/")[2] for key in tester.state.list("faasflow/flow/")] == ["$clock"]
    assert not tester.data.list("")


def test_two_removals_take_nothing_of_a_request_that_starts_in_between() -> None:
    tester = FlowTester(chain, inline_limit=0)
    tester.run(b"old", request_id="r")
    has_started = False

    def start_between(operation: Operation) -> bool:
        nonlocal has_started
        if operation.name == "keys" and not has_started:
            has_started = True
            Removal(tester.engine._parts).finish("r")  # by another clock
            tester.engine.start(b"new", request_id="r")
        return False

    Engine(replace(tester.engine._parts, state=FlakyStore(tester.state, before=start_between))).remove("r")
    tester.drain()

    assert has_started
    assert tester.outcome("r").result == b"newab"


def test_a_retry_and_a_removal_do_not_both_succeed() -> None:
    def define(flow, context):
        flow.sync_node().modify(lambda data: 1 / 0)

    tester = FlowTester(define)
    tester.run(b"x", request_id="r")

    def retry_between(operation: Operation) -> bool:
        if operation.name == "transact" and tester.engine.state("r") is RequestState.FAILED:
            tester.engine.retry("r")
        return False

    with pytest.raises(RequestConflictError):
        Engine(replace(tester.engine._parts, state=FlakyStore(tester.state, before=retry_between))).remove("r")

    assert tester.engine.state("r") is RequestState.RUNNING


@pytest.mark.parametrize("outcome", ["refused", "conflict"])
def test_what_a_start_wrote_before_it_failed_is_removed(outcome: str) -> None:
    tester = FlowTester(chain)
    if outcome == "conflict":
        tester.engine.start(b"y", request_id="r")
    before = tester.state.keys("")
    written = 0

    def fails(operation: Operation) -> bool:
        nonlocal written
        written += operation.name == "transact"
        if written == 2 and operation.name == "transact" and outcome == "refused":
            raise StoreError("it is full")
        return False

    failing = Engine(replace(tester.engine._parts, state=FlakyStore(tester.state, before=fails)))
    with pytest.raises((StoreError, RequestConflictError)):
        failing.start(LARGE, request_id="r")

    assert not tester.data.list("")
    assert tester.state.keys("") == before


@pytest.mark.parametrize("last", range(1, 5))
def test_what_a_start_wrote_before_its_process_died_is_removed_by_the_clock(last: int) -> None:
    def define(flow, context):
        flow.sync_node().modify(lambda data: context.set("key", data) or data)

    tester = FlowTester(define)
    written = 0

    def dies(operation: Operation) -> bool:
        nonlocal written
        written += operation.is_write
        return written > last

    parts = tester.engine._parts
    dying = Engine(
        replace(parts, state=FlakyStore(tester.state, before=dies), data=FlakyDataStore(tester.data, before=dies))
    )
    with suppress(StoreUnavailableError):
        dying.start(LARGE)
    tester.clock.advance(2 * 3600)
    tester.engine.tick()
    tester.settle()
    tester.clock.advance(WEEK + 1)
    tester.engine.tick()

    assert [key.split("/")[2] for key in tester.state.list("faasflow/flow/")] == ["$clock"]
    assert not tester.data.list("")


def test_a_start_that_is_recorded_after_the_clock_removed_what_it_wrote_records_nothing() -> None:
    tester = FlowTester(chain)
    written = 0

    def waits(operation: Operation) -> bool:
        nonlocal written
        written += operation.name == "transact"
        if written == 2 and operation.name == "transact":
            written += 1
            tester.clock.advance(2 * 3600)
            tester.engine.tick()
        return False

    with pytest.raises(TryAgainError):
        Engine(replace(tester.engine._parts, state=FlakyStore(tester.state, before=waits))).start(LARGE, request_id="r")
    with pytest.raises(RequestNotFoundError):
        tester.engine.state("r")
    assert not tester.data.list("")

    assert tester.run(LARGE, request_id="r").result == LARGE + b"ab"


def test_a_start_whose_answer_was_lost_keeps_its_input() -> None:
    tester = FlowTester(chain)
    written = 0

    def is_lost(operation: Operation) -> bool:
        nonlocal written
        written += operation.name == "transact"
        return operation.name == "transact" and written == 2

    failing = Engine(replace(tester.engine._parts, state=FlakyStore(tester.state, after=is_lost)))
    with pytest.raises(StoreUnavailableError):
        failing.start(LARGE, request_id="r")

    tester.settle()

    assert tester.outcome("r").result == LARGE + b"ab"


def test_calls_of_a_later_request_have_another_idempotency_key() -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.node("a").apply("fn")
        dag.node("b").modify(lambda data: data)
        dag.edge("a", "b")

    tester = FlowTester(define)
    tester.function("fn", lambda body: body)
    for _ in range(2):
        tester.run(b"x", request_id="r")
        removed(tester)

    assert len({call.headers["Idempotency-Key"] for call in tester.calls("fn")}) == 2
