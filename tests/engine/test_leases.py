"""Leases: a step that takes long is worked on once, whatever the queue repeats, and taken over from the dead."""

from __future__ import annotations

import contextlib

import pytest

from faasflow.engine.engine import Engine
from faasflow.engine.parts import Parts
from faasflow.errors import TryAgainError
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing import FakeClock, InProcessTransport, OutgoingCall, RequestState, Response


class Killed(BaseException):
    """The process of a handler is gone."""


class Fleet:
    """Two processes that serve one flow: `first` and `second`, with a queue and stores in common."""

    def __init__(self, define) -> None:
        self.clock, self.transport = FakeClock(), InProcessTransport()
        self._shared = (definer(define), MemoryStateStore(), MemoryDataStore())
        self.first, self.second = self._engine(), self._engine()

    def _engine(self) -> Engine:
        define, state, data = self._shared
        # The thread that renews leases lives by the real time; here nobody but the test renews them.
        parts = Parts(
            flow="flow",
            define=define,
            state=state,
            data=data,
            transport=self.transport,
            clock=self.clock,
            lease_after=1.5,
        )
        parts.leases._wake = lambda: None  # type: ignore[method-assign]
        return Engine(parts)

    def settle(self, engine: Engine) -> None:
        """Deliver, tick and let time pass until the request has ended."""
        for _ in range(50):
            while self.transport.pending:
                message = self.transport.pending.popleft()
                try:
                    engine.deliver(message.request_id, message.body)
                except TryAgainError as error:
                    self.transport.pending.append(message)
                    self.clock.advance(max(error.retry_after, 0.5))
            if engine.state("r").has_ended:
                return
            self.clock.advance(5)
            engine.tick()


def calling(**options):
    def define(flow, context):
        dag = flow.dag()
        dag.node("a", **options).apply("fn")
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    return define


def seconds(fleet: Fleet, count: int, message) -> list[float]:
    """Let time pass in a handler of `first`, whose process lives, while the queue delivers again after each 30 s."""
    asked_to_wait = []
    for second in range(1, count + 1):
        fleet.clock.advance(1)
        fleet.first.beat()
        if second % 30 == 0:
            with pytest.raises(TryAgainError) as caught:
                fleet.second.deliver(message.request_id, message.body)
            asked_to_wait.append(caught.value.retry_after)
        fleet.second.tick()
    return asked_to_wait


def test_a_node_that_takes_longer_than_the_queue_waits_is_run_once() -> None:
    fleet, waits = Fleet(calling()), []
    fleet.first.start(b"x", request_id="r")
    message = fleet.transport.pending.popleft()

    def slow(call: OutgoingCall) -> Response:
        waits.extend(seconds(fleet, 90, message))
        return Response(200, {}, b"done")

    fleet.transport.answer("fn", slow)

    fleet.first.deliver(message.request_id, message.body)
    fleet.settle(fleet.second)

    assert fleet.second.answer("r").body == b"done"
    assert len(fleet.transport.calls) == 1
    assert len(waits) == 3
    assert all(0 < wait <= 20 for wait in waits)


def test_a_node_whose_process_dies_is_run_again_when_its_lease_has_ended() -> None:
    fleet, times = Fleet(calling()), []
    fleet.first.start(b"x", request_id="r")
    message = fleet.transport.pending.popleft()

    def dies_at_first(call: OutgoingCall) -> Response:
        times.append(fleet.clock.now())
        if len(times) > 1:
            return Response(200, {}, b"done")
        seconds(fleet, 40, message)
        raise Killed

    fleet.transport.answer("fn", dies_at_first)

    with contextlib.suppress(Killed):
        fleet.first.deliver(message.request_id, message.body)
    fleet.settle(fleet.second)

    assert fleet.second.answer("r").body == b"done"
    assert len({call.headers["Idempotency-Key"] for call in fleet.transport.calls}) == 1
    assert len(times) == 2
    assert 50 < times[1] - times[0] < 100


def test_a_late_result_of_one_who_lost_the_lease_changes_nothing() -> None:
    fleet = Fleet(calling())
    fleet.first.start(b"x", request_id="r")
    message = fleet.transport.pending.popleft()
    calls: list[str] = []

    def stands_still(call: OutgoingCall) -> Response:
        calls.append("call")
        if len(calls) > 1:
            return Response(200, {}, b"second")
        seconds(fleet, 5, message)
        fleet.clock.advance(60)
        fleet.second.deliver(message.request_id, message.body)
        return Response(200, {}, b"first")

    fleet.transport.answer("fn", stands_still)

    with contextlib.suppress(TryAgainError):
        fleet.first.deliver(message.request_id, message.body)
    fleet.settle(fleet.first)

    assert len(calls) == 2
    assert fleet.first.answer("r").body == b"second"


def test_a_node_that_may_run_at_most_once_fails_when_its_start_was_lost() -> None:
    fleet = Fleet(calling(at_most_once=True))
    fleet.first.start(b"x", request_id="r")
    message = fleet.transport.pending.popleft()

    def dies(call: OutgoingCall) -> Response:
        raise Killed

    fleet.transport.answer("fn", dies)

    with contextlib.suppress(Killed):
        fleet.first.deliver(message.request_id, message.body)
    with pytest.raises(TryAgainError):
        fleet.second.deliver(message.request_id, message.body)
    fleet.clock.advance(21)
    fleet.second.deliver(message.request_id, message.body)

    answer = fleet.second.answer("r")
    assert answer.failure is not None
    assert (answer.state, answer.failure.error_type) == (RequestState.FAILED, "LostStartError")
    assert len(fleet.transport.calls) == 1


def test_the_clock_ends_what_waits_for_a_lost_start() -> None:
    fleet = Fleet(calling(at_most_once=True))
    fleet.first.start(b"x", request_id="r")

    def dies(call: OutgoingCall) -> Response:
        raise Killed

    fleet.transport.answer("fn", dies)
    message = fleet.transport.pending.popleft()
    with contextlib.suppress(Killed):
        fleet.first.deliver(message.request_id, message.body)

    fleet.settle(fleet.second)

    assert fleet.second.state("r") is RequestState.FAILED
    assert len(fleet.transport.calls) == 1
