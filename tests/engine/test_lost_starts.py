"""A node that ends its process, each time that it is started, fails; one whose process is ended by others does not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from faasflow import Retry
from faasflow.engine.leases import LOST_STARTS
from faasflow.engine.records import Failure
from faasflow.errors import StoreUnavailableError, TryAgainError
from faasflow.testing import RequestState, Response
from faasflow.testing.faults import FlakyStore
from tests.engine.test_leases import Fleet

Define = Callable[[Any, Any], None]


class Dead(KeyboardInterrupt):
    """The process is gone: what user code cannot raise otherwise, as the engine takes that for its failure."""


class Deaths:
    """Code of a handler that ends its process the first `count` times, and what it was started with."""

    def __init__(self, *, count: int = 1000) -> None:
        self.starts: list[bytes] = []
        self.left = count

    def __call__(self, data: bytes) -> bytes:
        self.starts.append(data)
        if self.left:
            self.left -= 1
            raise Dead
        return data + b" done"


def one(code: Callable[[bytes], bytes], **options: Any) -> Define:
    def define(flow, context):
        dag = flow.dag()
        dag.node("a", **options).modify(code)
        dag.node("b").modify(lambda data: data)
        dag.edge("a", "b")

    return define


def live(fleet: Fleet, *, id: str = "r", seconds: int = 3600) -> None:
    """Let the queue deliver what it has and the clock tick, each in a process that may end."""
    until = fleet.clock.now() + seconds
    while fleet.clock.now() < until and not fleet.second.state(id).has_ended:
        for _ in range(len(fleet.transport.pending)):
            message = fleet.transport.pending.popleft()
            try:
                fleet.second.deliver(message.request_id, message.body)
            except (Dead, TryAgainError, StoreUnavailableError):
                fleet.transport.pending.append(message)
        with contextlib.suppress(StoreUnavailableError):
            fleet.second.tick()
        fleet.second.beat()
        fleet.clock.advance(5)


def failure_of(fleet: Fleet, id: str = "r") -> str:
    failure = fleet.second.answer(id).failure
    return f"{failure.node}: {failure.error_type}: {failure.message}" if failure else ""


def test_a_node_that_ends_its_process_each_time_fails_by_name() -> None:
    deaths = Deaths()
    fleet = Fleet(one(deaths))
    fleet.first.start(b"x", request_id="r")

    live(fleet)

    assert failure_of(fleet) == (
        f"a: LostStartError: Node 'a' was started {LOST_STARTS} times, and each time its process ended before the "
        "outcome was recorded."
    )
    assert [row["request_id"] for row in fleet.second.dead_letters()] == ["r"]
    assert len(deaths.starts) < 3 * LOST_STARTS


def test_a_node_that_ends_its_process_on_a_queue_that_repeats_nothing_fails_too() -> None:
    deaths = Deaths()
    fleet = Fleet(one(deaths))
    fleet.first.start(b"x", request_id="r")

    while not fleet.second.state("r").has_ended and fleet.clock.now() < 1_800_000_000:
        while fleet.transport.pending:
            message = fleet.transport.pending.popleft()
            with contextlib.suppress(Dead, TryAgainError):
                fleet.second.deliver(message.request_id, message.body)
        fleet.clock.advance(5)
        fleet.second.tick()

    assert "LostStartError" in failure_of(fleet)
    assert len(deaths.starts) == LOST_STARTS + 1  # of the first nothing is known


def test_what_the_queue_says_was_delivered_before_is_known_at_its_second_start() -> None:
    deaths = Deaths()
    fleet = Fleet(one(deaths))
    fleet.first.start(b"x", request_id="r")
    message = fleet.transport.pending.popleft()

    for number in range(LOST_STARTS + 1):
        with pytest.raises(Dead):
            fleet.second.deliver("r", message.body, is_again=number > 0)
        fleet.clock.advance(11)
    fleet.second.deliver("r", message.body, is_again=True)

    assert fleet.second.state("r") is RequestState.FAILED


def test_a_node_whose_process_was_ended_a_few_times_is_run() -> None:
    deaths = Deaths(count=LOST_STARTS)
    fleet = Fleet(one(deaths))
    fleet.first.start(b"x", request_id="r")

    live(fleet)

    assert fleet.second.answer("r").body == b"x done"


def test_a_node_that_ends_its_process_is_tried_again_as_its_policy_says() -> None:
    deaths = Deaths()
    fleet = Fleet(one(deaths, retry=Retry(attempts=3, delay=60, jitter=0)))
    fleet.first.start(b"x", request_id="r")

    live(fleet, seconds=7200)

    node = next(row for row in fleet.second.story("r")["nodes"] if row["path"] == "a")  # type: ignore[attr-defined]
    assert [attempt["error_type"] for attempt in node["attempts"]] == ["LostStartError"] * 2
    assert node["failure"].error_type == "LostStartError"
    assert len(deaths.starts) < 3 * LOST_STARTS + 4


def test_what_follows_a_node_that_ends_its_process_goes_on_where_the_flow_tolerates_it() -> None:
    fleet = Fleet(one(Deaths(), on_error="continue"))
    fleet.first.start(b"x", request_id="r")

    live(fleet)

    assert fleet.second.state("r") is RequestState.FINISHED


def test_on_failure_is_told_of_a_node_that_ends_its_process() -> None:
    told: list[str] = []

    def define(flow, context):
        one(Deaths())(flow, context)
        flow.on_failure(lambda error: told.append(f"{error.node} {error.error_type}"))

    fleet = Fleet(define)
    fleet.first.start(b"x", request_id="r")

    live(fleet)

    assert told == ["a LostStartError"]


@pytest.mark.parametrize("what", ["foreach", "join", "aggregator", "forwarder"])
def test_all_code_of_a_handler_may_end_its_process(what: str) -> None:
    deaths = Deaths()

    def dies(data: Any) -> Any:
        return deaths(b"")

    def define(flow, context):
        dag = flow.dag()
        dag.node("start").modify(lambda data: data)
        if what in ("foreach", "join"):
            of, aggregator = (dies, len) if what == "foreach" else (lambda data: {"x": data}, dies)
            dag.foreach_branch("end", of, aggregator=aggregator).node("each").modify(lambda data: data)
        else:
            dag.node("end", aggregator=dies if what == "aggregator" else None).modify(lambda data: data)
        dag.edge("start", "end", forwarder=dies if what == "forwarder" else None)

    fleet = Fleet(define)
    fleet.first.start(b"x", request_id="r")

    live(fleet)

    assert failure_of(fleet).startswith("end: LostStartError")


def test_a_store_that_is_away_when_an_outcome_is_to_be_recorded_is_no_lost_start() -> None:
    fails_until = [float("-inf")]
    starts: list[bytes] = []

    def code(data: bytes) -> bytes:
        starts.append(data)
        if len(starts) <= 2 * LOST_STARTS:
            fails_until[0] = fleet.clock.now() + 60  # longer than any lease
        return data + b" done"

    def is_away(operation: object) -> bool:
        return fleet.clock.now() < fails_until[0]

    fleet = Fleet(one(code), around=lambda state: FlakyStore(state, before=is_away))
    fleet.first.start(b"x", request_id="r")
    deliver = fleet.second.deliver
    fleet.second.deliver = lambda id, body: deliver(id, body, is_again=True)  # type: ignore[method-assign]
    ended = False
    while not ended:
        with contextlib.suppress(StoreUnavailableError):
            live(fleet, seconds=5)
            ended = fleet.second.state("r").has_ended
        fleet.clock.advance(5)
        fleet.second.beat()

    assert fleet.second.answer("r").body == b"x done"
    assert len(starts) == 2 * LOST_STARTS + 1


def test_a_retry_of_a_failed_request_counts_anew() -> None:
    deaths = Deaths(count=LOST_STARTS + 3)
    fleet = Fleet(one(deaths))
    fleet.first.start(b"x", request_id="r")
    live(fleet)
    failed = fleet.second.state("r")

    fleet.second.retry("r")
    live(fleet)

    assert failed is RequestState.FAILED
    assert fleet.second.answer("r").body == b"x done"


@pytest.mark.parametrize("handler", ["on_failure", "finally_"])
def test_what_runs_after_the_end_and_ends_its_process_each_time_fails_too(handler: str) -> None:
    starts: list[object] = []

    def dies(reason: object) -> None:
        starts.append(reason)
        raise Dead

    def fails(data: bytes) -> bytes:
        raise ValueError("no")

    def define(flow, context):
        one(fails)(flow, context)
        getattr(flow, handler)(dies)

    fleet = Fleet(define)
    fleet.first.start(b"x", request_id="r", callback="http://target/told")
    fleet.transport.answer("http://target/told", lambda call: Response(204, {}, b""))
    closed: dict[str, object] = {}
    while "$callback" not in closed:
        live(fleet, seconds=5)
        fleet.clock.advance(5)
        with contextlib.suppress(Dead):
            fleet.second.tick()
        while fleet.transport.pending:
            message = fleet.transport.pending.popleft()
            with contextlib.suppress(Dead, TryAgainError):
                fleet.second.deliver(message.request_id, message.body)
        rows: Any = fleet.second.story("r")["nodes"]
        closed = {row["path"]: row["failure"] for row in rows if row["ended"] and row["path"].startswith("$")}

    lost = closed["$on_failure" if handler == "on_failure" else "$finally"]
    assert isinstance(lost, Failure)
    assert lost.error_type == "LostStartError"
    assert closed["$callback"] is None
    assert len(starts) <= LOST_STARTS + 2
