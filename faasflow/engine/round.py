"""What one tick of the clock did, counted by whoever does it."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(slots=True)
class Tick:
    """What a tick did: timers that were due, steps that were forwarded, requests that were removed. `pending` is what
    it began that has not ended yet."""

    fired: int = 0
    repaired: int = 0
    removed: int = 0
    pending: int = 0


class Round:
    """The counts of a tick. Thread-safe."""

    def __init__(self) -> None:
        self._tick = Tick()
        self._changed = threading.Condition()

    def begin(self) -> None:
        """One job more is under way."""
        with self._changed:
            self._tick.pending += 1

    def end(self) -> None:
        """One job less is under way."""
        with self._changed:
            self._tick.pending -= 1
            self._changed.notify_all()

    def add(self, *, fired: int = 0, repaired: int = 0, removed: int = 0) -> None:
        """Count what was done."""
        with self._changed:
            self._tick.fired += fired
            self._tick.repaired += repaired
            self._tick.removed += removed

    def wait(self, seconds: float) -> Tick:
        """What was done once all jobs have ended, or after `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._tick.pending == 0, timeout=seconds)
            tick = self._tick
            return Tick(tick.fired, tick.repaired, tick.removed, tick.pending)
