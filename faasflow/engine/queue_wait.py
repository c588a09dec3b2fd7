"""How long the queue takes at this moment, so that what only waits is not taken for lost.

A message carries when it was put and by which engine. Each engine measures the wait of the messages that it put itself,
at their first delivery: the clocks of other machines, and messages that the queue brings again, say nothing about the
queue. A long wait is shared through the store, because those who repair may not be those who are delivered to. How old
a shared wait is, each reader judges by its own clock, from the moment it first saw it.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import msgspec

from faasflow.engine.message import Message
from faasflow.engine.records import dump, load
from faasflow.engine.timers import queue_key
from faasflow.errors import StoreCorruptError
from faasflow.ports import Clock, StateStore

_MEASURED = 50
_DELIVERED = 2000
_LONGEST = 600.0
"""A longer wait counts as one of so many seconds: it may come of a clock that jumped."""


class _Shared(msgspec.Struct, frozen=True):
    wait: float


@dataclass(frozen=True, slots=True)
class _Wait:
    """A wait of so many seconds, known since `seen`."""

    seconds: float
    seen: float

    def counts(self, now: float, period: float) -> bool:
        """Whether the queue may still take so long."""
        return 0 <= now - self.seen < max(period, self.seconds)


class QueueWait:
    """The longest of the last waits in the queue of one flow, as this engine knows them; a single outlier is left out.
    Each `period` is in seconds: how long a short wait counts; a long one counts as long as it was.
    Thread-safe."""

    def __init__(self, state: StateStore, flow: str, clock: Clock, sender: str) -> None:
        self._state = state
        self._key = queue_key(flow)
        self._clock = clock
        self._sender = sender
        self._waits: deque[_Wait] = deque(maxlen=_MEASURED)
        self._delivered: dict[int, None] = {}
        self._shared: tuple[object, _Wait] | None = None
        self._written = float("-inf")
        self._lock = threading.Lock()

    def measure(self, message: Message, data: bytes, period: float) -> None:
        """Take note of the delivery of `message`, whose text is `data`; share the longest wait if it is long."""
        if not self._sender or message.sender != self._sender:
            return
        now = self._clock.now()
        with self._lock:
            if self._is_repeated(data):
                return
            self._waits.append(_Wait(min(max(0.0, now - message.put), _LONGEST), now))
            longest = self._measured(now, period)
            if longest <= period / 2 or 0 <= now - self._written < period / 3:
                return
            self._written = now
        self._state.set(self._key, dump(_Shared(round(longest, 3))))

    def longest(self, period: float, *, read: bool = False) -> float:
        """The longest wait that is known; what others measured is looked up again with `read`."""
        now = self._clock.now()
        if read:
            self._read(now)
        with self._lock:
            shared = self._shared[1] if self._shared is not None else None
            known = shared.seconds if shared is not None and shared.counts(now, period) else 0.0
            return max(known, self._measured(now, period))

    def _measured(self, now: float, period: float) -> float:
        longest = sorted((one.seconds for one in self._waits if one.counts(now, period)), reverse=True)
        return min(longest[:2], default=0.0)  # a single message that was held back says little of the others

    def _is_repeated(self, data: bytes) -> bool:
        mark = hash(data)
        if mark in self._delivered:
            return True
        self._delivered[mark] = None
        if len(self._delivered) > _DELIVERED:
            del self._delivered[next(iter(self._delivered))]
        return False

    def _read(self, now: float) -> None:
        entry = self._state.read([self._key]).get(self._key)
        with self._lock:
            if entry is None:
                self._shared = None
            elif self._shared is None or self._shared[0] != entry.version:
                self._shared = entry.version, _Wait(min(_wait_in(entry.value, self._key), _LONGEST), now)


def _wait_in(value: bytes, key: str) -> float:
    try:
        return load(value, _Shared, key).wait
    except StoreCorruptError:  # it is written again as long as the queue is slow
        return 0.0
