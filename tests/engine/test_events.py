"""Event handlers: what they are told, in which order, and that nothing they do changes a request."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from faasflow import Event, EventHandler, Retry
from faasflow.errors import RequestConflictError
from faasflow.scope import Scope, current_scope
from faasflow.testing import FlowTester, RequestState, Response

EVENTS = [name for name in vars(EventHandler) if name.startswith("report_")]


@dataclass
class Told(EventHandler):
    """Remembers what it is told, and passes a mark on with everything that is sent."""

    events: list[tuple[str, Event]] = field(default_factory=list)

    def flush(self) -> None:
        self.events.append(("flush", self.events[-1][1]))

    def lines(self) -> list[str]:
        return [f"{name} {event.node}{_phase(event)} {event.operation}".strip() for name, event in self.events]

    def of(self, name: str) -> list[Event]:
        return [event for told, event in self.events if told == name]


def _phase(event: Event) -> str:
    return "" if event.phase == "node" else f"[{event.phase}]"


def _reporting(name: str):
    def report(self: Told, event: Event) -> None:
        self.events.append((name.removeprefix("report_"), event))
        if name in ("report_execution_forward", "report_operation_start"):
            event.headers["x-mark"] = f"{event.node}.{event.operation}"

    return report


for _name in EVENTS:
    setattr(Told, _name, _reporting(_name))


def define_chain(flow, context):
    dag = flow.dag()
    dag.node("first").modify(bytes.upper)
    dag.node("second").apply("shout").modify(bytes.lower)
    dag.edge("first", "second")


def run(define, *, handlers=None, **functions):
    told = Told()
    tester = FlowTester(define, events=handlers or [told])
    for name, code in functions.items():
        tester.function(name, code)
    return tester, told


def test_a_flow_of_one_node_is_told_in_the_order_of_faas_flow():
    tester, told = run(lambda flow, context: flow.sync_node().modify(bytes.upper))
    tester.run(b"x")

    assert told.lines() == [
        "request_start",
        "execution_forward sync",
        "node_start sync",
        "operation_start sync upper",
        "operation_end sync upper",
        "node_end sync",
        "request_end",
        "flush",
    ]


def test_a_chain_is_told_delivery_by_delivery():
    tester, told = run(define_chain, shout=bytes.upper)
    tester.run(b"x")

    assert told.lines() == [
        "request_start",
        "execution_forward first",
        "flush first",
        "execution_continuation first",
        "node_start first",
        "operation_start first upper",
        "operation_end first upper",
        "node_end first",
        "execution_forward second",
        "flush second",
        "execution_continuation second",
        "node_start second",
        "operation_start second shout",
        "operation_end second shout",
        "operation_start second lower",
        "operation_end second lower",
        "node_end second",
        "request_end",
        "flush",
    ]


def test_a_foreach_is_told_as_a_split_and_a_join():
    def define(flow, context):
        flow.dag().foreach_branch("each", lambda data: {"a": b"1", "b": b"2"}, aggregator=lambda parts: b"").node(
            "n"
        ).modify(bytes.upper)

    tester, told = run(define)
    tester.run(b"x")

    assert [event.node for event in told.of("node_start")] == ["each", "each/n@a", "each/n@b", "each"]
    assert [event.phase for event in told.of("node_start")] == ["split", "node", "node", "join"]
    assert len(told.of("node_end")) == 4


def test_what_is_sent_along_comes_back_and_is_seen_by_functions():
    tester, told = run(define_chain, shout=bytes.upper)
    tester.run(b"x")

    assert [event.headers for event in told.of("execution_continuation")] == [
        {"x-mark": "first."},
        {"x-mark": "second."},
    ]
    assert tester.calls("shout")[0].headers["x-mark"] == "second.shout"


def test_the_callers_headers_are_told_at_the_start():
    tester, told = run(define_chain, shout=bytes.upper)
    tester.engine.start(b"x", headers={"Uber-Trace-Id": "1:2:0:1"})

    assert told.of("request_start")[0].headers == {"Uber-Trace-Id": "1:2:0:1"}


def test_what_is_sent_along_survives_a_pause():
    tester, told = run(define_chain, shout=bytes.upper)
    id = tester.engine.start(b"x").request_id
    tester.engine.pause(id)
    tester.drain()
    assert told.of("execution_continuation") == []
    tester.engine.resume(id)
    tester.drain()

    assert told.of("execution_continuation")[0].headers == {"x-mark": "first."}


def test_what_the_clock_sends_again_has_what_the_start_sent_along():
    tester, told = run(define_chain, shout=bytes.upper)
    tester.engine.start(b"x")
    tester.transport.pending.clear()
    tester.settle()

    assert [event.headers for event in told.of("execution_continuation")] == [
        {"x-mark": "first."},
        {"x-mark": "second."},
    ]


def test_a_failed_attempt_is_told_with_its_error_and_the_next_one_as_another():
    def define(flow, context):
        flow.dag().node("n", retry=Retry(attempts=2)).apply("shaky")

    tester, told = run(define)
    answers = [500, 500]
    tester.answer("shaky", lambda call: Response(answers.pop(0), {}, b""))
    outcome = tester.run(b"x")
    failures = told.of("node_failure")

    assert outcome.state is RequestState.FAILED
    assert [(event.attempt, event.state, type(event.error).__name__) for event in failures] == [
        (1, "RETRYING", "CallError"),
        (2, "FAILED", "CallError"),
    ]
    assert [event.attempt for event in told.of("operation_failure")] == [1, 2]
    assert [event.state for event in told.of("request_failure")] == ["FAILED"]
    assert told.of("request_end") == []


def test_a_stop_is_told_once_with_what_runs_after_it():
    def define(flow, context):
        define_chain(flow, context)
        flow.finally_(lambda state: None)

    tester, told = run(define)
    id = tester.engine.start(b"x", callback="http://hooks.example.com/done").request_id
    tester.engine.stop(id)
    tester.engine.stop(id)
    tester.settle()

    assert [event.state for event in told.of("request_end")] == ["STOPPED"]
    assert [event.node for event in told.of("node_start")].count("$finally") == 1
    call = told.of("operation_start")[0]
    assert (call.node, call.operation) == ("$callback", "callback to hooks.example.com")
    assert (call.method, call.url) == ("POST", "http://hooks.example.com")


def test_a_result_that_came_too_late_is_told_as_not_recorded():
    tester, told = run(define_chain)
    request = tester.engine.start(b"x").request_id
    tester.function("shout", lambda body: tester.engine.stop(request) and body)
    tester.drain()

    assert [(event.node, event.is_recorded) for event in told.of("node_end")] == [("first", True), ("second", False)]


class Broken(EventHandler):
    """Fails wherever it can."""

    def configure(self, flow: str, request_id: str) -> EventHandler:
        return self


def _failing(self, event: Event) -> None:
    raise RuntimeError(f"secret of {event.request_id}")


for _name in EVENTS:
    setattr(Broken, _name, _failing)
Broken.flush = lambda self: 1 / 0  # type: ignore[method-assign]


class Unwilling(EventHandler):
    """Cannot even be asked."""

    def configure(self, flow: str, request_id: str) -> EventHandler:
        raise KeyError(request_id)


class Leaving(EventHandler):
    """Wants to end the process."""

    def report_node_start(self, event: Event) -> None:
        raise SystemExit(event.request_id)


class Talkative(EventHandler):
    """Sends along what cannot be sent."""

    def report_execution_forward(self, event: Event) -> None:
        event.headers.update({"a header": "x", "big": "x" * 100_000, "number": 7, "": "", "no-text": "\ud800"})  # type: ignore[dict-item]

    report_operation_start = report_execution_forward


@pytest.mark.parametrize(
    "handler", [Broken(), Unwilling(), Leaving(), Talkative()], ids=lambda handler: type(handler).__name__
)
def test_a_handler_that_fails_touches_neither_the_request_nor_other_handlers(handler, caplog):
    told = Told()
    tester, _ = run(define_chain, handlers=[handler, told], shout=bytes.upper)
    outcome = tester.run(b"x")

    assert (outcome.state, outcome.result) == (RequestState.FINISHED, b"x")
    assert told.lines()[-2:] == ["request_end", "flush"]
    assert "secret" not in caplog.text


def test_one_handler_for_each_delivery_is_told_all_of_it():
    class Counting(EventHandler):
        made: ClassVar[list[list[tuple[str, Event]]]] = []

        def configure(self, flow: str, request_id: str) -> EventHandler:
            told = Told()
            self.made.append(told.events)
            return told

    tester, _ = run(define_chain, handlers=[Counting()], shout=bytes.upper)
    tester.run(b"x")

    assert [events[0][0] for events in Counting.made] == [
        "request_start",
        "execution_continuation",
        "execution_continuation",
    ]


def test_the_thread_is_marked_with_what_it_works_for():
    seen: list[Scope | None] = []

    def look(data: bytes) -> bytes:
        seen.append(current_scope())
        return data

    def define(flow, context):
        dag = flow.dag()
        dag.node("a").modify(look)
        dag.foreach_branch("each", lambda data: {"k": b"1"}, aggregator=lambda parts: look(b"")).node("b").modify(look)
        dag.edge("a", "each")
        flow.finally_(lambda state: look(b""))

    FlowTester(define, name="orders").run(b"x", request_id="r")

    assert [(scope.flow, scope.request_id, scope.node, scope.attempt) for scope in seen if scope] == [
        ("orders", "r", "a", 1),
        ("orders", "r", "each/b@k", 1),
        ("orders", "r", "each", 1),
        ("orders", "r", "$finally", 1),
    ]
    assert current_scope() is None


def test_threads_do_not_see_each_others_scope():
    meet = threading.Barrier(2)
    seen: dict[str, str] = {}

    def look(data: bytes) -> bytes:
        meet.wait(10)
        scope = current_scope()
        assert scope is not None
        seen[data.decode()] = scope.request_id
        return data

    tester = FlowTester(lambda flow, context: flow.sync_node().modify(look))
    threads = [
        threading.Thread(target=tester.engine.start, args=(name.encode(),), kwargs={"request_id": name})
        for name in ("r1", "r2")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert seen == {"r1": "r1", "r2": "r2"}


@pytest.mark.parametrize("body", [b"x", b"y"], ids=["the same", "another"])
def test_a_start_that_comes_again_is_a_delivery_that_is_over_too(body: bytes) -> None:
    def define(flow, context):
        flow.dag().node("only").modify(bytes.upper)

    told = Told()
    tester = FlowTester(define, events=[told])
    tester.engine.start(b"x", request_id="r")
    told.events.clear()
    with suppress(RequestConflictError):
        tester.engine.start(body, request_id="r")

    assert told.lines() == ["request_start", "execution_forward only", "request_end", "flush"]
    assert [event.is_recorded for event in told.of("request_end")] == [False]


def test_what_a_handler_sends_along_replaces_nothing_that_the_engine_sends():
    class Greedy(EventHandler):
        def report_operation_start(self, event: Event) -> None:
            event.headers.update({"Idempotency-Key": "own", "x-mark": "own"})

    tester, _ = run(define_chain, handlers=[Greedy()], shout=bytes.upper)
    tester.run(b"x")
    headers = tester.calls("shout")[0].headers

    assert (headers["Idempotency-Key"] == "own", headers["x-mark"]) == (False, "own")
