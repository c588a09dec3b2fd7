"""A request that cannot be worked on, for a reason that nobody foresaw, fails with that reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from faasflow.engine.plan import After
from faasflow.errors import FaasflowError, StoreUnavailableError, TryAgainError
from faasflow.stores.memory import MemoryStateStore
from faasflow.testing import FlowTester, RequestState
from faasflow.testing.faults import FlakyStore

PREFIX = "faasflow/flow/r/"


def define(flow, context):
    dag = flow.dag()
    dag.node("a").modify(lambda data: data + b"a")
    dag.node("b").modify(lambda data: data + b"b")
    dag.node("c").modify(lambda data: data + b"c")
    dag.edge("a", "b")
    dag.edge("b", "c")


def live(tester: FlowTester, seconds: float, *, repeats: bool) -> float:
    """Let the clock tick and a queue deliver that `repeats` what was not taken, or forgets it; for how long it took
    until the request had ended."""
    began = tester.clock.now()
    while tester.clock.now() < began + seconds and not tester.outcome("r").state.has_ended:
        for _ in range(len(tester.transport.pending)):
            message = tester.transport.pending.popleft()
            try:
                tester.engine.deliver(message.request_id, message.body)
            except TryAgainError:
                tester.transport.pending += [message] if repeats else []
        with suppress(StoreUnavailableError):
            tester.engine.tick()
        tester.clock.advance(5)
    return tester.clock.now() - began


def deliver_one(tester: FlowTester) -> None:
    message = tester.transport.pending.popleft()
    tester.engine.deliver(message.request_id, message.body)


@pytest.mark.parametrize("repeats", [True, False], ids=["repeats", "forgets"])
def test_a_delivery_that_fails_in_the_engine_each_time_fails_its_request_with_the_reason(
    repeats: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*about: Any) -> After:
        raise KeyError("b")

    tester = FlowTester(define)
    tester.engine.start(b"x", request_id="r")
    deliver_one(tester)
    monkeypatch.setattr("faasflow.engine.plan.inputs", broken)
    took = live(tester, 4 * 3600, repeats=repeats)

    outcome = tester.outcome("r")
    assert outcome.state is RequestState.FAILED
    assert outcome.failure is not None
    assert outcome.failure.error_type == "StuckError"
    assert re.fullmatch(r"Step 'b' could not be worked on, \d+ times: KeyError: 'b'", outcome.failure.message)
    assert [row["request_id"] for row in tester.engine.dead_letters()] == ["r"]
    assert took >= 60

    monkeypatch.undo()
    tester.engine.retry("r")
    tester.settle()
    assert tester.outcome("r").result == b"xabc"


def test_an_error_that_passes_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*about: Any) -> After:
        raise MemoryError

    tester = FlowTester(define)
    tester.engine.start(b"x", request_id="r")
    with monkeypatch.context() as patched:
        patched.setattr("faasflow.engine.plan.inputs", broken)
        for _ in range(20):  # within the same minute
            with pytest.raises(TryAgainError):
                tester.engine.deliver("r", tester.transport.pending[0].body)
    tester.settle()

    assert tester.outcome("r").state is RequestState.FINISHED


BAD: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a result that is no JSON": ("node/a", lambda value: b"\xff"),
    "a result of a newer version": ("node/a", lambda value: value.replace(b"FINISHED", b"ROUNDED")),
    "a lease that is none": ("lease/node/b", lambda value: b"{}"),
    "an attempt that is none": ("attempt/node/b/1", lambda value: b"{}"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("repeats", [True, False], ids=["repeats", "forgets"])
def test_a_record_that_cannot_be_read_fails_its_request(name: str, repeats: bool) -> None:
    key, spoil = BAD[name]
    tester = FlowTester(define, inline_limit=1)
    tester.engine.start(b"xyz", request_id="r")
    deliver_one(tester)
    before = tester.state.read([PREFIX + key]).get(PREFIX + key)
    tester.state.set(PREFIX + key, spoil(before.value if before else b""))
    tester.transport.pending.clear()  # what carries the result itself, so that nobody has to read it

    live(tester, 4 * 3600, repeats=repeats)

    outcome = tester.outcome("r")
    assert outcome.state is RequestState.FAILED
    assert outcome.failure is not None
    assert "StoreCorruptError" in f"{outcome.failure.error_type} {outcome.failure.message}"
    assert key in outcome.failure.message


@pytest.mark.parametrize("repeats", [True, False], ids=["repeats", "forgets"])
def test_an_input_that_the_store_has_lost_fails_its_request(repeats: bool) -> None:
    tester = FlowTester(define, inline_limit=1)
    tester.engine.start(b"xyz", request_id="r")
    tester.state.delete(PREFIX + "input")
    tester.transport.pending.clear()

    live(tester, 4 * 3600, repeats=repeats)

    outcome = tester.outcome("r")
    assert outcome.failure is not None
    assert "'input' is not recorded yet" in outcome.failure.message


def test_a_store_that_is_away_for_a_day_fails_nothing() -> None:
    until = [0.0]
    memory = MemoryStateStore()
    tester = FlowTester(define, state=FlakyStore(memory, before=lambda operation: tester.clock.now() < until[0]))
    tester.engine.start(b"x", request_id="r")
    until[0] = tester.clock.now() + 86400
    while tester.clock.now() < until[0]:
        with pytest.raises(FaasflowError):
            tester.engine.deliver("r", tester.transport.pending[0].body)
        with pytest.raises(StoreUnavailableError):
            tester.engine.tick()
        tester.clock.advance(60)
    live(tester, 3600, repeats=True)

    assert tester.outcome("r").result == b"xabc"


def test_on_failure_is_told_why_a_request_cannot_be_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*about: Any) -> After:
        raise KeyError("b")

    told: list[str] = []

    def with_handler(flow, context):
        define(flow, context)
        flow.on_failure(lambda error: told.append(error.error_type))

    tester = FlowTester(with_handler)
    tester.engine.start(b"x", request_id="r")
    monkeypatch.setattr("faasflow.engine.plan.inputs", broken)
    live(tester, 3600, repeats=True)

    assert told == ["StuckError"]


def test_a_request_at_which_no_look_of_the_clock_succeeds_fails_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from faasflow.engine import repair

    tester = FlowTester(define)
    tester.engine.start(b"x", request_id="r")
    tester.transport.pending.clear()
    usual = repair.ready

    def broken(definition: Any, keys: Any, options: Any) -> Any:
        if "data/bad" in keys:
            raise RecursionError("too deep")
        return usual(definition, keys, options)

    monkeypatch.setattr(repair, "ready", broken)
    tester.state.set(PREFIX + "data/bad", b"")
    tester.engine.start(b"x", request_id="good")
    took = live(tester, 3600, repeats=True)
    tester.settle()

    outcome = tester.outcome("r")
    assert outcome.failure is not None
    assert outcome.failure.message == "The request could not be worked on, 10 times: RecursionError: too deep"
    assert 60 < took < 900
    assert tester.outcome("good").state is RequestState.FINISHED
