"""The latest lines that functions wrote, kept in memory, to be read once or followed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

KEPT = 2_000
BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one function's process, and when it was read; `number` counts up per function."""

    number: int
    instance: str
    timestamp: datetime
    text: str


class LogRing:
    """The latest lines of one function, at most `kept`. Thread-safe."""

    def __init__(self, *, kept: int = KEPT) -> None:
        self._lines: deque[LogLine] = deque(maxlen=kept)
        self._count = 0
        self._changed = threading.Condition()

    def append(self, text: str, *, instance: str) -> None:
        with self._changed:
            self._count += 1
            self._lines.append(LogLine(self._count, instance, datetime.now(UTC), text))
            self._changed.notify_all()

    @property
    def last(self) -> int:
        """The number of the latest line; 0 if there was none yet."""
        return self._count

    def lines(self, *, tail: int | None = None, since: datetime = BEGINNING) -> Sequence[LogLine]:
        """The lines not older than `since`, only the last `tail` of them."""
        with self._changed:
            found = [line for line in self._lines if line.timestamp >= since]
        return found if tail is None or tail < 0 else found[len(found) - min(tail, len(found)) :]

    def after(self, number: int, *, timeout: float) -> Sequence[LogLine]:
        """The lines behind `number`; waits up to `timeout` seconds for the first."""
        with self._changed:
            self._changed.wait_for(lambda: self._count > number, timeout)
            return [line for line in self._lines if line.number > number]
