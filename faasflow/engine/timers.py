"""Timers: which request the clock is to look at, and when. What is to be done then, the ledger says.

Keys, beside the requests of a flow: `$timers/<due>/<request>` for the look at a request, of which each live request has
one, and `$timers/<due>/<request>/<step>` for a step that is to be forwarded. `$ended` lists ended requests, the oldest
first, for retention; `$failed` lists dead letters, the newest first; `$clock` says when the clock ran last.
"""

from __future__ import annotations

import hashlib

import msgspec

from faasflow.engine.position import Step, StepData, dump_step, load_step
from faasflow.naming import escape


class Timer(msgspec.Struct, frozen=True, omit_defaults=True):
    """At `due` (seconds since the epoch): forward `step` if there is one, else look at the request, at which the clock
    looked last at `since`. `tries` counts forwards that the queue refused."""

    request: str
    due: float
    since: float = 0.0
    step: StepData | None = None
    attempt: int = 1
    run: int = 0
    tries: int = 0

    def key(self, flow: str) -> str:
        """Where this timer stands. Keys sort by due time."""
        place = f"{_milliseconds(self.due)}/{escape(self.request)}"
        if self.step is None:
            return timers_prefix(flow) + place
        name = hashlib.sha256(load_step(self.step).key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{timers_prefix(flow)}{place}/{name}.{self.run}.{self.attempt}"


def forward_timer(request_id: str, step: Step, due: float, *, attempt: int, run: int, tries: int = 0) -> Timer:
    """A timer that forwards `step`."""
    return Timer(request_id, due, step=dump_step(step), attempt=attempt, run=run, tries=tries)


def timers_prefix(flow: str) -> str:
    """What the keys of a flow's timers start with."""
    return f"faasflow/{escape(flow)}/$timers/"


def due_of(key: str, flow: str) -> float:
    """When the timer under `key` is due."""
    return int(key.removeprefix(timers_prefix(flow)).partition("/")[0]) / 1000


def ended_prefix(flow: str) -> str:
    """What the keys that list a flow's ended requests start with."""
    return f"faasflow/{escape(flow)}/$ended/"


def ended_key(flow: str, request_id: str, ended: float) -> str:
    """Where an ended request is listed; keys sort the oldest first."""
    return f"{ended_prefix(flow)}{_milliseconds(ended)}/{escape(request_id)}"


def failed_prefix(flow: str) -> str:
    """What the keys that list a flow's dead letters start with."""
    return f"faasflow/{escape(flow)}/$failed/"


def failed_key(flow: str, request_id: str, ended: float) -> str:
    """Where a dead letter is listed; keys sort the newest first."""
    return f"{failed_prefix(flow)}{newest_first(ended)}/{escape(request_id)}"


def clock_key(flow: str) -> str:
    """Where the time of the last tick stands."""
    return f"faasflow/{escape(flow)}/$clock"


def newest_first(time: float) -> str:
    """A text for `time` that sorts before that of an earlier one."""
    return f"{10**13 - int(time * 1000):014d}"


def _milliseconds(time: float) -> str:
    return f"{max(0, int(time * 1000)):014d}"
