"""Pause, resume and stop beside what else goes on: retries, leases, refusing queues, deaths, failures and deadlines."""

from __future__ import annotations

from typing import Any

import pytest

from faasflow import Retry
from faasflow.errors import RequestConflictError, StoreUnavailableError
from faasflow.stores.memory import MemoryStateStore
from faasflow.testing import FlowTester, OutgoingCall, RequestState, Response
from faasflow.testing.faults import FlakyStore, FlakyTransport, Operation
from tests.engine.test_clock import diamond, joined
from tests.engine.test_leases import Fleet

MINUTE = 60.0


def made_of(define, **options) -> FlowTester:
    tester = FlowTester(define, **options)
    for name in "abcd":
        tester.function(name, lambda data, name=name: data + name.encode())
    return tester


def started_and_paused(tester: FlowTester) -> FlowTester:
    """A request of the diamond with both branches parked."""
    tester.engine.start(b"x", request_id="r")
    message = tester.transport.pending.popleft()
    tester.engine.deliver("r", message.body)
    tester.engine.pause("r")
    tester.drain()
    return tester


def parked(tester: FlowTester) -> Any:
    return tester.engine.story("r")["parked"]


def calls(tester: FlowTester) -> list[int]:
    return [len(tester.calls(name)) for name in "abcd"]


def pass_time(tester: FlowTester, seconds: float) -> int:
    """Let the clock tick every five seconds; how many steps it forwarded."""
    repaired = 0
    for _ in range(int(seconds / 5)):
        tester.clock.sleep(5)
        repaired += tester.engine.tick().repaired
    return repaired


def test_what_a_resume_has_forwarded_is_not_forwarded_again_by_the_clock_at_once() -> None:
    tester = started_and_paused(made_of(diamond))
    assert pass_time(tester, 10 * MINUTE) == 0
    look = tester.engine.next_timer()
    assert look is not None
    tester.clock.sleep(look - tester.clock.now() - 1)

    tester.engine.resume("r")

    assert pass_time(tester, 25) == 0
    assert len(tester.transport.pending) == 2


def test_what_is_lost_after_a_resume_comes_again() -> None:
    tester = started_and_paused(made_of(diamond))
    pass_time(tester, 10 * MINUTE)

    tester.engine.resume("r")
    tester.transport.pending.clear()
    tester.settle()

    assert tester.outcome("r").state is RequestState.FINISHED
    assert calls(tester) == [1, 1, 1, 1]


def test_a_step_that_is_paused_while_it_waits_for_its_next_attempt_has_that_attempt_after_the_pause() -> None:
    def define(flow, context):
        flow.retry(Retry(attempts=2, delay=10, jitter=0))
        diamond(flow, context)

    tester = made_of(define)
    tester.answer("a", lambda call: Response(500 if len(tester.calls("a")) == 1 else 200, {}, b"a"))
    tester.engine.start(b"x", request_id="r")
    tester.drain()

    tester.engine.pause("r")
    pass_time(tester, MINUTE)
    tester.drain()
    pass_time(tester, 10 * MINUTE)
    assert len(tester.calls("a")) == 1
    assert parked(tester) == ["node/a"]

    tester.engine.resume("r")
    assert pass_time(tester, 25) == 0
    tester.settle()
    assert tester.outcome("r").state is RequestState.FINISHED
    assert calls(tester) == [2, 1, 1, 1]


@pytest.mark.parametrize("command", ["pause", "stop"])
def test_a_long_step_keeps_its_lease_through_a_pause_and_loses_its_result_to_a_stop(command) -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.node("a").apply("a")
        dag.node("b").apply("b")
        dag.edge("a", "b")

    fleet, leases = Fleet(define), []

    def long(call: OutgoingCall) -> Response:
        fleet.clock.advance(5)
        fleet.first.beat()
        getattr(fleet.second, command)("r")
        for _ in range(20):
            fleet.clock.advance(5)
            fleet.first.beat()
            fleet.second.tick()
        leases.extend(node["state"] for node in fleet.second.story("r")["nodes"] if node["path"] == "a")
        return Response(200, {}, b"late")

    fleet.transport.answer("a", long)
    fleet.transport.function("b", lambda data: data + b" b")
    fleet.first.start(b"x", request_id="r")
    message = fleet.transport.pending.popleft()
    fleet.first.deliver("r", message.body)

    called = [call.function for call in fleet.transport.calls]
    assert called == ["a"]
    if command == "stop":
        assert fleet.second.state("r") is RequestState.STOPPED
        fleet.settle(fleet.second)
        assert [call.function for call in fleet.transport.calls] == ["a"]
        assert not any(node["path"] == "a" and node["state"] == "FINISHED" for node in fleet.second.story("r")["nodes"])
        return
    fleet.second.resume("r")
    fleet.settle(fleet.second)
    assert fleet.second.answer("r").body == b"late b"
    assert [call.function for call in fleet.transport.calls] == ["a", "b"]


def test_what_the_queue_refuses_of_a_resume_is_forwarded_by_timers() -> None:
    refuses = []

    def wrap(transport):
        return FlakyTransport(transport, before=lambda operation: operation.name == "forward" and bool(refuses))

    tester = started_and_paused(made_of(diamond, wrap=wrap))
    refuses.append(True)
    assert tester.engine.resume("r") is RequestState.RUNNING
    assert parked(tester) == []
    assert not tester.transport.pending

    pass_time(tester, 10)
    refuses.clear()
    tester.settle()
    assert tester.outcome("r").state is RequestState.FINISHED
    assert calls(tester) == [1, 1, 1, 1]


class Died(BaseException):
    """The process of a client is gone."""


class Mortal(FlakyStore):
    """A state store whose user dies before an operation, or after it."""

    def __init__(self) -> None:
        self.count, self.at = 0, 0
        super().__init__(MemoryStateStore(), before=lambda _: self._die(1), after=lambda _: self._die(0))

    def _die(self, step: int) -> bool:
        self.count += step
        if self.at and 2 * self.count - step == self.at:
            self.at = 0
            raise Died
        return False


def test_a_client_that_dies_at_any_point_of_its_resume_loses_nothing() -> None:
    points = 0
    for point in range(1, 100):
        store = Mortal()
        tester = started_and_paused(made_of(diamond, state=store))
        store.count, store.at = 0, point
        try:
            tester.engine.resume("r")
            break
        except Died:
            points += 1

        if tester.engine.state("r") is RequestState.PAUSED:
            assert parked(tester) == ["node/b", "node/c"]
            tester.engine.resume("r")
        tester.settle()
        assert tester.outcome("r").state is RequestState.FINISHED
        assert calls(tester) == [1, 1, 1, 1]
        assert parked(tester) == []

    assert points >= 8


def test_the_clock_forwards_once_what_is_parked_still_when_a_resume_was_cut_off() -> None:
    store = Mortal()
    tester = started_and_paused(made_of(diamond, state=store))
    pass_time(tester, 10 * MINUTE)
    store.count, store.at = 0, 5
    with pytest.raises(Died):
        tester.engine.resume("r")
    assert tester.engine.state("r") is RequestState.RUNNING
    assert parked(tester) == ["node/b", "node/c"]

    while parked(tester):
        pass_time(tester, 5)

    assert len(tester.transport.pending) == 2
    tester.drain()
    assert calls(tester) == [1, 1, 1, 1]


@pytest.mark.parametrize("command", ["pause", "resume", "stop"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_command_whose_answer_is_lost_can_be_given_again(command, when) -> None:
    lost = []

    def fails(operation: Operation) -> bool:
        return bool(lost) and operation.is_write and lost.pop()

    tester = started_and_paused(made_of(diamond, state=FlakyStore(MemoryStateStore(), **{when: fails})))
    if command == "pause":
        tester.engine.resume("r")
    lost.append(True)
    with pytest.raises(StoreUnavailableError):
        getattr(tester.engine, command)("r")

    wanted = {"pause": RequestState.PAUSED, "resume": RequestState.RUNNING, "stop": RequestState.STOPPED}[command]
    assert getattr(tester.engine, command)("r") is wanted
    if command == "pause":
        tester.drain()
        tester.engine.resume("r")
    tester.settle()
    assert tester.engine.state("r") is (wanted if command == "stop" else RequestState.FINISHED)
    assert calls(tester) == ([1, 0, 0, 0] if command == "stop" else [1, 1, 1, 1])


def test_the_clock_ends_what_a_stop_left_open_that_was_cut_off() -> None:
    states = []

    def define(flow, context):
        diamond(flow, context)
        flow.finally_(states.append)

    store = Mortal()
    tester = started_and_paused(made_of(define, state=store))
    store.count, store.at = 0, 4
    with pytest.raises(Died):
        tester.engine.stop("r")
    assert tester.engine.state("r") is RequestState.STOPPED
    assert states == []

    tester.settle()
    assert states == ["stopped"]
    assert tester.engine.next_timer() is None


@pytest.mark.parametrize("has_finally", [True, False])
def test_a_stop_works_while_the_flow_cannot_be_defined_and_what_runs_after_the_end_runs_later(has_finally) -> None:
    states: list[str] = []
    broken: list[bool] = []

    def define(flow, context):
        if broken:
            raise OSError("the table of regions is away")
        diamond(flow, context)
        if has_finally:
            flow.finally_(states.append)

    tester = made_of(define)
    tester.answer("http://target/told", lambda call: Response(204, {}, b""))
    tester.engine.start(b"x", request_id="r", callback="http://target/told")
    broken.append(True)

    assert tester.engine.stop("r") is RequestState.STOPPED
    assert tester.engine.stop("r") is RequestState.STOPPED
    tester.transport.pending.clear()
    tester.clock.advance(40)
    tester.engine.tick()
    assert tester.transport.calls == []

    broken.clear()
    tester.settle()
    assert states == (["stopped"] if has_finally else [])
    assert [call.url for call in tester.transport.calls] == ["http://target/told"]
    assert tester.engine.next_timer() is None
    assert tester.engine.dead_letters() == []


def test_a_stopped_request_forgets_what_was_parked() -> None:
    tester = started_and_paused(made_of(diamond))

    tester.engine.stop("r")
    tester.settle()

    assert tester.outcome("r").state is RequestState.STOPPED
    assert calls(tester) == [1, 0, 0, 0]
    with pytest.raises(RequestConflictError, match="STOPPED"):
        tester.engine.resume("r")


def test_a_node_that_fails_while_its_request_is_paused_fails_it_and_a_retry_goes_on_with_what_was_parked() -> None:
    tester = made_of(diamond)
    healthy = []

    def b(call: OutgoingCall) -> Response:
        if not healthy:
            tester.engine.pause("r")
        return Response(200 if healthy else 500, {}, b"b")

    tester.answer("b", b)
    assert tester.run(b"x", request_id="r").state is RequestState.FAILED
    with pytest.raises(RequestConflictError, match="FAILED"):
        tester.engine.resume("r")

    healthy.append(True)
    tester.engine.retry("r")
    tester.settle()
    assert tester.outcome("r").result == b"b,xacd"
    assert calls(tester) == [1, 2, 1, 1]
    assert parked(tester) == []


def test_a_failed_request_with_parked_branches_goes_on_at_once() -> None:
    """Its deadline passed while it was paused; the messages of the run before count no more."""

    def define(flow, context):
        flow.timeout(5 * MINUTE)
        diamond(flow, context)

    tester = started_and_paused(made_of(define))
    pass_time(tester, 6 * MINUTE)
    assert tester.engine.state("r") is RequestState.FAILED

    tester.engine.retry("r")
    tester.drain()

    assert tester.outcome("r").state is RequestState.FINISHED
    assert calls(tester) == [1, 1, 1, 1]


def test_a_request_whose_deadline_passes_while_it_is_paused_fails_then() -> None:
    states = []

    def define(flow, context):
        flow.timeout(5 * MINUTE)
        diamond(flow, context)
        flow.finally_(states.append)

    tester = started_and_paused(made_of(define))
    pass_time(tester, 4 * MINUTE)
    assert tester.engine.state("r") is RequestState.PAUSED

    pass_time(tester, 2 * MINUTE)
    outcome = tester.outcome("r")
    assert outcome.state is RequestState.FAILED
    assert outcome.failure is not None
    assert outcome.failure.error_type == "RequestTimeoutError"
    assert states == ["failure"]
    assert calls(tester) == [1, 0, 0, 0]
    assert tester.engine.next_timer() is None


def test_a_step_in_flight_ends_while_its_request_is_paused_and_only_that() -> None:
    tester = made_of(diamond)
    tester.answer("b", lambda call: Response(200, {}, tester.engine.pause("r").encode()))

    tester.engine.start(b"x", request_id="r")
    tester.drain()

    assert calls(tester) == [1, 1, 0, 0]
    assert parked(tester) == ["node/c"]
    ended = [node["path"] for node in tester.engine.story("r")["nodes"] if node["state"] == "FINISHED"]
    assert ended == ["a", "b"]


def wide(flow, context):
    dag = flow.dag()
    each = dag.foreach_branch("each", lambda data: {str(n): b"%d" % n for n in range(50)}, aggregator=joined)
    each.node("a").apply("a")


def test_what_a_queue_without_room_does_not_take_of_a_resume_stays_parked_until_it_does() -> None:
    refuses = []

    def wrap(transport):
        return FlakyTransport(transport, before=lambda operation: operation.name == "forward" and bool(refuses))

    tester = started_and_paused(made_of(wide, wrap=wrap))
    refuses.append(True)
    assert tester.engine.resume("r") is RequestState.RUNNING
    assert len(parked(tester)) == 30

    refuses.clear()
    tester.settle()
    assert tester.outcome("r").state is RequestState.FINISHED
    assert len(tester.calls("a")) == 50


def test_a_client_that_dies_in_a_wide_resume_leaves_nearly_all_of_it_parked_or_queued() -> None:
    store = Mortal()
    tester = started_and_paused(made_of(wide, state=store))
    store.count, store.at = 0, 2 * 40
    with pytest.raises(Died):
        tester.engine.resume("r")

    assert len(parked(tester)) + len(tester.transport.pending) >= 30
    tester.settle()
    assert len(tester.calls("a")) == 50
