"""The clock of a flow over HTTP: ticks, sweeps, and what the health check says of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from faasflow.engine.clock import ClockStatus
from faasflow.errors import StoreUnavailableError, TryAgainError
from faasflow.http import create_app
from faasflow.http.answers import error_response
from faasflow.http.clock import ClockReport, clock_fault, clock_skew
from faasflow.runtime import SystemClock
from faasflow.testing import FlowTester
from tests.http.conftest import Serve
from tests.http.support import Client, deliver_all, served, settings

STUCK = ClockStatus(last=None, overdue=180.0, is_late=True)
RUNS = ClockStatus(last=None, overdue=0.0, is_late=False)


def lose_all(tester: FlowTester) -> None:
    tester.transport.pending.clear()


def test_a_tick_repairs_what_was_lost_and_says_so(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    client.start(b"x", id="r1")
    lose_all(chain)
    chain.clock.sleep(120)
    reply = client.post("/flow/tick")
    deliver_all(chain, client)

    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {"fired": 1, "repaired": 1, "removed": 0, "pending": 0}
    assert client.get("/flow/r1/result").body == b"x12"


def test_a_tick_with_nothing_to_do_does_nothing(serve: Serve, chain: FlowTester) -> None:
    assert serve(chain).post("/flow/tick").json == {"fired": 0, "repaired": 0, "removed": 0, "pending": 0}


def test_a_request_may_be_called_tick(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    client.start(b"x", id="tick")
    deliver_all(chain, client)

    assert client.get("/flow/tick").json["request_id"] == "tick"
    assert client.get("/flow/tick/state").body == b"FINISHED"


def test_a_delivery_looks_after_other_requests_too(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    client.start(b"x", id="lost")
    lose_all(chain)
    chain.clock.sleep(120)
    client.start(b"y", id="other")
    deliver_all(chain, client)

    assert [client.get(f"/flow/{id}/result").body for id in ("lost", "other")] == [b"x12", b"y12"]


class Without:
    """An engine of which one thing does not work."""

    def __init__(self, engine: Any, **broken: Any) -> None:
        self._engine = engine
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        return self._broken.get(name) or getattr(self._engine, name)


@pytest.mark.parametrize("error", [StoreUnavailableError("Consul is away."), RuntimeError("a mistake")])
def test_a_sweep_that_fails_does_not_touch_the_answer(
    chain: FlowTester, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def sweep() -> None:
        raise error

    engine: Any = Without(chain.engine, sweep=sweep)
    with served(create_app(engine, settings=settings())) as client:
        client.start(b"x", id="r1")
        replies = deliver_all(chain, client)

    assert [(reply.status, reply.body) for reply in replies] == [(200, b""), (200, b"")]
    assert f"a sweep failed with {type(error).__name__}: {error}" in caplog.text


@pytest.mark.parametrize(("asked", "said"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (12.3, "13"), (20.0, "20")])
def test_who_is_to_try_again_is_told_when(asked: float, said: str) -> None:
    response = error_response(TryAgainError("It is being worked on.", retry_after=asked), "r1")

    assert (response.status_code, response.headers["Retry-After"]) == (503, said)


def test_the_health_check_tells_of_a_clock_that_stands_still(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    client.start(b"x", id="r1")
    well = client.get("/_/health")
    chain.clock.sleep(300)
    late = client.get("/_/health")
    client.post("/flow/tick")
    again = client.get("/_/health")

    assert (well.body, again.body) == (b"OK", b"OK")
    first, second = late.body.decode().splitlines()
    assert (late.status, first) == (200, "OK")
    assert second.startswith("clock: it never ticked, and something is due for 4 min. Set tick_interval above 0")


def test_the_time_of_the_last_tick_is_told() -> None:
    now = SystemClock().now()

    assert clock_fault(ClockStatus(now - 200, 170.0, True)) == "last tick 3 min ago, and something is due for 2 min."
    assert clock_fault(ClockStatus(now - 7300, 0.0, True)) == "last tick 2 h ago."
    assert clock_fault(ClockStatus(now - 5, 3.0, False)) == ""
    assert clock_fault(ClockStatus(None, 0.0, True)) == "", "nothing was ever due"


def test_a_store_that_is_away_or_slow_leaves_the_function_healthy(chain: FlowTester) -> None:
    def away() -> ClockStatus:
        raise StoreUnavailableError("Consul is away.")

    def wait() -> ClockStatus:
        go_on.wait()
        return RUNS

    go_on = threading.Event()
    for look in (away, wait):
        engine: Any = Without(chain.engine, clock_status=look)
        with served(create_app(engine, settings=settings())) as client:
            assert health(client) == [(200, b"OK"), (200, b"OK")]
    go_on.set()


def health(client: Client) -> list[tuple[int, bytes]]:
    replies = [client.get("/_/health") for _ in range(2)]
    return [(reply.status, reply.body) for reply in replies]


def test_a_slow_look_at_the_clock_is_not_started_twice_and_is_told_later() -> None:
    looks, go_on = [], threading.Event()

    def look() -> ClockStatus:
        looks.append(go_on.wait())
        return STUCK

    report = ClockReport(look)
    before = [report.line(), report.line()]
    assert looks == []
    go_on.set()

    assert before == ["", ""]
    assert report.line().startswith("clock: it never ticked")
    assert looks == [True]


def test_what_was_late_is_forgotten_when_it_runs() -> None:
    found = [STUCK, RUNS]
    report = ClockReport(lambda: found.pop(0))

    assert [bool(report.line()), bool(report.line())] == [True, False]


def test_a_process_whose_clock_is_apart_says_so() -> None:
    report = ClockReport(lambda: ClockStatus(None, 0.0, False, ahead=-7300.0))

    assert report.line().startswith("time: the clock of this process is 2 h behind the others. Set the clock")
    assert clock_skew(3.0) == ""
    assert clock_skew(90000.0) == "the clock of this process is 25 h ahead of the others."
