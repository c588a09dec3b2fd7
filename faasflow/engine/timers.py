"""Timers: which request the clock is to look at, and when. What is to be done then, the ledger says.

Keys, beside the requests of a flow: `$timers/<due>/<request>` for the look at a request, of which each live request has
one, and `$timers/<due>/<request>/<step>` for a step that is to be forwarded. `$ended` lists ended requests, the oldest
first, for retention; `$failed` lists dead letters, the newest first; `$clock` says when the clock ran last,
`$queue` how long messages wait in the queue, and `$unreadable/<family>/…` has entries of these families that cannot be
read (`aside`).
"""

from __future__ import annotations

import hashlib

import msgspec

from faasflow.engine.position import Step, StepData, dump_step, load_step
from faasflow.engine.records import Life
from faasflow.errors import StoreCorruptError
from faasflow.naming import escape


class Timer(msgspec.Struct, frozen=True, omit_defaults=True):
    """At `due` (seconds since the epoch): forward `step` if there is one, else look at the request, at which the clock
    looked last at `since`, with `recorded` outcomes. `tries` counts forwards that the queue refused. With `is_start`:
    remove what a start of the request's `incarnation` has written, unless it was recorded. `written` is when a timer
    was set that does not look, 0 if that is not known."""

    request: str
    due: float
    since: float = 0.0
    step: StepData | None = None
    attempt: int = 1
    run: int = 0
    tries: int = 0
    incarnation: str = ""
    is_start: bool = False
    recorded: int = 0
    written: float = 0.0

    @property
    def life(self) -> Life:
        """The life of the request that this timer was set in."""
        return Life(self.incarnation, self.run)

    def key(self, flow: str) -> str:
        """Where this timer stands. Keys sort by due time."""
        place = f"{_milliseconds(self.due)}/{escape(self.request)}"
        if self.is_start:
            return f"{timers_prefix(flow)}{place}/{self.incarnation}.start"
        if self.step is None:
            return timers_prefix(flow) + place
        name = hashlib.sha256(load_step(self.step).key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{timers_prefix(flow)}{place}/{name}.{self.run}.{self.attempt}"


def forward_timer(
    request_id: str, step: Step, due: float, *, written: float, attempt: int, life: Life, tries: int = 0
) -> Timer:
    """A timer that forwards `step`."""
    return Timer(
        request_id,
        due,
        step=dump_step(step),
        attempt=attempt,
        run=life.run,
        tries=tries,
        incarnation=life.incarnation,
        written=written,
    )


def look_timer(request_id: str, due: float, since: float, life: Life) -> Timer:
    """A timer that looks at a request."""
    return Timer(request_id, due, since=since, run=life.run, incarnation=life.incarnation)


def start_timer(request_id: str, due: float, incarnation: str, *, written: float) -> Timer:
    """A timer that removes what a start has written, unless it was recorded."""
    return Timer(request_id, due, incarnation=incarnation, is_start=True, written=written)


def flow_prefix(flow: str) -> str:
    """What all keys of a flow start with."""
    return f"faasflow/{escape(flow)}/"


def timers_prefix(flow: str) -> str:
    """What the keys of a flow's timers start with."""
    return f"{flow_prefix(flow)}$timers/"


def timers_from(flow: str, due: float) -> str:
    """What is sorted before the keys of all timers that are due then or later, and behind the others."""
    return f"{timers_prefix(flow)}{_milliseconds(due)}"


def due_of(key: str, flow: str) -> float:
    """When the timer under `key` is due; `StoreCorruptError` if that is no key of a timer."""
    return _time_of(key, timers_prefix(flow))


def is_look(key: str) -> bool:
    """Whether a timer looks at a request, by its key."""
    return key.partition("/$timers/")[2].count("/") == 1


def unreadable_prefix(flow: str) -> str:
    """What the keys of entries start with that cannot be read."""
    return f"{flow_prefix(flow)}$unreadable/"


def ended_prefix(flow: str) -> str:
    """What the keys that list a flow's ended requests start with."""
    return f"{flow_prefix(flow)}$ended/"


def ended_of(key: str, flow: str) -> float:
    """When the request ended that is listed under `key`; `StoreCorruptError` if that is no such key."""
    return _time_of(key, ended_prefix(flow))


def ended_key(flow: str, request_id: str, ended: float) -> str:
    """Where an ended request is listed; keys sort the oldest first."""
    return f"{ended_prefix(flow)}{_milliseconds(ended)}/{escape(request_id)}"


def failed_prefix(flow: str) -> str:
    """What the keys that list a flow's dead letters start with."""
    return f"{flow_prefix(flow)}$failed/"


def failed_key(flow: str, request_id: str, ended: float) -> str:
    """Where a dead letter is listed; keys sort the newest first."""
    return f"{failed_prefix(flow)}{newest_first(ended)}/{escape(request_id)}"


def clock_key(flow: str) -> str:
    """Where the time of the last tick stands."""
    return f"{flow_prefix(flow)}$clock"


def queue_key(flow: str) -> str:
    """Where the longest wait in the queue stands."""
    return f"{flow_prefix(flow)}$queue"


def newest_first(time: float) -> str:
    """A text for `time` that sorts before that of an earlier one."""
    return f"{10**13 - int(time * 1000):014d}"


def time_of_newest_first(text: str) -> float:
    """The time that `text` begins with, as `newest_first` wrote it; 0 if it begins with none."""
    digits = text[:14]
    return max(0.0, (10**13 - int(digits)) / 1000) if digits.isascii() and digits.isdigit() else 0.0


def _milliseconds(time: float) -> str:
    return f"{max(0, int(time * 1000)):014d}"


def _time_of(key: str, prefix: str) -> float:
    text = key.removeprefix(prefix).partition("/")[0]
    if not (text.isascii() and text.isdigit()):
        raise StoreCorruptError(f"The key {key!r} names no time.")
    return int(text) / 1000
