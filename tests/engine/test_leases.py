"""Leases: a step that takes long is worked on once, whatever the queue repeats, and taken over from the dead."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from faasflow.engine.engine import Engine
from faasflow.engine.parts import Parts
from faasflow.errors import StoreUnavailableError, TryAgainError
from faasflow.ports import DataStore, Forward, StateStore
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing import FakeClock, InProcessTransport, OutgoingCall, RequestState, Response
from faasflow.testing.faults import FlakyDataStore, Operation


class Killed(BaseException):
    """The process of a handler is gone."""


class Fleet:
    """Two processes that serve one flow: `first` and `second`, with a queue and stores in common."""

    def __init__(
        self,
        define,
        *,
        data: DataStore | None = None,
        inline_limit: int = 32 * 1024,
        around: Callable[[StateStore], StateStore] = lambda state: state,
    ) -> None:
        self.clock, self.transport = FakeClock(), InProcessTransport()
        self.state = MemoryStateStore()
        self._shared = (definer(define), around(self.state), data or MemoryDataStore())
        self._inline_limit = inline_limit
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
            inline_limit=self._inline_limit,
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


@dataclass
class Loading:
    """A data store that does something while a value is loaded."""

    meanwhile: list[Callable[[], bool]] = field(default_factory=list)

    def before(self, operation: Operation) -> bool:
        """Whether the operation fails."""
        return operation.name == "get" and bool(self.meanwhile) and self.meanwhile.pop(0)()


def paying(loading: Loading) -> tuple[Fleet, Forward]:
    """A request whose node `a` may run at most once and has its input in the data store, and the message for it."""
    data = FlakyDataStore(MemoryDataStore(), before=loading.before)
    fleet = Fleet(calling(at_most_once=True), data=data, inline_limit=0)
    fleet.transport.answer("fn", lambda call: Response(200, {}, b"paid"))
    fleet.first.start(b"x", request_id="r")
    return fleet, fleet.transport.pending.popleft()


def test_what_may_run_at_most_once_has_not_started_while_its_input_is_loaded() -> None:
    loading = Loading()
    fleet, message = paying(loading)

    def slow() -> bool:
        seconds(fleet, 40, message)
        return False

    loading.meanwhile.append(slow)
    fleet.first.deliver(message.request_id, message.body)
    fleet.settle(fleet.second)

    assert fleet.second.answer("r").body == b"paid"
    assert len(fleet.transport.calls) == 1


def test_what_may_run_at_most_once_is_run_after_a_store_failed_while_its_input_was_loaded() -> None:
    loading = Loading()
    fleet, message = paying(loading)

    def fails() -> bool:
        seconds(fleet, 5, message)
        return True

    loading.meanwhile += [fails, fails]
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            fleet.first.deliver(message.request_id, message.body)
        fleet.clock.advance(21)
    fleet.first.deliver(message.request_id, message.body)
    fleet.settle(fleet.second)

    assert fleet.second.answer("r").body == b"paid"
    assert len(fleet.transport.calls) == 1


def test_what_may_run_at_most_once_is_run_after_a_process_died_while_its_input_was_loaded() -> None:
    loading = Loading()
    fleet, message = paying(loading)

    def dies() -> bool:
        seconds(fleet, 5, message)
        raise Killed

    loading.meanwhile.append(dies)
    with contextlib.suppress(Killed):
        fleet.first.deliver(message.request_id, message.body)
    fleet.settle(fleet.second)

    assert fleet.second.answer("r").body == b"paid"
    assert len(fleet.transport.calls) == 1


def test_a_retry_is_a_decision_to_run_again_what_may_run_at_most_once() -> None:
    fleet, message = paying(Loading())
    answers: list[Response | BaseException] = [Killed(), Response(200, {}, b"paid")]

    def dies_at_first(call: OutgoingCall) -> Response:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    fleet.transport.answer("fn", dies_at_first)
    with contextlib.suppress(Killed):
        fleet.first.deliver(message.request_id, message.body)
    fleet.settle(fleet.second)
    failure = fleet.second.answer("r").failure
    fleet.second.retry("r")
    fleet.settle(fleet.second)

    assert failure is not None
    assert failure.error_type == "LostStartError"
    assert fleet.second.answer("r").body == b"paid"


def test_of_two_deliveries_that_load_their_input_together_one_starts_what_may_run_at_most_once() -> None:
    loading = Loading()
    fleet, message = paying(loading)
    refused: list[str] = []

    def meets() -> bool:
        fleet.second.deliver(message.request_id, message.body)
        return False

    loading.meanwhile.append(meets)
    try:
        fleet.first.deliver(message.request_id, message.body)
    except TryAgainError as error:
        refused.append(str(error))
    fleet.settle(fleet.second)

    assert fleet.second.answer("r").body == b"paid"
    assert len(fleet.transport.calls) == 1
    assert refused == ["The start of 'a' could not be recorded."]


def test_nothing_is_left_of_a_start_once_its_outcome_is_recorded() -> None:
    fleet, message = paying(Loading())
    fleet.first.deliver(message.request_id, message.body)

    assert not [key for key in fleet.state.keys("faasflow/flow/r/") if "/start/" in key or "/lease/" in key]
