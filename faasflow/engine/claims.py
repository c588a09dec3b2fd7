"""Timers that this process acts on. A claim moves the timer ahead (a compare-and-set, so of many clocks one has it, and
one that dies in between leaves it to the next), and is renewed as long as the work takes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import msgspec

from faasflow.engine.parts import Parts
from faasflow.engine.records import dump
from faasflow.engine.timers import Timer
from faasflow.ports import Check, Delete, Entry, Op, Put

_LENGTH = 60.0
_LONGEST = 900.0


@dataclass(slots=True, eq=False)
class Claim:
    """A timer, and as what it stands in the store; `is_over` once that is another's business."""

    timer: Timer
    held: Timer
    begun: float
    is_over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Claims:
    """The claims of this process on the timers of one flow."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._open: set[Claim] = set()
        self._lock = threading.Lock()

    def take(self, key: str, entry: Entry, timer: Timer, now: float) -> Claim | None:
        """Claim a timer that stands under `key`; `None` if it is not as it was read."""
        held = msgspec.structs.replace(timer, due=now + _LENGTH, written=now)
        if not self._move(key, entry, [held]):
            return None
        claim = Claim(timer, held, now)
        with self._lock:
            self._open.add(claim)
        return claim

    def drop(self, key: str, entry: Entry) -> bool:
        """Remove a timer that is for nothing any more, if it is as it was read."""
        return self._move(key, entry, [])

    def end(self, claim: Claim, following: Timer | None) -> None:
        """Replace a claim by the timer that comes after it, if one does."""
        flow = self._parts.flow
        ops: list[Op] = []
        with claim.lock:
            self.forget(claim)
            if following is not None:
                ops.append(Put(following.key(flow), dump(following)))
                self._parts.wake(following.due)
            if following is None or following.key(flow) != claim.held.key(flow):  # both may be due in one millisecond
                ops.append(Delete(claim.held.key(flow)))
            self._parts.state.transact(ops)

    def forget(self, claim: Claim) -> None:
        """Leave a claim to run out."""
        claim.is_over = True
        with self._lock:
            self._open.discard(claim)

    def renew(self, now: float) -> None:
        """Renew the claims that would run out soon, unless the work takes so long that somebody else may try it."""
        with self._lock:
            claims = list(self._open)
        for claim in claims:
            if claim.held.due - now < _LENGTH / 2 and now - claim.begun < _LONGEST:
                self._renew(claim, now)

    def _renew(self, claim: Claim, now: float) -> None:
        if not claim.lock.acquire(blocking=False):
            return  # it is just ending
        try:
            if not claim.is_over:
                held = msgspec.structs.replace(claim.timer, due=now + _LENGTH, written=now)
                flow = self._parts.flow
                key = claim.held.key(flow)
                if held.key(flow) != key:
                    self._parts.state.transact([Put(held.key(flow), dump(held)), Delete(key)])
                claim.held = held
        finally:
            claim.lock.release()

    def _move(self, key: str, entry: Entry, to: list[Timer]) -> bool:
        ops: list[Op] = [Check(key, entry.version), Delete(key)]
        ops += [Put(timer.key(self._parts.flow), dump(timer)) for timer in to]
        return self._parts.state.transact(ops).committed
