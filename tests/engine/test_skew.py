"""Processes whose wall clocks are an hour or a day apart: nothing is early, and nothing is late, for that reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from faasflow import Retry
from faasflow.engine.engine import Engine
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.parts import Parts
from faasflow.errors import CallTimeoutError, TryAgainError
from faasflow.ports import Forward, OutgoingCall
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing import FakeClock, InProcessTransport, Response

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SKEWS = [HOUR, -HOUR, DAY, -DAY]
Define = Callable[[Any, Any], None]


class SkewedClock:
    """The wall clock of one machine."""

    def __init__(self, right: FakeClock, skew: float) -> None:
        self.right, self.skew, self.slept = right, skew, right.sleep

    def now(self) -> float:
        return self.right.now() + self.skew

    def sleep(self, seconds: float) -> None:
        self.slept(seconds)


class Replicas:
    """Engines of one flow on the same stores, each by a clock of its own. Each ticks once a second."""

    def __init__(self, define: Define, **settings: Any) -> None:
        self.clock = FakeClock(tick=0.0)
        self.state, self.data, self.transport = MemoryStateStore(), MemoryDataStore(), InProcessTransport()
        self._define, self._settings = define, {"lease_after": float("inf"), **settings}
        self.engines: list[Engine] = []

    def join(self, skew: float) -> Engine:
        """Start another process."""
        engine = Engine(
            Parts(
                flow="flow",
                define=definer(self._define),
                state=self.state,
                data=self.data,
                transport=self.transport,
                clock=SkewedClock(self.clock, skew),
                chance=lambda: 0.5,
                **self._settings,
            )
        )
        self.engines.append(engine)
        return engine

    def leave(self, engine: Engine) -> None:
        """End a process."""
        self.engines.remove(engine)

    def pass_time(self, seconds: float, *, by: Engine | None = None) -> None:
        """Let so many seconds pass; whatever is put into the queue is delivered to `by`, or to all in turn."""
        for second in range(int(seconds)):
            self.clock.advance(1.0)
            for engine in list(self.engines):
                engine.tick()
            self.deliver(by or self.engines[second % len(self.engines)])

    def deliver(self, engine: Engine) -> None:
        for _ in range(len(self.transport.pending)):
            message = self.transport.pending.popleft()
            try:
                engine.deliver(message.request_id, message.body)
            except TryAgainError:
                self.transport.pending.append(message)

    def seconds_until(self, done: Callable[[], bool], *, most: int, by: Engine | None = None) -> int:
        """How many seconds pass until it is so."""
        for seconds in range(most):
            if done():
                return seconds
            self.pass_time(1, by=by)
        raise AssertionError(f"it is not done after {most} s")

    def has_ended(self, request_id: str) -> Callable[[], bool]:
        return lambda: self.engines[0].state(request_id).has_ended


def two_nodes(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("a").modify(bytes.upper)
    dag.node("b").modify(bytes.upper)
    dag.edge("a", "b")


def failing(times: int, **policy: Any) -> tuple[Define, list[float]]:
    """A flow whose node fails so many times; when it ran."""
    ran: list[float] = []

    def fail(data: bytes) -> bytes:
        ran.append(1.0)
        if len(ran) <= times:
            raise ValueError("not yet")
        return data

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("first").modify(bytes.upper)
        dag.node("fails", retry=Retry(jitter=0, **policy)).modify(fail)
        dag.edge("first", "fails")

    return define, ran


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_retry_after_a_second_comes_after_a_second_whoever_is_apart(skew, is_first):
    define, _ = failing(3, attempts=5, delay=1)
    replicas = Replicas(define)
    for one in (skew, 0.0) if is_first else (0.0, skew):
        replicas.join(one)
        replicas.pass_time(20)

    for number, engine in enumerate(replicas.engines):
        engine.start(b"x", request_id=f"r{number}")
        assert replicas.seconds_until(replicas.has_ended(f"r{number}"), most=60) <= 15


@pytest.mark.parametrize("skew", SKEWS)
def test_what_is_lost_comes_again_in_time_whoever_is_apart(skew):
    replicas = Replicas(two_nodes)
    replicas.join(0.0)
    replicas.pass_time(20)
    apart = replicas.join(skew)
    replicas.pass_time(20)

    for number, engine in enumerate(replicas.engines):
        engine.start(b"x", request_id=f"r{number}")
        replicas.deliver(apart)
        replicas.transport.pending.clear()
        assert replicas.seconds_until(replicas.has_ended(f"r{number}"), most=600) <= 90


@pytest.mark.parametrize("skew", SKEWS)
def test_a_retry_after_hours_does_not_come_early(skew):
    define, ran = failing(1, attempts=2, delay=2 * HOUR, max_delay=2 * HOUR)
    replicas = Replicas(define)
    replicas.join(0.0).start(b"x", request_id="r")
    replicas.pass_time(20)
    replicas.join(skew)

    seconds = replicas.seconds_until(lambda: len(ran) == 2, most=3 * 3600)

    assert 2 * HOUR - MINUTE <= seconds <= 2 * HOUR + MINUTE


@pytest.mark.parametrize("skew", SKEWS)
def test_no_request_is_over_its_time_for_a_clock_that_is_apart(skew):
    def define(flow: Any, context: Any) -> None:
        flow.timeout(10 * MINUTE)
        two_nodes(flow, context)

    replicas = Replicas(define)
    right = replicas.join(0.0)
    replicas.pass_time(20)
    right.start(b"x", request_id="r")
    apart = replicas.join(skew)

    replicas.deliver(apart)
    replicas.pass_time(60, by=apart)

    assert right.answer("r").state is RequestState.FINISHED


@pytest.mark.parametrize("skew", SKEWS)
def test_what_never_ends_is_over_its_time_in_time(skew):
    def define(flow: Any, context: Any) -> None:
        flow.timeout(10 * MINUTE)
        flow.retry(Retry(attempts=1000, delay=60, jitter=0))
        flow.sync_node().apply("away")

    replicas = Replicas(define)
    replicas.transport.answer("away", lambda call: Response(500, {}, b""))
    apart = replicas.join(skew)
    apart.start(b"x", request_id="r")
    replicas.pass_time(5, by=apart)
    replicas.join(0.0)
    replicas.leave(apart)

    assert replicas.seconds_until(replicas.has_ended("r"), most=3600) <= 12 * MINUTE


@pytest.mark.parametrize("skew", SKEWS)
def test_what_is_kept_for_an_hour_is_kept_for_an_hour(skew):
    replicas = Replicas(two_nodes, retention=HOUR)
    replicas.join(0.0).start(b"x", request_id="r")
    replicas.pass_time(20)
    replicas.join(skew)

    replicas.pass_time(HOUR - 2 * MINUTE)
    assert replicas.engines[0].state("r") is RequestState.FINISHED
    replicas.pass_time(4 * MINUTE)
    assert not replicas.state.keys("faasflow/flow/r/")


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize("has_lost", [True, False])
def test_who_was_apart_and_is_gone_leaves_nobody_waiting(skew, has_lost):
    define, _ = failing(1, attempts=5, delay=1)
    replicas = Replicas(define)
    apart = replicas.join(skew)
    replicas.pass_time(20)
    apart.start(b"x", request_id="r")
    replicas.deliver(apart)
    replicas.deliver(apart)
    if has_lost:
        replicas.transport.pending.clear()
    replicas.leave(apart)
    replicas.join(0.0)

    assert replicas.seconds_until(replicas.has_ended("r"), most=600) <= 90


@pytest.mark.parametrize("skew", SKEWS)
def test_what_runs_after_the_end_runs_though_the_end_was_recorded_by_one_who_is_apart_and_gone(skew):
    told: list[str] = []

    def define(flow: Any, context: Any) -> None:
        flow.finally_(told.append)
        flow.sync_node().modify(bytes.upper)

    replicas = Replicas(define)
    attempts: list[OutgoingCall] = []

    def answer(call: OutgoingCall) -> Response:
        attempts.append(call)
        if len(attempts) == 1:
            raise CallTimeoutError("too late")
        return Response(204, {}, b"")

    replicas.transport.answer("http://target/told", answer)
    apart = replicas.join(skew)
    replicas.pass_time(20)
    apart.start(b"x", request_id="r", callback="http://target/told")
    replicas.leave(apart)
    replicas.join(0.0)

    assert len(told) == 1
    assert replicas.seconds_until(lambda: len(attempts) == 2, most=600) <= 90


@pytest.mark.parametrize("skew", SKEWS)
def test_a_lease_holds_for_one_who_has_just_come_and_is_apart(skew):
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("n").apply("slow")
        dag.node("z").modify(bytes.upper)
        dag.edge("n", "z")

    replicas = Replicas(define, lease_after=1e-6)
    right = replicas.join(0.0)
    replicas.pass_time(20)
    ran: list[bytes] = []
    double: list[Forward] = []

    def slow(call: OutgoingCall) -> Response:
        ran.append(call.body)
        if len(ran) == 1:
            replicas.clock.advance(2.0)
            right.beat()
            apart = replicas.join(skew)
            with pytest.raises(TryAgainError, match="held by another delivery"):
                apart.deliver("r", double[0].body)
        return Response(200, {}, b"done")

    replicas.transport.answer("slow", slow)
    right.start(b"x", request_id="r")
    double += replicas.transport.pending

    replicas.deliver(right)

    assert len(ran) == 1


@pytest.mark.parametrize("skew", SKEWS)
def test_each_process_says_how_far_its_clock_is_apart(skew):
    replicas = Replicas(two_nodes)
    right = replicas.join(0.0)
    replicas.pass_time(20)
    apart = replicas.join(skew)
    replicas.pass_time(20)

    assert right.clock_status().ahead == 0.0
    assert abs(apart.clock_status().ahead - skew) < 10
    assert not apart.clock_status().is_late


@pytest.mark.parametrize("skew", [*SKEWS, 0.0])
def test_one_who_only_looks_finds_how_far_its_clock_is_apart(skew):
    replicas = Replicas(two_nodes)
    replicas.join(0.0)
    replicas.pass_time(22)
    looking = replicas.join(skew)
    replicas.leave(looking)
    clock: Any = looking._parts.clock
    clock.slept = lambda seconds: replicas.pass_time(1)

    assert abs(looking.compare_clock(patience=7.0) - skew) < 10


def test_nobody_is_apart_where_nobody_speaks():
    replicas = Replicas(two_nodes)
    looking = replicas.join(0.0)
    assert looking.compare_clock(patience=7.0) == 0.0

    replicas.pass_time(1)
    replicas.clock.advance(HOUR)
    assert looking.compare_clock(patience=7.0) == 0.0


@pytest.mark.parametrize("skew", SKEWS)
def test_a_clock_that_is_set_right_is_gone_by_again(skew):
    replicas = Replicas(two_nodes)
    replicas.join(0.0)
    replicas.pass_time(20)
    apart = replicas.join(skew)
    replicas.pass_time(20)

    clock: Any = apart._parts.clock
    clock.skew = 0.0
    replicas.pass_time(30)

    assert apart.clock_status().ahead == 0.0


@pytest.mark.parametrize("skew", SKEWS)
def test_a_clock_that_jumps_does_not_draw_the_others_with_it(skew):
    replicas = Replicas(two_nodes)
    jumping, right = replicas.join(0.0), replicas.join(0.0)
    replicas.pass_time(60)

    clock: Any = jumping._parts.clock
    clock.skew = skew
    replicas.pass_time(30)

    assert right.clock_status().ahead == 0.0
    assert abs(jumping.clock_status().ahead - skew) < 10


def test_processes_that_all_stood_still_go_on_in_a_moment():
    define, ran = failing(1, attempts=2, delay=60)
    replicas = Replicas(define)
    replicas.join(0.0).start(b"x", request_id="r")
    replicas.join(0.0)
    replicas.pass_time(10)

    replicas.clock.advance(8 * HOUR)

    assert len(ran) == 1
    assert replicas.seconds_until(replicas.has_ended("r"), most=60) <= 20


def test_a_process_that_starts_after_a_night_starts_requests_by_its_own_clock():
    def define(flow: Any, context: Any) -> None:
        flow.timeout(MINUTE)
        two_nodes(flow, context)

    replicas = Replicas(define)
    first = replicas.join(0.0)
    replicas.pass_time(10)
    replicas.leave(first)
    replicas.clock.advance(8 * HOUR)

    engine = replicas.join(0.0)
    replicas.pass_time(1)
    engine.start(b"x", request_id="r")
    replicas.pass_time(5)

    assert engine.answer("r").body == b"X"
    created: Any = engine.story("r")["created"]
    assert abs(created - replicas.clock.now()) < 10


@pytest.mark.parametrize("skew", SKEWS)
def test_a_lease_of_one_who_was_apart_and_is_gone_runs_out_in_time(skew):
    ran: list[bytes] = []

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("n").apply("slow")
        dag.node("z").modify(bytes.upper)
        dag.edge("n", "z")

    replicas = Replicas(define, lease_after=1e-6)
    apart = replicas.join(skew)
    replicas.pass_time(20)

    def slow(call: OutgoingCall) -> Response:
        ran.append(call.body)
        if len(ran) == 1:
            replicas.clock.advance(2.0)
            apart.beat()
            raise Died
        return Response(200, {}, b"done")

    replicas.transport.answer("slow", slow)
    apart.start(b"x", request_id="r")
    with pytest.raises(Died):
        replicas.deliver(apart)
    replicas.leave(apart)
    replicas.join(0.0)

    assert replicas.seconds_until(replicas.has_ended("r"), most=600) <= 90
    assert len(ran) == 2


class Died(BaseException):
    """The process ended."""
