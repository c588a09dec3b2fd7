"""The defects of the original in coordination and delivery, by their numbers. The queue delivers twice, late, in
another order; stores fail before and after what they were asked to do; many nodes end at the same moment."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Barrier, Event
from typing import Any

import pytest

from faasflow.errors import (
    ForwardError,
    RequestConflictError,
    RequestNotFoundError,
    StoreUnavailableError,
    TryAgainError,
)
from faasflow.ports import Forward, OutgoingCall, Response
from faasflow.stores.memory import MemoryStateStore
from faasflow.testing import FlowTester, InProcessTransport, Outcome, RequestState
from faasflow.testing.contracts import together
from faasflow.testing.faults import FlakyStore, Operation
from faasflow.testing.wrappers import StateStoreWrapper
from tests.golden.support import Crash, deliver_all, deliver_together, is_done, shown

Taken = Callable[[Sequence[Forward]], Sequence[Forward]]

RESULT = b"join(a=a(first(x));b=b(first(x));F=k=n(1);l=n(2);;)"
ALL_ONCE = {"first": 1, "a": 1, "b": 1, "n1": 1, "n2": 1, "join": 1}


class Flow:
    """A flow with a join of two nodes and a foreach; `ran` counts how often each ran."""

    def __init__(self) -> None:
        self.ran = Counter[str]()

    def define(self, flow: Any, context: Any) -> None:
        dag = flow.dag()
        for name in ("first", "a", "b"):
            dag.node(name).modify(self.step(name))
        branch = dag.foreach_branch("F", lambda data: {"k": b"1", "l": b"2"}, aggregator=shown)
        branch.node("n").modify(lambda data: self.count("n" + data.decode(), b"n(" + data + b")"))
        dag.node("join", aggregator=shown).modify(self.step("join"))
        for name in ("a", "b", "F"):
            dag.edge("first", name)
            dag.edge(name, "join")

    def step(self, name: str) -> Callable[[bytes], bytes]:
        return lambda data: self.count(name, name.encode() + b"(" + data + b")")

    def count(self, name: str, result: bytes) -> bytes:
        self.ran[name] += 1
        return result


def start(tester: FlowTester) -> None:
    """Start request `r` as a caller does that repeats what was not answered."""
    for _ in range(50):
        try:
            tester.engine.start(b"x", request_id="r")
        except (StoreUnavailableError, ForwardError, Crash):
            continue
        return
    raise AssertionError("The start was never answered.")


class Waiting(StateStoreWrapper):
    """A store whose writes wait for each other, so that they arrive at the same moment."""

    barrier: Barrier | None = None

    def _run(self, operation: str, call: Callable[[], Any], *, is_write: bool) -> Any:
        if is_write and self.barrier is not None:
            self.barrier.wait(20)
        return call()


def test_defect_31_two_branches_that_end_together_both_count() -> None:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("first").modify(lambda data: data)
        dag.node("join", aggregator=shown)
        for name in ("a", "b"):
            dag.node(name).modify(lambda data, name=name: name)
            dag.edge("first", name)
            dag.edge(name, "join")

    for _ in range(20):
        store = Waiting(MemoryStateStore())
        tester = FlowTester(define, state=store)
        start(tester)
        tester.engine.deliver("r", tester.transport.pending.popleft().body)
        assert len(tester.transport.pending) == 2
        store.barrier = Barrier(2)
        together_once(tester)
        store.barrier = None
        tester.drain()

        assert tester.outcome("r").result == b"a=a;b=b;"
        assert tester.outcome("r").ran.count("join") == 1


def together_once(tester: FlowTester) -> None:
    """Deliver what waits now, all at the same moment, but not what follows."""
    messages = list(tester.transport.pending)
    tester.transport.pending.clear()
    together(lambda message: tester.engine.deliver(message.request_id, message.body), messages)


def operations_of_a_run() -> int:
    """How many store operations a whole run makes."""
    numbers: list[int] = []
    store = FlakyStore(MemoryStateStore(), before=lambda operation: numbers.append(operation.number) or False)
    tester = FlowTester(Flow().define, state=store)
    start(tester)
    deliver_all(tester)
    return len(numbers)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_defect_32_an_error_of_the_store_is_never_taken_for_nothing_being_there(moment: str) -> None:
    count = operations_of_a_run()
    assert count > 10
    for number in range(1, count + 1):
        flow = Flow()
        tester = FlowTester(flow.define, state=FlakyStore(MemoryStateStore(), **{moment: failing_at({number})}))
        start(tester)
        deliver_all(tester)
        tester.settle()

        assert tester.outcome("r").result == RESULT, number
        assert max(flow.ran.values()) <= 2, number
        assert sum(flow.ran.values()) <= sum(ALL_ONCE.values()) + 1, number


def failing_at(numbers: set[int]) -> Callable[[Operation], bool]:
    return lambda operation: operation.number in numbers


def test_defect_32_a_store_that_fails_for_long_only_delays() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        before, after = ({number for number in range(200) if chance.random() < 0.1} for _ in range(2))
        store = FlakyStore(MemoryStateStore(), before=failing_at(before), after=failing_at(after))
        tester = FlowTester(Flow().define, state=store)
        start(tester)
        deliver_all(tester)
        before.clear()
        after.clear()
        tester.settle()

        assert tester.outcome("r").result == RESULT, seed


@pytest.mark.parametrize("copies", [2, 5])
def test_defect_33_a_message_that_comes_again_runs_nothing_again(copies: int) -> None:
    flow = Flow()
    tester = FlowTester(flow.define)
    start(tester)
    deliver_all(tester, copies=copies)

    assert tester.outcome("r").result == RESULT
    assert flow.ran == ALL_ONCE


@pytest.mark.parametrize("seed", range(20))
def test_defect_33_messages_may_come_again_late_and_in_any_order(seed: int) -> None:
    flow = Flow()
    tester = FlowTester(flow.define)
    start(tester)
    deliver_all(tester, copies=3, chance=random.Random(seed))

    assert tester.outcome("r").result == RESULT
    assert flow.ran == ALL_ONCE


def test_defect_33_every_message_again_after_the_end_changes_nothing() -> None:
    flow = Flow()
    transport = Remembering()
    tester = FlowTester(flow.define, transport=transport)
    start(tester)
    deliver_all(tester)
    before = tester.state.list("")
    for message in transport.taken:
        tester.engine.deliver(message.request_id, message.body)

    assert len(transport.taken) == len(ALL_ONCE) + 2
    assert tester.state.list("") == before
    assert flow.ran == ALL_ONCE
    assert not transport.pending


class Remembering(InProcessTransport):
    """A queue that remembers what it took."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Forward] = []

    def forward(self, messages: Sequence[Forward]) -> None:
        self.taken += messages
        super().forward(messages)


def test_defect_33_an_input_outlives_the_node_that_read_it() -> None:
    """The original deleted it before the node ran."""

    crashes = [True]

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("a").modify(lambda data: data * 100)
        dag.node("b").apply("count")
        dag.edge("a", "b")

    def crash_once(call: OutgoingCall) -> Response:
        if crashes.pop() if crashes else False:
            raise Crash
        return Response(200, {}, f"{len(call.body)} bytes".encode())

    tester = FlowTester(define, inline_limit=10)
    tester.answer("count", crash_once)
    start(tester)
    tester.engine.deliver("r", tester.transport.pending.popleft().body)
    message = tester.transport.pending[0]
    with pytest.raises(Crash):
        tester.engine.deliver("r", message.body)
    tester.drain()

    assert tester.outcome("r").result == b"100 bytes"


class Crashing(InProcessTransport):
    """A queue of which one forward is cut off by `error`: after it took all messages, only the first, or none."""

    def __init__(self, crash: int, taken: Taken, error: BaseException) -> None:
        super().__init__()
        self.crash, self.count, self.take, self.error = crash, 0, taken, error

    def forward(self, messages: Sequence[Forward]) -> None:
        self.count += 1
        if self.count == self.crash:
            super().forward(self.take(messages))
            raise self.error
        super().forward(messages)


some_are_taken = pytest.mark.parametrize(
    "taken",
    [lambda messages: messages, lambda messages: messages[:1], lambda messages: messages[1:], lambda messages: []],
    ids=["all", "the first", "all but the first", "none"],
)


@some_are_taken
def test_defect_34_a_crash_at_any_forward_where_the_message_comes_again_is_repaired(taken: Taken) -> None:
    forwards = 0
    for crash in range(1, 20):
        flow = Flow()
        transport = Crashing(crash, taken, Crash())
        tester = FlowTester(flow.define, transport=transport)
        start(tester)
        deliver_all(tester)
        tester.settle()
        forwards = max(forwards, transport.count)

        assert tester.outcome("r").result == RESULT, crash
        assert flow.ran == ALL_ONCE, crash
    assert forwards >= 5


@some_are_taken
def test_defect_34_a_crash_after_which_no_message_comes_again_is_repaired_by_the_clock(taken: Taken) -> None:
    for crash in range(1, 20):
        flow = Flow()
        tester = FlowTester(flow.define, transport=Crashing(crash, taken, Crash()))
        with suppress(Crash):
            tester.engine.start(b"x", request_id="r")
        while tester.transport.pending:
            is_done(tester, tester.transport.pending.popleft())
        tester.settle()

        assert tester.outcome("r").result == RESULT, crash
        assert flow.ran == ALL_ONCE, crash


@some_are_taken
def test_defect_34_a_forward_that_was_refused_is_repeated_by_the_clock(taken: Taken) -> None:
    forwards = 0
    for crash in range(1, 20):
        flow = Flow()
        transport = Crashing(crash, taken, ForwardError("The connection was lost."))
        tester = FlowTester(flow.define, transport=transport)
        assert tester.engine.start(b"x", request_id="r").state is RequestState.RUNNING
        tester.settle()
        forwards = max(forwards, transport.count)

        assert tester.outcome("r").result == RESULT, crash
        assert flow.ran == ALL_ONCE, crash
    assert forwards >= 5


def test_defect_34_two_crashes_in_a_row_are_repaired_as_well() -> None:
    count = operations_of_a_run()
    for number in range(1, count + 1):
        for later in range(number + 1, number + 8):
            crashes = {number, later}
            tester = FlowTester(Flow().define, state=FlakyStore(MemoryStateStore(), after=failing_at(crashes)))
            start(tester)
            deliver_all(tester)
            crashes.clear()
            tester.settle()

            assert tester.outcome("r").result == RESULT, (number, later)


def test_defect_35_a_successor_that_cannot_be_forwarded_ends_nothing_and_is_forwarded_later() -> None:
    flow = Flow()
    tester = FlowTester(flow.define, transport=Crashing(2, lambda messages: messages[:1], ForwardError("lost")))
    start(tester)
    first = tester.transport.pending.popleft()
    tester.engine.deliver("r", first.body)

    assert tester.engine.state("r") is RequestState.RUNNING
    assert len(tester.transport.pending) == 1
    tester.drain()
    with pytest.raises(TryAgainError):
        tester.engine.deliver("r", first.body)
    tester.settle()
    assert tester.outcome("r").result == RESULT
    assert flow.ran == ALL_ONCE


def test_defect_36_two_nodes_that_fail_together_end_the_request_once() -> None:
    seen: list[str] = []
    both_failed, one_is_done = Barrier(2), Event()

    def define(flow: Any, context: Any) -> None:
        def fail(data: bytes) -> bytes:
            both_failed.wait(20)
            raise ValueError("broken on purpose")

        def on_failure(error: Exception) -> None:
            seen.append("on_failure")
            if len(seen) == 1:  # who ended the request is still here when the other one sees that it has ended
                assert one_is_done.wait(20)

        dag = flow.dag()
        dag.foreach_branch("F", lambda data: {"k": b"1", "l": b"2"}, aggregator=shown).node("n").modify(fail)
        flow.on_failure(on_failure)
        flow.finally_(seen.append)

    def deliver(message: Forward) -> None:
        if not is_done(tester, message):
            tester.transport.forward([message])
        one_is_done.set()

    tester = FlowTester(define)
    start(tester)
    tester.engine.deliver("r", tester.transport.pending.popleft().body)
    together(deliver, [tester.transport.pending.popleft() for _ in range(2)])
    tester.clock.advance(10)
    tester.drain()

    assert tester.outcome("r").state is RequestState.FAILED
    assert seen == ["on_failure", "failure"]


def test_defect_36_success_and_stop_exclude_each_other() -> None:
    ends = Counter[RequestState]()
    for moment in range(1, 12):
        states: list[str] = []
        stopped = run_and_stop_before(moment, states)
        ends[stopped.state] += 1

        assert states == ["success" if stopped.state is RequestState.FINISHED else "stopped"], moment
        assert (stopped.result is None) == (stopped.state is RequestState.STOPPED), moment
    assert set(ends) == {RequestState.FINISHED, RequestState.STOPPED}


def run_and_stop_before(moment: int, states: list[str]) -> Outcome:
    """Run two nodes, with a stop right before one of the operations of the store; `finally_` notes its states."""

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("a").modify(lambda data: data)
        dag.node("b").modify(lambda data: data)
        dag.edge("a", "b")
        flow.finally_(states.append)

    def stop(operation: Operation) -> bool:
        if operation.number == moment:
            with suppress(RequestConflictError, RequestNotFoundError):
                tester.engine.stop("r")
        return False

    tester = FlowTester(define, state=FlakyStore(MemoryStateStore(), before=stop))
    start(tester)
    deliver_all(tester)
    return tester.outcome("r")


def test_defect_36_a_pause_after_the_end_raises_no_zombie() -> None:
    flow = Flow()
    tester = FlowTester(flow.define)
    start(tester)
    tester.drain()
    before = tester.state.list("")
    with pytest.raises(RequestConflictError, match="FINISHED"):
        tester.engine.pause("r")

    assert tester.engine.state("r") is RequestState.FINISHED
    assert tester.state.list("") == before


@pytest.mark.parametrize("width", [11, 64, 65, 150])
def test_defect_37_any_number_of_branches_may_end_at_the_same_moment(width: int) -> None:
    everybody = Barrier(width)

    def define(flow: Any, context: Any) -> None:
        branch = flow.dag().foreach_branch(
            "F", lambda data: {f"{n}": f"{n}" for n in range(width)}, aggregator=lambda results: len(results)
        )
        branch.node("n").modify(lambda data: everybody.wait(60) is None or data)

    tester = FlowTester(define)
    start(tester)
    deliver_together(tester)

    outcome = tester.outcome("r")
    assert (outcome.error, outcome.result) == ("", str(width).encode())
    assert outcome.ran.count("F") == 1


def test_defect_38_messages_and_records_stay_small_whatever_branches_carry() -> None:
    """The queue refuses more than 256,000 bytes, Consul values of more than 512 KB."""

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        branch = dag.foreach_branch("F", lambda data: {f"{n:05}": data for n in range(60)}, forward=False)
        branch.node("n").modify(lambda data: data)

    transport = Remembering()
    tester = FlowTester(define, transport=transport)
    tester.engine.start(b"x" * 31_000, request_id="r")
    tester.engine.deliver("r", transport.pending.popleft().body)
    tester.engine.pause("r")
    tester.drain()
    assert max(len(value) for value in tester.state.list("").values()) < 512 * 1024
    tester.engine.resume("r")
    tester.drain()

    assert tester.outcome("r").state is RequestState.FINISHED
    assert max(len(message.body) for message in transport.taken) < 200_000
