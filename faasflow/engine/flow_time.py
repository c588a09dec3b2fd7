"""The time of a flow: its processes agree on one, though the clocks of their machines may be hours apart.

Whoever lets the clock of the flow tick says in the store what time it is (`$clock`), every few seconds. A process whose
own clock is far from that follows the others: from then on it reads, records and compares their time. Of two that both
go by their own clock and are apart, the one that has been heard for longer stays, which is counted in signs of life and
not in seconds. Clocks that are `APART` by less count as equal.

A process that starts cannot tell at once whether its clock is ahead or the last sign is old. Until it has heard
somebody, or nobody for a moment, it `is_sure` of nothing: no timer fires and no time is over. Nobody hangs on being
heard, so a store that is away for a while changes nothing.
"""

from __future__ import annotations

import threading

import msgspec

from faasflow.engine.records import dump, load
from faasflow.engine.timers import clock_key
from faasflow.errors import StoreCorruptError
from faasflow.ports import Clock, StateStore, Version

APART = 10.0
"""Seconds by which clocks may differ; a time that is further in the future was written by a clock that is ahead."""

LATE = 120.0
"""A clock that did not tick for so many seconds does not run."""

_EVERY = 5.0
_QUIET = 12.0
_FOLLOWER_SPEAKS = 30.0
_PAUSE = 0.5


class Sign(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sign of life: when it was given in the time of the flow, by which process, how many that has given before. One
    that `follows` goes by what it has heard."""

    ended: float
    by: str = ""
    beats: int = 0
    follows: bool = False


def is_believed(time: float, now: float) -> bool:
    """Whether a time that is recorded can have been then."""
    return time <= now + APART


class FlowTime:
    """The time of one flow, as one process knows it. A process without a `name` goes by its own clock. Thread-safe."""

    def __init__(self, state: StateStore, flow: str, clock: Clock, name: str) -> None:
        self._state = state
        self._key = clock_key(flow)
        self._clock = clock
        self._name = name
        self._offset = 0.0
        self._beats = 0
        self._looked: float | None = None
        self._changed = 0.0
        self._version: Version | None = None
        self._leader = Sign(0.0)
        self._heard = 0.0
        self._since: float | None = None
        self._under_way = threading.Lock()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.now() + self._offset

    def own(self, time: float) -> float:
        """What this process's clock says at a time of the flow."""
        return time - self._offset

    def begins(self, time: float) -> float:
        """When what is due then can be begun, by this process's clock."""
        return max(self.own(time), self._since + _QUIET) if self._since is not None else self.own(time)

    @property
    def ahead(self) -> float:
        """By how many seconds this process's clock is ahead of the time of the flow; negative if it is behind."""
        return -self._offset

    @property
    def is_sure(self) -> bool:
        """Whether what is over by this time is over for the others too."""
        return self._since is None

    @property
    def has_looked(self) -> bool:
        """Whether this process has ever looked at what the others say, or goes by its own clock anyway."""
        return self._looked is not None or not self._name

    def agree(self) -> None:
        """Look at what the others say, and give a sign of life, unless that was done a moment ago."""
        if not self._under_way.acquire(blocking=False):
            return
        try:
            own = self._clock.now()
            if self._looked is None or not 0 <= own - self._looked < _EVERY:
                self._listen(own)
                self._speak(own)
                self._looked = own
        finally:
            self._under_way.release()

    def compare(self, *, patience: float) -> float:
        """By how many seconds this process's clock is ahead of those that speak, for one that has not followed them:
        negative if it is behind, 0 if it is right or nobody speaks. Hearing them takes up to `patience` seconds."""
        first = self.last()
        if first is None:
            return 0.0
        distance = self._clock.now() - first.ended
        until = self._clock.now() + patience
        while distance > APART and self._clock.now() < until:
            self._clock.sleep(_PAUSE)
            sign = self.last()
            if sign is not None and sign.ended != first.ended:
                return _apart(self._clock.now() - sign.ended)
        return min(0.0, _apart(distance))

    def last(self) -> Sign | None:
        """The last sign of life of anybody; `None` if there was none."""
        entry = self._state.read([self._key]).get(self._key)
        return load(entry.value, Sign, "$clock") if entry is not None else None

    def _listen(self, own: float) -> None:
        gap = own - self._looked if self._looked is not None else float("inf")
        has_jumped = not 0 <= gap <= LATE  # or this process is new, or stood still
        self._beats = 0 if has_jumped else self._beats
        entry = self._state.read([self._key]).get(self._key) if self._name else None
        if entry is not None and (has_jumped or entry.version != self._version):
            self._version, self._changed = entry.version, own
            self._take(entry.value, own, gap, is_known=not has_jumped or not self.is_sure)
        if self._since is not None and not 0 <= own - self._since < _QUIET:
            self._go_by_own()

    def _take(self, value: bytes, own: float, gap: float, *, is_known: bool) -> None:
        try:
            sign = load(value, Sign, "$clock")
        except StoreCorruptError:  # it is written again
            return
        if sign.by == self._name:
            return
        if not is_known:
            self._meet(sign.ended - own - self._offset, own)
        elif not sign.follows:
            self._hear(sign, own, max(0.0, gap))

    def _meet(self, distance: float, own: float) -> None:
        """Take note of a sign that may be old."""
        if -LATE <= distance <= APART:
            return
        self._since = own
        self._offset += max(0.0, distance)  # it cannot be earlier now

    def _hear(self, sign: Sign, own: float, gap: float) -> None:
        """Take note of a sign that was given since this process looked last, `gap` seconds ago."""
        distance = sign.ended - own
        if -APART - gap <= distance <= APART:
            if self._offset or self._since is not None:
                self._go_by_own()
        elif self._is_led_by(sign, own):
            is_steady = self._since is None and abs(distance - self._offset) <= APART + gap
            # The sign that was on its way for the shortest time says best what time it is.
            self._offset = max(self._offset, distance) if self._offset and is_steady else distance
            self._leader, self._heard, self._since = sign, own, None

    def _is_led_by(self, sign: Sign, own: float) -> bool:
        if self._since is not None:
            return True
        if not self._offset:
            return (sign.beats, sign.by) > (self._beats, self._name)
        is_quiet = not 0 <= own - self._heard < _QUIET
        return sign.by == self._leader.by or sign.beats > self._leader.beats or is_quiet

    def _go_by_own(self) -> None:
        self._offset, self._since, self._beats = 0.0, None, 0

    def _speak(self, own: float) -> None:
        """Those who follow, or are not sure, speak only where nobody else does."""
        follows = bool(self._offset)
        if self._since is not None or (follows and 0 <= own - self._changed < _FOLLOWER_SPEAKS):
            return
        self._beats += bool(self._name)
        self._state.set(self._key, dump(Sign(self.now(), self._name, self._beats, follows)))


def _apart(seconds: float) -> float:
    return seconds if abs(seconds) > APART else 0.0
