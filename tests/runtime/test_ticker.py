"""The thread that runs the clock: when it ticks, and what it survives."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator

import pytest

from faasflow.errors import StoreUnavailableError
from faasflow.runtime import SystemClock
from faasflow.runtime.ticker import Ticker
from faasflow.testing import FakeClock
from tests.support import wait_until

NEVER = 3600.0


class Ticked:
    """Something with a clock: remembers its ticks, and does in each what a test says."""

    def __init__(self, *, flow: str = "flow", work: Callable[[], object] = lambda: None) -> None:
        self.flow = flow
        self.ticks: list[float] = []
        self.due: float | None = None
        self._work = work

    def tick(self) -> None:
        self.ticks.append(time.monotonic())
        self._work()

    def next_timer(self) -> float | None:
        return self.due

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.ticks) >= count, f"tick {count} of {self.flow}")


Make = Callable[..., Ticker]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes tickers that run."""
    made: list[Ticker] = []

    def start(*ticked: Ticked, interval: float = NEVER, clock: SystemClock | FakeClock | None = None) -> Ticker:
        made.append(Ticker(interval=interval, clock=clock or SystemClock()))
        for one in ticked:
            made[-1].add(one)
        made[-1].start()
        return made[-1]

    yield start
    for ticker in made:
        ticker.stop()


def test_every_engine_ticks_at_once_and_again_after_each_interval(make: Make) -> None:
    first, second = Ticked(), Ticked(flow="second")
    make(first, second, interval=0.2)
    first.wait_for(3)
    second.wait_for(3)

    assert first.ticks[1] - first.ticks[0] >= 0.18
    assert first.ticks[2] - first.ticks[1] >= 0.18


def test_an_interval_of_zero_is_no_clock(make: Make) -> None:
    idle, running = Ticked(), Ticked()
    ticker = make(idle, interval=0)
    ticker.wake(0.0)
    make(running, interval=0.01)
    running.wait_for(3)

    assert idle.ticks == []


def test_a_timer_that_is_due_before_the_interval_is_over_is_not_kept_waiting(make: Make) -> None:
    ticked = Ticked()
    ticked.due = time.time() + 0.3
    make(ticked)
    ticked.wait_for(2)

    assert 0.2 <= ticked.ticks[1] - ticked.ticks[0] < 5


def test_a_timer_that_is_written_meanwhile_wakes_the_clock(make: Make) -> None:
    ticked = Ticked()
    ticker = make(ticked)
    ticked.wait_for(1)
    ticker.wake(time.time() + NEVER / 2)
    ticker.wake(time.time() + 0.2)
    ticked.wait_for(2)

    assert 0.1 <= ticked.ticks[1] - ticked.ticks[0] < 5


def test_a_timer_that_is_written_during_a_tick_is_not_forgotten(make: Make) -> None:
    tickers: list[Ticker] = []
    ticked = Ticked(work=lambda: tickers[0].wake(time.time()) if len(ticked.ticks) == 1 else None)
    tickers.append(Ticker(interval=NEVER, clock=SystemClock()))
    tickers[0].add(ticked)
    tickers[0].start()
    ticked.wait_for(2)
    tickers[0].stop()


def test_a_timer_that_nobody_can_claim_does_not_make_the_clock_spin(make: Make) -> None:
    ticked = Ticked()
    ticked.due = 0.0
    make(ticked)
    ticked.wait_for(6)

    assert ticked.ticks[5] - ticked.ticks[0] >= 5 * 0.045


def test_a_wall_clock_that_jumps_back_does_not_stop_the_ticks(make: Make) -> None:
    clock, ticked = FakeClock(), Ticked()
    ticked.due = clock.now() + 0.01
    clock.advance(-86_400)
    make(ticked, interval=0.1, clock=clock)

    ticked.wait_for(3)


def test_a_store_that_cannot_be_reached_is_told_once_and_when_it_is_back(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_three_times() -> None:
        if len(ticked.ticks) <= 3:
            raise StoreUnavailableError("Consul is away.")

    ticked = Ticked(work=fail_three_times)
    with caplog.at_level(logging.INFO, "faasflow.runtime.ticker"):
        make(ticked, interval=0.01)
        ticked.wait_for(6)

    assert [record.getMessage() for record in caplog.records] == [
        "Flow 'flow': the clock stands still, the store cannot be reached: Consul is away.",
        "Flow 'flow': the clock runs again.",
    ]


def test_whatever_one_engine_raises_the_clock_of_the_others_goes_on(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    broken, fine = Ticked(flow="broken", work=lambda: 1 / 0), Ticked(flow="fine")
    make(broken, fine, interval=0.01)
    broken.wait_for(3)
    fine.wait_for(3)

    assert "Flow 'broken': a tick failed with ZeroDivisionError." in caplog.text


def test_an_engine_that_nobody_serves_any_more_is_let_go(make: Make) -> None:
    kept, gone = Ticked(), Ticked(flow="gone")
    make(kept, gone, interval=0.01)
    gone.wait_for(1)
    ticks = gone.ticks
    del gone
    gc.collect()
    kept.wait_for(len(kept.ticks) + 2)
    before = len(ticks)
    kept.wait_for(len(kept.ticks) + 5)

    assert len(ticks) == before


def test_an_engine_that_is_added_later_ticks_at_once(make: Make) -> None:
    first, later = Ticked(), Ticked()
    ticker = make(first)
    first.wait_for(1)
    ticker.add(later)

    later.wait_for(1)


def test_nothing_ticks_after_the_end(make: Make) -> None:
    ticked, other = Ticked(), Ticked()
    ticker = make(ticked, interval=0.01)
    ticked.wait_for(1)
    ticker.stop()
    ticker.stop()
    before = len(ticked.ticks)
    make(other, interval=0.01)
    other.wait_for(5)

    assert len(ticked.ticks) == before
