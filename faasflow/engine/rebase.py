"""Timers that a clock has set that was ahead: nobody waits longer for them than was meant.

The processes of a flow agree on its time (`flow_time`), but what one has written whose clock was a day ahead, before it
was heard or while it was alone, stays. A look is never further away than the longest time between two looks. Any other
timer says when it was set: one that was set in the future is due after what was meant, counted from now.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from faasflow.engine.aside import load_timer
from faasflow.engine.flow_time import APART, is_believed
from faasflow.engine.parts import Parts
from faasflow.engine.records import dump
from faasflow.engine.timers import is_look, timers_from, timers_prefix
from faasflow.errors import StoreCorruptError
from faasflow.ports import Check, Delete, Entry, Op, Put

logger = logging.getLogger(__name__)

_EVERY = 10.0
_PAGE = 100
_PAGES = 10


class Rebase:
    """Sees to timers of one flow that are too far in the future; `longest` is the longest time between two looks."""

    def __init__(self, parts: Parts, *, longest: float) -> None:
        self._parts = parts
        self._longest = longest
        self._last = float("-inf")
        self._after = ""

    def run(self, now: float) -> None:
        """Look through some of the timers that are not due for long, every few seconds."""
        if 0 <= now - self._last < _EVERY:
            return
        self._last = now
        moved = 0
        for _ in range(_PAGES):
            first = timers_from(self._parts.flow, now + self._longest + APART)
            keys = self._parts.state.keys(timers_prefix(self._parts.flow), after=max(first, self._after), limit=_PAGE)
            moved += self._see_to(keys, now)
            self._after = keys[-1] if len(keys) == _PAGE else ""
            if not self._after:
                break
        if moved:
            logger.warning(
                "Flow %r: %d timers were set by a clock that is ahead; see faasflow doctor.", self._parts.flow, moved
            )

    def _see_to(self, keys: Sequence[str], now: float) -> int:
        entries = self._parts.state.read(keys) if keys else {}
        return sum(self._move(key, entry, now) for key, entry in entries.items())

    def _move(self, key: str, entry: Entry, now: float) -> bool:
        try:
            timer = load_timer(entry, key, self._parts.flow)
        except StoreCorruptError:  # it is set aside when it is due
            return False
        if is_look(key):
            sooner = msgspec.structs.replace(timer, due=now, since=min(timer.since, now))
        elif not is_believed(timer.written, now):
            sooner = msgspec.structs.replace(timer, due=now + timer.due - timer.written, written=now)
        else:
            return False
        ops: list[Op] = [Check(key, entry.version), Delete(key), Put(sooner.key(self._parts.flow), dump(sooner))]
        return self._parts.state.transact(ops).committed
