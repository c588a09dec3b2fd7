"""The checker itself: for each invariant a history that breaks it, and the same one without the break."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from faasflow.stores.memory import MemoryStateStore
from faasflow.testing import FlowTester
from tests.battery.checker import Expected, Violation, check
from tests.battery.flows import INPUT, chain, echo, evaluate, foreach
from tests.battery.history import (
    SYSTEM,
    Accepted,
    Answered,
    Began,
    Called,
    Cleared,
    Done,
    Event,
    Fault,
    Forwarded,
    History,
    Jumped,
    RecordingStore,
    RecordingTransport,
    Wrote,
    from_run,
    sha,
)

A, B, JOIN = "node/a", "node/b", "node/join"


def request(state: str = "RUNNING", *, id: str = "r", by: int | None = None, **fields: object) -> Wrote:
    """The record of a request as it becomes."""
    record = {"state": state, "fingerprint": "f"} | fields
    return Wrote(id, "request", json.dumps(record).encode(), by)


def node(key: str, result: bytes = b"", *, id: str = "r", by: int | None = None, state: str = "FINISHED") -> Wrote:
    """The record of a step."""
    return Wrote(id, key, json.dumps({"state": state, "result": {"text": result.decode()}}).encode(), by)


def call(step: str = A, body: bytes = b"in", *, by: int | None = None, key: str = "", attempt: int = 1) -> Called:
    """A call of the function that is named as its node is."""
    return Called("r", step[-1], sha(body), step, attempt, key or f"key of {step}", by=by)


def called_back(event: str, *, call: int = 7) -> Called:
    return Called("r", "http://somewhere", sha(b""), event=event, call=call)


def finished(result: bytes = b"b(a(in))", **fields: object) -> Wrote:
    return request("FINISHED", result={"text": result.decode()}, **fields)


EXPECTED = {
    "r": Expected(
        result=b"b(a(in))",
        calls={(A, "a"): (sha(b"in"),), (B, "b"): (sha(b"a(in)"),)},
        results={A: sha(b"a(in)"), B: sha(b"b(a(in))")},
        needs={A: (), B: (A,)},
    ),
    "join": Expected(needs={JOIN: (A, B)}, results={A: sha(b"1"), B: sha(b"2"), JOIN: sha(b"12")}),
}
STARTED = [request(), Accepted("r")]
RAN_A = [call(A), node(A, b"a(in)")]
RAN = [*STARTED, *RAN_A, call(B, b"a(in)"), node(B, b"b(a(in))"), finished()]
JOINED = [node(A, b"1", id="join"), node(B, b"2", id="join"), node(JOIN, b"12", id="join")]

BAD: list[tuple[str, str, list[Event]]] = [
    ("I1", "accepted and never seen again", [Accepted("r")]),
    ("I1", "accepted and never ended", [*STARTED, *RAN_A]),
    ("I1", "failed without a reason", [*STARTED, request("FAILED")]),
    ("I2", "two ends", [*RAN, request("STOPPED")]),
    ("I2", "a record after the end", [*RAN, node("node/c")]),
    ("I2", "a call by who began after the end", [*RAN, Began("r", 1, "node/c"), call("node/c", by=1)]),
    ("I2", "parked after the end", [*RAN, Wrote("r", "parked/node/b", b"")]),
    ("I3", "a record that is written again", [*STARTED, *RAN_A, node(A, b"a(in)")]),
    ("I3", "an attempt that is written again", [Wrote("r", "attempt/a/1", b"1"), Wrote("r", "attempt/a/1", b"2")]),
    ("I3", "a record that is removed on the way", [*STARTED, *RAN_A, Wrote("r", A, None)]),
    ("I4", "a call with another body", [*STARTED, *RAN_A, call(B, b"other")]),
    ("I4", "a call of what was not to run", [*STARTED, call("node/c")]),
    ("I4", "a join over one of two", [node(A, b"1", id="join"), node(B, b"2", id="join"), node(JOIN, b"1", id="join")]),
    ("I4", "a wrong end", [*RAN[:-1], finished(b"wrong")]),
    ("I5", "ready and never run", [*STARTED, *RAN_A]),
    ("I5", "an end before all is recorded", [*STARTED, *RAN_A, finished()]),
    ("I6", "a second call without a fault", [*STARTED, call(A), call(A)]),
    ("I6", "three calls for one fault", [*STARTED, Fault("double"), call(A), call(A), call(A)]),
    ("I6", "a call after its result", [*STARTED, *RAN_A, Fault("double"), Began("r", 1, A), call(A, by=1)]),
    ("I7", "another key on a repetition", [*STARTED, Fault("crash"), call(A, key="1"), call(A, key="2")]),
    ("I7", "one key for two steps", [*STARTED, *RAN_A, call(B, b"a(in)", key=f"key of {A}")]),
    ("I8", "a call before its predecessor", [*STARTED, call(B, b"a(in)")]),
    ("I8", "a join before its predecessors", [node(A, b"1", id="join"), node(JOIN, b"12", id="join")]),
    ("I9", "a call while paused", [*STARTED, request("PAUSED"), Began("r", 1, A), call(A, by=1)]),
    (
        "I17",
        "a second double that puts a step",
        [
            *STARTED,
            *RAN_A,
            Began("r", 1, A),
            Forwarded("r", 1, "b"),
            Done(1),
            Began("r", 2, A),
            Forwarded("r", 2, "b"),
        ],
    ),
    ("I9", "a message while paused", [*STARTED, request("PAUSED"), Began("r", 1, A), Forwarded("r", 1)]),
    ("I9", "an outcome while paused", [*STARTED, request("PAUSED"), Began("r", 1, A), node(A, b"a(in)", by=1)]),
    ("I10", "a call once stopped", [*STARTED, request("STOPPED"), Began("r", 1, A), call(A, by=1)]),
    ("I10", "no finally", [*STARTED, request("STOPPED", closing=["$finally"])]),
    ("I11", "who works for 10 writes to r", [*STARTED, Began("10", 1, A), node(A, b"a(in)", by=1)]),
    ("I12", "written after its removal", [*RAN, Cleared("r"), Wrote("r", "arrived/x#0.0/a", b"")]),
    ("I12", "a timer that is left", [*RAN, Wrote(SYSTEM, "$timers/00000000000001/r", b""), Cleared("r")]),
    ("I13", "two event ids", [*RAN, called_back("1"), called_back("2")]),
    ("I13", "never delivered", [Accepted("r", callback="http://somewhere"), request("STOPPED")]),
    ("I13", "given up without a record", [Accepted("r"), request("STOPPED", closing=["$callback"])]),
    ("I14", "another definition", [*STARTED, request(fingerprint="other")]),
    ("I15", "two ends after a jump of the clock", [*RAN, Jumped(-600), request("STOPPED")]),
    ("I16", "a forged message that runs", [*STARTED, Began("r", 1, A, is_forged=True), call(A, by=1)]),
    ("I16", "a forged message that is taken", [*STARTED, Began("r", 1, A, is_forged=True), Done(1)]),
]

GOOD: list[tuple[str, str, list[Event]]] = [
    ("I1", "accepted and ended", RAN),
    (
        "I17",
        "a double that puts a step which was put before",
        [*STARTED, Began("r", 1, A), *RAN_A, Forwarded("r", 1, "b"), Done(1), Began("r", 2, A), Forwarded("r", 2, "b")],
    ),
    ("I2", "what comes after the end", [*RAN[:-1], finished(closing=["$finally"]), Wrote("r", "node/$finally", b"{}")]),
    (
        "I2",
        "who was at work at the end",
        [*RAN[:4], Began("r", 1, B), Fault("double"), *RAN[4:], call(B, b"a(in)", by=1)],
    ),
    ("I3", "one record for each", RAN),
    ("I4", "a join over both", JOINED),
    ("I5", "all that was ready ran", RAN),
    ("I6", "a second call for one fault", [*RAN[:2], Fault("double"), call(A), *RAN[2:]]),
    ("I6", "a second attempt", [*RAN[:2], call(A), Wrote("r", "attempt/a/1", b""), call(A, attempt=2), *RAN[3:]]),
    ("I7", "the same key on a repetition", [*RAN[:2], Fault("crash"), call(A), *RAN[2:]]),
    ("I7", "another key in another attempt", [*RAN[:2], call(A, key="0"), call(A, key="1", attempt=2), *RAN[3:]]),
    ("I8", "in order", RAN),
    (
        "I9",
        "parked, and run after the resume",
        [*STARTED, request("PAUSED"), Began("r", 1, A), Done(1), request(), *RAN[2:]],
    ),
    (
        "I9",
        "who was at work at the pause",
        [*STARTED, Began("r", 1, A), request("PAUSED"), call(A, by=1), node(A, b"a(in)", by=1)],
    ),
    ("I10", "stopped, with finally", [request("STOPPED", closing=["$finally"]), Wrote("r", "node/$finally", b"{}")]),
    ("I11", "each for its own", [*STARTED, Began("r", 1, A), node(A, b"a(in)", by=1)]),
    (
        "I12",
        "removed with its timers",
        [*RAN, Wrote(SYSTEM, "$timers/1/r", b""), Wrote(SYSTEM, "$timers/1/r", None), Cleared("r")],
    ),
    ("I12", "a timer of another", [*RAN, Wrote(SYSTEM, "$timers/00000000000001/r2", b""), Cleared("r")]),
    (
        "I13",
        "delivered the second time",
        [
            Accepted("r", callback="u"),
            request("STOPPED"),
            called_back("1"),
            Answered(7, 500),
            called_back("1"),
            Answered(7, 200),
        ],
    ),
    (
        "I13",
        "recorded as failed",
        [
            Accepted("r", callback="u"),
            request("STOPPED", closing=["$callback"]),
            node("node/$callback", state="FAILED"),
        ],
    ),
    ("I14", "one definition", RAN),
    ("I15", "the same under a jump of the clock", [Jumped(3600), *RAN]),
    (
        "I16",
        "a forged message that is refused",
        [*STARTED, Began("r", 1, A, is_forged=True), Done(1, "MessageError", is_refused=True)],
    ),
]


def judged(events: Iterable[Event], invariant: str) -> list[Violation]:
    found = check(events, EXPECTED, is_drained=True)
    return [violation for violation in found if violation.invariant == invariant]


@pytest.mark.parametrize(("invariant", "what", "events"), BAD, ids=[f"{name} {what}" for name, what, _ in BAD])
def test_a_history_that_breaks_an_invariant_is_flagged_by_its_name(invariant, what, events) -> None:
    assert judged(events, invariant)


@pytest.mark.parametrize(("invariant", "what", "events"), GOOD, ids=[f"{name} {what}" for name, what, _ in GOOD])
def test_a_history_that_keeps_an_invariant_passes(invariant, what, events) -> None:
    assert judged(events, invariant) == []


def test_every_invariant_has_a_history_that_breaks_it_and_one_that_keeps_it() -> None:
    every = {f"I{number}" for number in range(1, 18)}

    assert {invariant for invariant, _, _ in BAD} == every
    assert {invariant for invariant, _, _ in GOOD} == every


def test_keys_that_the_stores_still_hold_after_retention_are_flagged() -> None:
    found = check(RAN, EXPECTED, left=["faasflow/flow/r/node/a"])

    assert [violation.invariant for violation in found] == ["I12"]


def test_a_violation_names_request_step_and_events() -> None:
    found = check([*STARTED, call(A), call(A)], {})

    assert [str(violation) for violation in found] == [
        "I6: request 'r': 'node/a' called 'a' 2 times in attempt 1; 0 faults explain 1 (events 3)"
    ]


def run(define, **options) -> tuple[History, FlowTester, str]:
    """A recorded run to its end."""
    history = History()
    store = RecordingStore(MemoryStateStore(), history)
    tester = FlowTester(define, state=store, wrap=lambda inner: RecordingTransport(inner, history))
    for name in "abcd":
        tester.function(name, lambda body, name=name: echo(name, body))
    with history.acting("r/1"):
        tester.engine.start(INPUT, request_id="r/1")
    history.add(Accepted("r/1"))
    pending = tester.transport.pending
    while pending:
        forward = pending.popleft()
        with history.delivery(tester.engine._parts.codec.decode(forward.body, "r/1", tester.clock.now())):
            tester.engine.deliver("r/1", forward.body)
    return history, tester, "r/1"


@pytest.mark.parametrize("define", [chain, foreach])
def test_a_recorded_run_of_the_engine_breaks_nothing(define) -> None:
    history, tester, id = run(define)

    expected = {id: evaluate(tester.engine.definition(), INPUT)}
    assert check(history, expected, is_drained=True) == []
    assert sum(isinstance(event, Called) for event in history) == len(expected[id].calls)


def test_a_history_can_be_kept_as_lines_and_read_again() -> None:
    history, _, _ = run(chain)

    assert History.load(history.dump()).events == history.events


def test_a_history_is_put_together_from_the_log_of_the_functions_and_a_dump_of_the_store() -> None:
    history, tester, id = run(chain)
    found = tester.state.read([], ["faasflow/"])
    store = {key: entry.value for key, entry in found.items()}
    ends = {key.rpartition("/")[2]: json.loads(value)["ended"] for key, value in store.items() if "/node/" in key}
    log = [
        json.dumps(
            {
                "at": ends[event.operation] - 1e-4,
                "request": id,
                "function": event.operation,
                "key": event.key,
                "body_sha256": event.body_sha256,
                "status": 200,
            }
        )
        for event in history
        if isinstance(event, Called)
    ]

    expected = {id: evaluate(tester.engine.definition(), INPUT)}
    assert check(from_run([Accepted(id)], log, store), expected, is_drained=True) == []
    twice = from_run([Accepted(id)], [*log, log[0]], store)
    assert [violation.invariant for violation in check(twice, expected)] == ["I6"]
    assert check(twice, expected, faults=1) == []
