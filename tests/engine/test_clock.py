"""The clock: what was lost or refused comes again, callbacks and retention have their time, and no jump does harm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from faasflow import Retry
from faasflow.engine.closing import CALLBACK_RETRY
from faasflow.errors import ForwardError
from faasflow.testing import FlowTester, InProcessTransport, OutgoingCall, RequestState, Response

HOUR, WEEK = 3600.0, 7 * 86400.0


def joined(results: dict[str, bytes]) -> bytes:
    return b",".join(results.values())


def diamond(flow, context):
    dag = flow.dag()
    for name in ("a", "b", "c"):
        dag.node(name).apply(name)
    dag.node("d", aggregator=joined).apply("d")
    for source, target in ("ab", "ac", "bd", "cd"):
        dag.edge(source, target)


def foreach(flow, context):
    dag = flow.dag()
    dag.node("a").apply("a")
    branch = dag.foreach_branch("each", lambda data: {"k": b"1", "l": b"2"}, aggregator=joined)
    branch.node("n").apply("n")
    dag.node("z").apply("z")
    dag.edge("a", "each")
    dag.edge("each", "z")


def condition(flow, context):
    dag = flow.dag()
    dag.node("a").apply("a")
    branches = dag.conditional_branch("if", ["yes", "no"], lambda data: ["yes"], aggregator=joined)
    for name, branch in branches.items():
        branch.node("n").apply(name)
    dag.node("z").apply("z")
    dag.edge("a", "if")
    dag.edge("if", "z")


def made_of(define, transport: InProcessTransport | None = None) -> FlowTester:
    tester = FlowTester(define, transport=transport)
    for name in ("a", "b", "c", "d", "n", "z", "yes", "no"):
        tester.function(name, lambda data, name=name: data + name.encode())
    return tester


class LosingTransport(InProcessTransport):
    """A queue that takes every message and loses one, or refuses one forward."""

    def __init__(self, *, lost: int = -1, refused: int = -1) -> None:
        super().__init__()
        self.lost, self.refused, self.taken, self.asked = lost, refused, 0, 0

    def forward(self, messages) -> None:
        self.asked += 1
        if self.asked - 1 == self.refused:
            raise ForwardError("the queue is full")
        for message in messages:
            if self.taken != self.lost:
                super().forward([message])
            self.taken += 1


@pytest.mark.parametrize("define", [diamond, foreach, condition])
def test_a_message_that_is_lost_at_any_position_comes_again(define) -> None:
    whole = LosingTransport()
    expected = made_of(define, whole).run(b"x")
    assert whole.taken >= 4

    for lost in range(whole.taken):
        tester = made_of(define, LosingTransport(lost=lost))
        outcome = tester.run(b"x")

        assert (outcome.state, outcome.result) == (RequestState.FINISHED, expected.result)
        assert len(tester.transport.calls) == len(whole.calls)
        assert 30 <= tester.engine.story(outcome.request_id)["ended"] - _created(tester, outcome.request_id) < 120


@pytest.mark.parametrize("define", [diamond, foreach, condition])
def test_a_forward_that_is_refused_at_any_position_is_repeated(define) -> None:
    whole = LosingTransport()
    expected = made_of(define, whole).run(b"x")

    for refused in range(whole.asked):
        tester = made_of(define, LosingTransport(refused=refused))
        outcome = tester.run(b"x")

        assert (outcome.state, outcome.result) == (RequestState.FINISHED, expected.result)
        assert len(tester.transport.calls) == len(whole.calls)


def _created(tester: FlowTester, request_id: str) -> float:
    created = tester.engine.story(request_id)["created"]
    assert isinstance(created, float)
    return created


def test_of_two_clocks_that_tick_together_one_fires_each_timer() -> None:
    transport = LosingTransport()
    tester = made_of(diamond, transport)
    for number in range(20):
        tester.engine.start(b"x", request_id=str(number))
    transport.pending.clear()
    tester.clock.advance(40)

    with ThreadPoolExecutor(4) as pool:
        ticks = list(pool.map(lambda _: tester.engine.tick(), range(4)))

    assert sum(tick.repaired for tick in ticks) == 20
    assert sorted(message.request_id for message in transport.pending) == sorted(str(number) for number in range(20))


@pytest.mark.parametrize("jumps", [(HOUR, -HOUR), (-HOUR, HOUR)])
def test_a_wall_clock_that_jumps_repeats_and_loses_nothing(jumps) -> None:
    def define(flow, context):
        flow.retry(Retry(attempts=3, delay=1, jitter=0))
        diamond(flow, context)

    tester, made = made_of(define), []

    def jumping(call: OutgoingCall) -> Response:
        made.append(call.body)
        if len(made) <= 2:
            tester.clock.advance(jumps[len(made) - 1])
            return Response(500, {}, b"")
        return Response(200, {}, call.body)

    tester.answer("b", jumping)

    outcome = tester.run(b"x")

    assert outcome.state is RequestState.FINISHED
    assert len(made) == 3
    assert [len(tester.calls(name)) for name in "acd"] == [1, 1, 1]


def test_nothing_but_the_time_of_the_clock_is_left_once_retention_has_ended() -> None:
    tester = made_of(foreach)
    for number in range(3):
        tester.run(b"x" * 100_000, request_id=str(number))
    tester.answer("a", lambda call: Response(500, {}, b""))
    tester.run(b"x", request_id="failed")
    tester.clock.advance(WEEK + HOUR)

    tick = tester.engine.tick()

    assert tick.removed == 4
    assert list(tester.state.list("")) == ["faasflow/flow/$clock"]
    assert not tester.data.list("")


def test_the_status_says_whether_the_clock_runs_and_what_is_due() -> None:
    tester = made_of(diamond)
    assert tester.engine.clock_status().is_late
    assert tester.engine.next_timer() is None

    tester.engine.tick()
    tester.engine.start(b"x", request_id="r")
    due = tester.engine.next_timer()
    assert due is not None
    status = tester.engine.clock_status()
    assert (status.overdue, status.is_late) == (0.0, False)
    tester.clock.advance(due - tester.clock.now() + 150)

    status = tester.engine.clock_status()
    assert status.overdue == pytest.approx(150, abs=1)
    assert status.is_late
    assert status.last is not None


def test_a_callback_is_repeated_with_one_event_id_until_it_is_taken() -> None:
    tester, answers = made_of(diamond), [500, 404, 200]
    seen: list[OutgoingCall] = []

    def receive(call: OutgoingCall) -> Response:
        seen.append(call)
        return Response(answers.pop(0), {}, b"")

    tester.answer("http://receiver.test/done", receive)

    tester.run(b"x", request_id="r", callback="http://receiver.test/done")

    assert len(seen) == 3
    assert len({call.headers["X-Faas-Flow-Event-Id"] for call in seen}) == 1
    assert tester.engine.dead_letters() == []
    assert tester.engine.next_timer() is None


def test_a_callback_that_is_never_taken_becomes_a_dead_letter() -> None:
    tester = made_of(diamond)
    tester.answer("http://receiver.test/done", lambda call: Response(500, {}, b""))

    outcome = tester.run(b"x", request_id="r", callback="http://receiver.test/done")

    told = [call for call in tester.transport.calls if call.function is None]
    assert outcome.state is RequestState.FINISHED
    assert len(told) == CALLBACK_RETRY.attempts
    assert len({call.headers["X-Faas-Flow-Event-Id"] for call in told}) == 1
    assert [row["request_id"] for row in tester.engine.dead_letters()] == ["r"]
    assert tester.engine.next_timer() is None


def test_what_was_lost_before_or_during_a_pause_comes_again_after_it() -> None:
    tester = made_of(diamond)
    tester.engine.start(b"x", request_id="r")
    tester.engine.pause("r")
    tester.transport.pending.clear()
    tester.clock.advance(HOUR)
    tester.engine.tick()
    assert not tester.transport.pending

    tester.engine.resume("r")
    tester.settle()

    assert tester.outcome("r").state is RequestState.FINISHED
    assert [len(tester.calls(name)) for name in "abcd"] == [1, 1, 1, 1]


def test_a_wide_request_whose_branches_wait_is_not_looked_at_for_each_of_them() -> None:
    def define(flow, context):
        dag = flow.dag()
        branch = dag.foreach_branch(
            "each", lambda data: {str(n): b"" for n in range(200)}, aggregator=lambda parts: b""
        )
        branch.node("first").modify(lambda data: data)
        branch.node("second").modify(lambda data: data)
        branch.edge("first", "second")

    tester = FlowTester(define)
    pending = tester.transport.pending
    id = tester.engine.start(b"").request_id
    tester.engine.deliver(id, pending.popleft().body)
    for message in [pending.popleft() for _ in range(200)]:
        tester.clock.sleep(0.1)
        tester.engine.deliver(id, message.body)
    lost = {message.body for message in pending}
    pending.clear()
    until, ticks = tester.clock.now() + 40.0, 0
    while (due := tester.engine.next_timer()) is not None and due < until:
        tester.clock.sleep(max(0.0, due - tester.clock.now()))
        tester.engine.tick()
        ticks += 1

    assert len(lost) == 200
    assert len(pending) >= 200
    assert ticks <= 30
