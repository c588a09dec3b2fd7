"""One delivery: what is recorded, what is forwarded, and what a refusing queue or a changed flow leaves behind."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faasflow.errors import (
    ForwardError,
    MessageError,
    RequestConflictError,
    RequestNotFoundError,
    StoreUnavailableError,
    TryAgainError,
    UnreachableError,
)
from faasflow.ports import OutgoingCall
from faasflow.stores import open_data_store, open_state_store
from faasflow.stores.memory import MemoryDataStore
from faasflow.testing import FlowTester, RequestState, Response
from faasflow.testing.faults import FlakyDataStore
from faasflow.testing.transport import InProcessTransport


def echo(data: bytes) -> bytes:
    return data


def chain(*names: str, work=echo):
    def define(flow, context):
        dag = flow.dag()
        for name in names:
            dag.node(name).modify(work)
        for source, target in itertools.pairwise(names):
            dag.edge(source, target)

    return define


def foreach(width: int, work=echo, **options):
    def define(flow, context):
        dag = flow.dag()
        branch = dag.foreach_branch(
            "each",
            lambda data: {f"k{index}": str(index) for index in range(width)},
            aggregator=lambda results: b",".join(results.values()),
            **options,
        )
        branch.node("n").modify(work)
        dag.node("last").modify(echo)
        dag.edge("each", "last")

    return define


class RefusingTransport(InProcessTransport):
    """A queue that refuses a number of times, then takes everything."""

    refusals = 0

    def forward(self, messages) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ForwardError("the queue is full")
        super().forward(messages)


def deliver_until_taken(tester: FlowTester) -> int:
    """Deliver as a queue that repeats what was not done; how often it had to."""
    repeated = 0
    pending = tester.transport.pending
    while pending:
        message = pending.popleft()
        try:
            tester.engine.deliver(message.request_id, message.body)
        except (ForwardError, TryAgainError):
            repeated += 1
            pending.append(message)
            tester.clock.advance(1)
    return repeated


@pytest.mark.parametrize("define", [chain("a", "b", "c"), foreach(5), foreach(5, max_parallel=2), foreach(0)])
def test_a_queue_that_refuses_at_any_forward_loses_nothing(define) -> None:
    expected = FlowTester(define).run(b"x").result
    for taken in range(12):
        transport = RefusingTransport()
        tester = FlowTester(define, transport=transport)
        started = tester.engine.start(b"x")
        for _ in range(taken):
            if transport.pending:
                message = transport.pending.popleft()
                tester.engine.deliver(message.request_id, message.body)
        transport.refusals = 3
        tester.settle()

        assert tester.outcome(started.request_id).result == expected


def test_a_start_that_the_queue_refused_is_accepted_and_forwarded_by_the_clock() -> None:
    transport = RefusingTransport()
    tester = FlowTester(chain("a", "b"), transport=transport)
    transport.refusals = 1

    answer = tester.engine.start(b"x", request_id="mine")
    assert answer.state is RequestState.RUNNING
    assert not transport.pending
    tester.settle()

    assert tester.outcome("mine").result == b"x"


def test_a_start_that_the_queue_refused_can_be_sent_again_with_its_id() -> None:
    transport = RefusingTransport()
    tester = FlowTester(chain("a", "b"), transport=transport)
    transport.refusals = 1
    tester.engine.start(b"x", request_id="mine")

    assert tester.run(b"x", request_id="mine").result == b"x"


def test_a_request_whose_flow_was_changed_fails_by_name() -> None:
    before = FlowTester(chain("a", "b"))
    started = before.engine.start(b"x")
    after = FlowTester(chain("c", "d"), state=before.state, data=before.data)
    for message in before.transport.pending:
        after.engine.deliver(message.request_id, message.body)

    outcome = after.outcome(started.request_id)
    assert outcome.state is RequestState.FAILED
    assert "DefinitionChangedError" in outcome.error


def test_a_definition_that_fails_for_a_while_costs_no_request() -> None:
    is_broken = False

    def define(flow, context):
        if is_broken:
            raise OSError("the disk is away")
        chain("a", "b")(flow, context)

    tester = FlowTester(define)
    started = tester.engine.start(b"x")
    is_broken = True
    with pytest.raises(TryAgainError, match="the disk is away"):
        tester.drain()

    is_broken = False
    tester.drain()
    assert tester.outcome(started.request_id).state is RequestState.FINISHED


def test_a_message_of_another_key_flow_or_request_is_refused() -> None:
    tester = FlowTester(chain("a", "b"))
    tester.engine.start(b"x", request_id="r1")
    message = tester.transport.pending[0].body
    before = tester.state.list("")

    for forged in (message[:-10], message.replace(b'"a"', b'"b"'), message.replace(b"r1", b"r2"), b"", b"{}", b"\xff"):
        with pytest.raises(MessageError):
            tester.engine.deliver("r1", forged)
    with pytest.raises(MessageError):
        tester.engine.deliver("r2", message)
    with pytest.raises(MessageError):
        FlowTester(chain("a", "b"), key=b"another").engine.deliver("r1", message)
    with pytest.raises(MessageError):
        FlowTester(chain("a", "b"), name="other").engine.deliver("r1", message)
    tester.clock.advance(8 * 86400)
    with pytest.raises(MessageError, match="expired"):
        tester.engine.deliver("r1", message)

    assert tester.state.list("") == before


def test_a_late_message_of_an_ended_or_forgotten_request_changes_nothing() -> None:
    tester = FlowTester(chain("a", "b"))
    started = tester.engine.start(b"x")
    first = tester.transport.pending[0]
    tester.drain()
    before = tester.state.list("")

    tester.engine.deliver(first.request_id, first.body)
    assert tester.state.list("") == before

    tester.state.configure("flow", started.request_id).cleanup()
    tester.engine.deliver(first.request_id, first.body)
    with pytest.raises(RequestNotFoundError):
        tester.engine.state(started.request_id)


def test_the_same_id_and_body_is_answered_alike_and_another_body_is_a_conflict() -> None:
    calls = []

    def work(data: bytes) -> bytes:
        calls.append(data)
        return data.upper()

    for define in (chain("only", work=work), chain("a", "b", work=work)):
        tester = FlowTester(define)
        first = tester.run(b"x", request_id="mine")
        count = len(calls)

        assert tester.run(b"x", request_id="mine") == first
        with pytest.raises(RequestConflictError, match="'mine'"):
            tester.engine.start(b"other", request_id="mine")
        assert len(calls) == count


def test_paused_messages_wait_and_resume_forwards_each_once() -> None:
    ran = []
    tester = FlowTester(foreach(3, work=lambda data: ran.append(data) or data))
    started = tester.engine.start(b"x")
    tester.engine.deliver(started.request_id, tester.transport.pending.popleft().body)

    tester.engine.pause(started.request_id)
    tester.engine.pause(started.request_id)
    tester.drain()
    assert ran == []
    assert tester.engine.state(started.request_id) is RequestState.PAUSED

    tester.engine.resume(started.request_id)
    tester.engine.resume(started.request_id)
    tester.drain()
    assert sorted(ran) == [b"0", b"1", b"2"]
    assert tester.outcome(started.request_id).result == b"0,1,2"


def test_a_stopped_request_refuses_results_and_starts_nothing_more() -> None:
    states = []
    tester: FlowTester

    def define(flow, context):
        dag = flow.dag()
        dag.node("a").modify(lambda data: tester.engine.stop(context.request_id) and data)
        dag.node("b").modify(lambda data: states.append("b ran"))
        dag.edge("a", "b")
        flow.finally_(states.append)

    tester = FlowTester(define)
    outcome = tester.run(b"x", request_id="r")

    assert outcome.state is RequestState.STOPPED
    assert states == ["stopped"]
    assert tester.engine.stop("r") is RequestState.STOPPED
    for command in (tester.engine.pause, tester.engine.resume):
        with pytest.raises(RequestConflictError, match="STOPPED"):
            command("r")


def test_a_callback_is_repeated_until_it_is_taken_with_one_event_id() -> None:
    answers = [500, 503, 200]
    seen = []

    def receive(call):
        seen.append((call.headers["X-Faas-Flow-Event-Id"], call.headers["X-Faas-Flow-State"], call.body))
        return Response(answers.pop(0), {}, b"")

    for define, state, body in (
        (chain("a", "b"), "FINISHED", b"x"),
        (chain("only"), "FINISHED", b"x"),
        (chain("only", work=lambda data: 1 / 0), "FAILED", None),
    ):
        answers[:], seen[:] = [500, 503, 200], []
        tester = FlowTester(define)
        tester.answer("http://receiver/done", receive)
        tester.engine.start(b"x", callback="http://receiver/done")
        tester.settle()

        assert len(seen) == 3
        assert len(set(seen)) == 1
        assert seen[0][1] == state
        assert seen[0][2] == body or json.loads(seen[0][2])["error_type"] == "ZeroDivisionError"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_many_threads_that_get_every_message_twice_agree_on_one_result(kind: str, tmp_path: Path) -> None:
    url = "memory:" if kind == "memory" else f"sqlite://{tmp_path}/flow.db"
    state, data = open_state_store(url), open_data_store(url)
    state.init()
    data.init()

    def define(flow, context):
        dag = flow.dag()
        dag.node("join", aggregator=lambda inputs: len(inputs)).modify(echo)
        for index in range(100):
            dag.node(f"n{index}").modify(echo)
        branch = dag.foreach_branch(
            "each", lambda data: {str(i): str(i) for i in range(150)}, aggregator=lambda results: len(results)
        )
        branch.node("n").modify(echo)
        for index in range(100):
            dag.edge("each", f"n{index}")
            dag.edge(f"n{index}", "join")

    tester = FlowTester(define, state=state, data=data)
    request = tester.engine.start(b"x").request_id
    deliver_with_threads(tester, threads=8, copies=2)

    outcome = tester.outcome(request)
    assert (outcome.error, outcome.result) == ("", b"100")
    assert len(outcome.ran) == len(set(outcome.ran)) == 1 + 150 + 100 + 1
    state.close()
    data.close()


def deliver_with_threads(tester: FlowTester, *, threads: int, copies: int) -> None:
    """Deliver every message `copies` times, side by side, until none is left."""
    pending, under_way = tester.transport.pending, 0
    changed = threading.Condition()
    seen = set()

    def deliver(message) -> None:
        nonlocal under_way
        again = False
        try:
            tester.engine.deliver(message.request_id, message.body)
        except TryAgainError:
            again = True
            tester.clock.advance(0.1)
        finally:
            with changed:
                under_way -= 1
                if again:
                    pending.append(message)
                changed.notify()

    with ThreadPoolExecutor(threads) as pool, changed:
        while pending or under_way:
            while pending:
                message = pending.popleft()
                number = 1 if message in seen else copies
                seen.add(message)
                under_way += number
                for _ in range(number):
                    pool.submit(deliver, message)
            changed.wait(timeout=60)


def test_a_caller_is_told_that_the_gateway_is_away_before_anything_is_recorded() -> None:
    def answer(call):
        raise UnreachableError("refused")

    tester = FlowTester(lambda flow, context: flow.sync_node().apply("f"))
    tester.answer("f", answer)

    with pytest.raises(TryAgainError, match="refused"):
        tester.engine.start(b"x")

    assert not tester.state.list("")
    assert not tester.transport.pending


def test_a_node_that_feeds_very_many_joins_starts_each_once() -> None:
    def define(flow, context):
        dag = flow.dag()
        for name in ("begin", "left", "right"):
            dag.node(name).modify(echo)
        for index in range(100):
            dag.node(f"join{index}", aggregator=lambda inputs: b"".join(inputs.values()))
        dag.edge("begin", "left")
        dag.edge("begin", "right")
        for index in range(100):
            dag.edge("left", f"join{index}")
            dag.edge("right", f"join{index}")

    tester = FlowTester(define)
    largest = []
    tester.state.transact = _watched(tester.state.transact, largest)
    outcome = tester.run(b"x")

    assert len(json.loads(outcome.result)) == 100
    assert len(outcome.ran) == len(set(outcome.ran)) == 104
    assert max(largest) <= 64


def _watched(transact, sizes: list[int]):
    def watched(ops):
        sizes.append(len(ops))
        return transact(ops)

    return watched


def test_the_story_of_a_wide_foreach_counts_its_branches() -> None:
    tester = FlowTester(foreach(8000))

    outcome = tester.run(b"x")

    assert len(outcome.ran) == 8000 + 2
    opened = [node for node in tester.engine.story(outcome.request_id)["nodes"] if "branches" in node]
    assert [(node["path"], node["branches"]) for node in opened] == [("each", 8000)]


def test_a_message_that_comes_before_its_inputs_asks_to_be_sent_again() -> None:
    from faasflow.engine import plan
    from faasflow.engine.message import Message
    from faasflow.engine.position import Phase, Position, Step

    tester = FlowTester(chain("a", "b"))
    started = tester.engine.start(b"x")
    life = tester.engine._request(started.request_id).record.life
    early = Message(started.request_id, Step(Position((), "b"), Phase.NODE), life=life)
    codec = tester.engine._parts.codec

    with pytest.raises(TryAgainError):
        tester.engine.deliver(started.request_id, codec.encode(early, tester.clock.now()))

    assert plan.first_step(tester.engine.definition()).position.node == "a"
    tester.drain()
    assert tester.outcome(started.request_id).state is RequestState.FINISHED


def test_a_store_that_is_away_during_user_code_fails_no_node() -> None:
    from faasflow.errors import StoreUnavailableError
    from faasflow.stores.memory import MemoryStateStore
    from faasflow.testing.faults import FlakyStore

    def define(flow, context):
        def with_what_was_set(data: bytes) -> bytes:
            nonlocal is_in_user_code
            is_in_user_code = True
            try:
                return context.get("k") + data
            finally:
                is_in_user_code = False

        dag = flow.dag()
        dag.node("a").modify(lambda data: context.set("k", data) or data)
        dag.node("b").modify(with_what_was_set)
        dag.edge("a", "b")

    is_away, is_in_user_code = True, False
    state = FlakyStore(MemoryStateStore(), before=lambda operation: is_away and is_in_user_code)
    tester = FlowTester(define, state=state)
    started = tester.engine.start(b"x")
    with pytest.raises(StoreUnavailableError):
        tester.drain()
    assert tester.engine.state(started.request_id) is RequestState.RUNNING

    is_away = False
    assert tester.run(b"x", request_id=started.request_id).result == b"xx"


@pytest.mark.parametrize("width", [3, 70])
def test_all_doubles_of_branches_forward_their_join_once_and_later_than_messages_wait(width: int) -> None:
    tester = FlowTester(foreach(width))
    pending = tester.transport.pending
    id = tester.engine.start(b"").request_id
    split = pending.popleft()
    tester.engine.deliver(id, split.body)
    branches = [*pending]
    pending.clear()
    for message in branches:
        tester.clock.sleep(1.0)
        tester.engine.deliver(id, message.body)
    joins = len(pending)
    for message in branches:
        with pytest.raises(TryAgainError):
            tester.engine.deliver(id, message.body)
    at_once = len(pending)
    tester.clock.sleep(2.0)
    tester.engine.deliver(id, branches[0].body)
    while_waiting = len(pending)
    tester.clock.sleep(2.0 * width)  # the last branch waited for so long
    for message in branches:
        tester.engine.deliver(id, message.body)

    assert (joins, at_once, while_waiting, len(pending)) == (1, 1, 1, 2)


class Odd(Exception):
    """An exception as other libraries have them: with a `body` that is no body of an answer."""

    def __init__(self, body: object) -> None:
        super().__init__("odd")
        self.body = body


class Unspeakable(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error",
    [Odd("text"), Odd({"code": 5}), Odd(5), FileNotFoundError(2, "No such file", "caf\udce9"), Unspeakable()],
    ids=["text", "object", "number", "file", "no-text"],
)
def test_a_node_fails_whatever_its_exception_is_made_of(error: Exception) -> None:
    def fail(data: bytes) -> bytes:
        raise error

    outcome = FlowTester(chain("first", "second", work=fail)).run(b"x")

    assert (outcome.state, outcome.ran) == (RequestState.FAILED, ["first"])
    assert outcome.failure is not None
    assert outcome.failure.error_type == type(error).__name__


def test_what_was_to_run_after_the_end_and_is_gone_from_the_flow_is_not_tried_for_ever() -> None:
    deployed = ["on_failure", "finally_"]

    def define(flow, context):
        chain("first", "second", work=lambda data: 1 / 0)(flow, context)
        for name in deployed:
            getattr(flow, name)(lambda _: context.set("closed", "x" * 100))

    data = FlakyDataStore(MemoryDataStore(), before=lambda operation: bool(deployed))
    tester = FlowTester(define, data=data, inline_limit=10)
    id = tester.engine.start(b"x").request_id
    message = tester.transport.pending.popleft()
    with pytest.raises(StoreUnavailableError):
        tester.engine.deliver(id, message.body)
    deployed.clear()
    tester.clock.sleep(60.0)
    tester.engine.deliver(id, message.body)
    closed = {row["path"]: row["failure"] for row in tester.engine.story(id)["nodes"] if row["path"].startswith("$")}

    assert {path: failure.error_type for path, failure in closed.items()} == {
        "$on_failure": "DefinitionChangedError",
        "$finally": "DefinitionChangedError",
    }
    assert "it has no on_failure any more" in closed["$on_failure"].message


def test_a_failure_counts_though_what_it_came_from_cannot_be_kept() -> None:
    is_away = False

    def refuse(call: OutgoingCall) -> Response:
        nonlocal is_away
        is_away = True
        return Response(422, {}, b"no such account" * 10)

    def define(flow, context):
        dag = flow.dag()
        dag.node("pay", at_most_once=True).apply("bank")
        dag.node("ship").modify(echo)
        dag.edge("pay", "ship")

    data = FlakyDataStore(MemoryDataStore(), before=lambda operation: is_away)
    tester = FlowTester(define, data=data, inline_limit=10)
    tester.answer("bank", refuse)
    outcome = tester.run(b"an order of tea")

    assert outcome.error == "pay: CallError: Function 'bank' answered 422."
    assert len(tester.calls("bank")) == 1
