"""The workers of a simulation: engines on one thread, each in the middle of something or free, and the time that passes
for them.

While somebody waits (for a function, for a store) others go on, and whoever does not stand still renews its leases.
What the engine leaves to threads is done here, in an order that is the same each time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from faasflow.engine.engine import Engine
from faasflow.engine.flow_time import FlowTime
from faasflow.engine.leases import Leases, Running
from faasflow.engine.parts import Parts
from faasflow.errors import ForwardError, StoreUnavailableError, TryAgainError
from faasflow.testing.clock import FakeClock
from tests.battery.history import Actor, History

AGAIN = (TryAgainError, StoreUnavailableError, ForwardError)
BEAT = 5.0
"""Seconds of virtual time between two looks at the leases; they last four times as long."""
_MOST_BEATS = 40
_OWNER = "owner "


class Died(BaseException):
    """A worker's process ends here."""


class Renewed(Leases):
    """Leases without threads, whose owners have `names` that are the same each time. `late` has what is to be done for
    the steps that are over their deadline."""

    def __init__(self, parts: Parts, names: Iterator[str]) -> None:
        super().__init__(parts.time, after=parts.lease_after, duration=parts.lease)
        self._names = names
        self.late: list[Callable[[], None]] = []

    def _fresh(self, running: Running, lasts: float) -> bytes:
        if not running.owner.startswith(_OWNER):
            running.owner = next(self._names)
        return super()._fresh(running, lasts)

    def _wake(self) -> None:
        """Who renews is told by the simulation."""

    def _care(self, running: Running) -> None:
        expire = running.expire
        if expire is None:
            return super()._care(running)
        running.expire = _nothing  # a thread is started with it; what it stands for is done by the simulation
        try:
            super()._care(running)
        finally:
            if running.expire is None:
                self.late.append(expire)
            else:
                running.expire = expire
        return None


def _nothing() -> None:
    pass


@dataclass(slots=True, eq=False)
class AtWork:
    """What a worker is in the middle of, and who acts in the history. One who `is_frozen` stands still, leases and
    all; `is_aside` is the part of a worker that renews its leases."""

    worker: int
    request: str
    by: Actor = None
    step: str = ""
    is_frozen: bool = False
    is_aside: bool = False


class _Apart:
    """The wall clock of one worker, so many seconds ahead."""

    def __init__(self, clock: FakeClock, skew: float) -> None:
        self._clock = clock
        self._skew = skew

    def now(self) -> float:
        return self._clock.now() + self._skew

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)


class Workers:
    """Workers on the same stores, one for each of `skews`, by which its clock is ahead. `busy` has who is at work: each
    waits for the one behind it."""

    def __init__(
        self,
        parts: Parts,
        clock: FakeClock,
        history: History,
        skews: Sequence[float],
        pick: Callable[[Sequence[int]], int],
    ) -> None:
        self._parts = parts
        self._clock = clock
        self._history = history
        self._pick = pick
        self._names = (f"{_OWNER}{number}" for number in itertools.count(1))
        self.elapsed = 0.0
        self.busy: list[AtWork] = []
        self._leases: dict[int, Renewed] = {}
        self._incarnations = itertools.count(1)
        self._engines: dict[int, Engine] = {}
        self._skews = skews
        self._times: dict[int, FlowTime] = {}
        self._hired = itertools.count(1)
        for worker in range(len(skews)):
            self._hire(worker)

    @property
    def free(self) -> list[int]:
        """The workers that have nothing to do."""
        taken = {one.worker for one in self.busy}
        return [worker for worker in self._engines if worker not in taken]

    @property
    def met(self) -> list[str]:
        """The requests that are worked on; an empty one stands for a tick."""
        return list(dict.fromkeys(one.request for one in self.busy))

    def work(self, request: str, act: Callable[[Engine], Any], event: AbstractContextManager[None]) -> str:
        """Let a free worker do something; the name of what it raised, if it is to be repeated."""
        free = self.free
        if not free:
            return "busy"
        one = AtWork(self._pick(free), request)
        self.busy.append(one)
        try:
            self._times[one.worker].agree()  # as its ticks do
            with event:
                one.by, one.step = self._history.actor, self._history.step
                act(self._engines[one.worker])
        except Died:
            self._hire(one.worker)
            return "died"
        except AGAIN as error:
            return type(error).__name__
        finally:
            self.busy.pop()
        return ""

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass for all."""
        part = max(BEAT, seconds / _MOST_BEATS)
        while self.busy and seconds > part:
            self._advance(part)
            seconds -= part
        self._advance(seconds)

    def seconds_until(self, due: float) -> float:
        """For how many seconds nobody acts on a timer that is due then."""
        begins = (time.begins(due) - self._skews[worker] for worker, time in self._times.items())
        return max(0.0, min(begins) - self._clock.now())

    def _hire(self, worker: int) -> None:
        clock = _Apart(self._clock, self._skews[worker])
        parts = replace(self._parts, clock=clock, sender=f"worker {next(self._hired)}")
        self._times[worker] = parts.time
        leases = self._leases[worker] = Renewed(parts, self._names)
        object.__setattr__(parts, "leases", leases)
        self._engines[worker] = Engine(parts, make_incarnation=lambda: str(next(self._incarnations)))

    def _advance(self, seconds: float) -> None:
        self._clock.advance(seconds)
        self.elapsed += seconds
        for one in list(self.busy):
            # Who renews its leases already does so once at a time.
            if not one.is_frozen and not any(other.is_aside and other.worker == one.worker for other in self.busy):
                self._renew(one)

    def _renew(self, one: AtWork) -> None:
        leases = self._leases[one.worker]
        self.busy.append(replace(one, is_aside=True))
        try:
            with self._history.going_on(one.by, one.step):
                self._engines[one.worker].beat()
                while leases.late:
                    leases.late.pop(0)()
        finally:
            self.busy.pop()
