"""What is slow (user code, callbacks, a data store that hangs) holds up nobody but its own request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from faasflow import Retry
from faasflow.engine import beside
from faasflow.engine.beside import Lane, Pool
from faasflow.engine.engine import Engine
from faasflow.engine.parts import Parts
from faasflow.errors import StoreUnavailableError
from faasflow.ports import OutgoingCall, Response
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing import FakeClock, InProcessTransport, RequestState
from faasflow.testing.wrappers import DataStoreWrapper
from tests.support import wait_until

T = TypeVar("T")
WEEK = 7 * 86400.0


class HangingStore(DataStoreWrapper):
    """A data store that accepts and, from when it `hangs`, does not answer until it is let go, and then refuses."""

    def __init__(self) -> None:
        super().__init__(MemoryDataStore())
        self.hangs = threading.Event()
        self.let_go = threading.Event()

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        if self.hangs.is_set() and not self.let_go.is_set():
            self.let_go.wait(30)
            raise StoreUnavailableError("the data store did not answer")
        return call()


class Many:
    """An engine with a pool, whose function fails once for each request, and whose `finally_` hangs."""

    def __init__(self) -> None:
        self.clock, self.transport, self.data = FakeClock(), InProcessTransport(), HangingStore()
        self.pool, self.state = Pool(), MemoryStateStore()
        self.let_go = self.data.let_go
        self.closed = 0
        self.failed: set[str] = set()
        self.transport.answer("work", self._work)
        parts = Parts(
            flow="flow",
            define=definer(self._define),
            state=self.state,
            data=self.data,
            transport=self.transport,
            clock=self.clock,
            lease_after=float("inf"),
            workers=self.pool,
        )
        self.engine = Engine(parts)

    def _define(self, flow, context) -> None:
        if context.query.get("hangs") == "define" and threading.current_thread().name.startswith("clock"):
            self.let_go.wait(30)
        flow.retry(Retry(attempts=3, delay=1.0, jitter=0))
        if "timeout" in context.query:
            flow.timeout(50)
            flow.finally_(lambda state: self._close())
        dag = flow.dag()
        dag.node("n").apply("work")
        dag.node("end").modify(lambda data: data)
        dag.edge("n", "end")

    def _close(self) -> None:
        self.closed += 1
        self.let_go.wait(30)

    def _work(self, call: OutgoingCall) -> Response:
        id = call.body.decode()
        if id in self.failed:
            return Response(200, {}, call.body)
        self.failed.add(id)
        return Response(500, {}, b"")

    def drain(self) -> None:
        while self.transport.pending:
            message = self.transport.pending.popleft()
            self.engine.deliver(message.request_id, message.body)


@pytest.fixture
def many() -> Iterator[Many]:
    made = Many()
    yield made
    made.let_go.set()
    assert made.pool.stop(10.0)


def retried(many: Many) -> None:
    """Claim: a failed node of another request is retried when it is due, and what is lost of one is repaired."""
    many.engine.start(b"retried", request_id="retried")
    many.engine.start(b"lost", request_id="lost")
    messages = {message.request_id: message for message in many.transport.pending}
    many.transport.pending.clear()
    many.engine.deliver("retried", messages["retried"].body)
    many.clock.advance(40)
    many.engine.tick()
    wait_until(lambda: {one.request_id for one in many.transport.pending} >= {"retried", "lost"}, "both forwarded")


def test_a_finally_that_hangs_holds_up_no_other_request(many: Many) -> None:
    for number in range(10):
        many.engine.start(b"x", query="timeout=1", request_id=f"late-{number}")
    many.transport.pending.clear()
    many.clock.advance(60)
    many.engine.tick()
    wait_until(lambda: many.closed >= 4, "handlers run")

    retried(many)

    assert many.engine.state("late-0") in (RequestState.FAILED, RequestState.RUNNING)


def test_a_define_that_hangs_for_one_request_holds_up_no_other(many: Many) -> None:
    many.engine.start(b"x", query="hangs=define", request_id="hangs")
    many.transport.pending.clear()
    many.clock.advance(40)
    many.engine.tick()

    retried(many)


def test_a_data_store_that_hangs_holds_up_no_retry_and_no_repair(many: Many) -> None:
    for number in range(20):
        many.engine.start(b"x" * 100_000, request_id=f"old-{number}")
        many.engine.stop(f"old-{number}")
    many.transport.pending.clear()
    many.clock.advance(WEEK + 60)
    many.data.hangs.set()
    many.engine.tick()

    retried(many)


def test_a_removal_that_fails_for_one_request_does_not_keep_the_others(many: Many, monkeypatch) -> None:
    for number in range(3):
        many.engine.start(b"x", request_id=str(number))
        many.engine.stop(str(number))
    many.transport.pending.clear()
    many.clock.advance(WEEK + 60)

    def refuse(flow: str, request_id: str) -> MemoryDataStore:
        if request_id.startswith("0."):
            raise StoreUnavailableError("not this one")
        return MemoryDataStore()

    monkeypatch.setattr(many.data, "configure", refuse)

    assert many.engine.tick(wait=10).removed == 2
    monkeypatch.undo()
    many.clock.advance(61)
    assert many.engine.tick(wait=10).removed == 1


def test_a_tick_that_waits_says_what_it_began_and_what_goes_on(many: Many) -> None:
    many.engine.start(b"x", query="timeout=1", request_id="late")
    many.transport.pending.clear()
    many.clock.advance(60)

    tick = many.engine.tick(wait=0.05)
    assert (tick.fired, tick.pending) == (1, 1)
    many.let_go.set()

    assert many.engine.tick(wait=10).pending == 0


def test_a_claim_is_renewed_as_long_as_its_work_takes(many: Many) -> None:
    many.engine.start(b"x", query="timeout=1", request_id="late")
    many.transport.pending.clear()
    many.clock.advance(60)
    many.engine.tick()
    wait_until(lambda: many.closed == 1, "the handler runs")

    for _ in range(20):
        many.clock.advance(20)
        assert many.engine.tick().fired == 0
    many.let_go.set()
    wait_until(lambda: many.engine.tick(wait=10).pending == 0 and not many.engine.next_timer(), "it is over")

    assert many.closed == 1


def test_what_was_not_begun_at_the_end_of_a_process_is_due_for_the_next_one(many: Many) -> None:
    many.pool.stop(0)
    many.engine.start(b"x", request_id="r")
    many.clock.advance(40)
    due = many.engine.next_timer()

    many.engine.tick()

    assert many.engine.next_timer() == due


def test_jobs_that_wait_at_the_end_of_a_process_are_given_up() -> None:
    pool, let_go, begun, given_up = Pool(), threading.Event(), [], []

    def hang() -> None:
        begun.append(threading.get_ident())
        let_go.wait(30)

    for number in range(10):
        pool.submit(Lane.LOOK, hang, lambda number=number: given_up.append(number))
    wait_until(lambda: len(begun) == 4, "each thread has begun a job")
    assert not pool.stop(0)

    let_go.set()

    assert pool.stop(10.0)
    assert given_up == [4, 5, 6, 7, 8, 9]


def test_a_job_that_hangs_does_not_count_as_one_of_the_threads(monkeypatch) -> None:
    monkeypatch.setattr(beside, "_PATIENCE", 0.0)
    pool, let_go, done = Pool(), threading.Event(), threading.Event()
    for _ in range(10):
        assert pool.has_room(Lane.END)
        pool.submit(Lane.END, lambda: let_go.wait(30) and None, lambda: None)
    pool.submit(Lane.END, done.set, lambda: None)

    wait_until(lambda: pool.has_room(Lane.END) and done.is_set(), "the job behind those that hang")

    let_go.set()
    assert pool.stop(10.0)
