"""The thread that runs the clock of the flows of a process: it has no timers of its own, and looks at theirs.

Any process of a flow may run its clock, several do so side by side, and none has to: what is due stays due.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from faasflow.errors import StoreUnavailableError

if TYPE_CHECKING:
    from faasflow.ports import Clock

logger = logging.getLogger(__name__)

_SHORTEST_PAUSE = 0.05
_JITTER = 0.1
_PATIENCE = 5.0


class Ticking(Protocol):
    """What has a clock: an engine."""

    @property
    def flow(self) -> str:
        """Whose clock it is."""

    def tick(self) -> object:
        """Do what is due."""

    def next_timer(self) -> float | None:
        """When the next timer is due, in seconds since the epoch."""


class Ticker:
    """Ticks every `interval` seconds, a little earlier or later at random so that replicas do not move in step, and
    when a timer is due before that. An interval of 0 is never. It knows engines only as long as somebody else does."""

    def __init__(self, *, interval: float, clock: Clock) -> None:
        self._interval = interval
        self._clock = clock
        self._engines: WeakSet[Ticking] = WeakSet()
        self._failing: set[str] = set()
        self._changed = threading.Condition()
        self._due: float | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)

    def add(self, engine: Ticking) -> None:
        """Tick `engine` as well, from now on."""
        with self._changed:
            self._engines.add(engine)
            self._hasten(self._clock.now())

    def wake(self, due: float) -> None:
        """Be there when a timer is due, in seconds since the epoch."""
        with self._changed:
            self._hasten(due)

    def start(self) -> None:
        """Tick in a thread, unless the interval is 0."""
        if self._interval:
            self._thread.start()

    def stop(self) -> None:
        """Tick no more, and wait a little for a tick under way. Calling it again, or before `start`, is fine."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while not self._ended:
            began = time.monotonic()
            self._tick_all()
            # However much is due, half of the time is left to others.
            spent = min(time.monotonic() - began, self._interval)
            self._sleep(at_least=max(_SHORTEST_PAUSE, spent))

    def _tick_all(self) -> None:
        with self._changed:
            self._due = None
            engines = [*self._engines]
        for engine in engines:
            self._tick(engine)

    def _tick(self, engine: Ticking) -> None:
        if self._ended:
            return
        try:
            engine.tick()
            due = engine.next_timer()
        except StoreUnavailableError as error:
            self._report(engine.flow, error)
        except Exception as error:  # a tick runs code of handlers; the clock outlives whatever comes out of it
            logger.exception("Flow %r: a tick failed with %s.", engine.flow, type(error).__name__)
        else:
            self._recover(engine.flow)
            if due is not None:
                self.wake(due)

    def _report(self, flow: str, error: StoreUnavailableError) -> None:
        if flow not in self._failing:
            self._failing.add(flow)
            logger.warning("Flow %r: the clock stands still, the store cannot be reached: %s", flow, error)

    def _recover(self, flow: str) -> None:
        if flow in self._failing:
            self._failing.remove(flow)
            logger.info("Flow %r: the clock runs again.", flow)

    def _hasten(self, due: float) -> None:
        if self._due is None or due < self._due:
            self._due = due
            self._changed.notify()

    def _sleep(self, *, at_least: float) -> None:
        """Until the interval is over, or a timer is due; never shorter than `at_least`, whatever is due."""
        now = time.monotonic()
        earliest = now + at_least
        latest = max(earliest, now + self._interval * random.uniform(1 - _JITTER, 1 + _JITTER))
        with self._changed:
            while not self._ended and (left := self._wait_until(earliest, latest) - time.monotonic()) > 0:
                self._changed.wait(left)

    def _wait_until(self, earliest: float, latest: float) -> float:
        """When to tick next, in monotonic time. Wall time is looked at anew each time: it may jump."""
        if self._due is None:
            return latest
        return min(latest, max(earliest, time.monotonic() + self._due - self._clock.now()))
