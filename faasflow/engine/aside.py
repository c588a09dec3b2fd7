"""What cannot be read is set aside: a timer or an entry of a list that this version does not understand, or whose
request it does not.

Such an entry moves from its own family to `$unreadable/<family>/…`, value and all, so that it is not met by every tick.
It comes back by itself where it can be read, such as after an upgrade: each process tries that when it starts, and once
a minute. Nothing is thrown away but by an operator.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from faasflow.engine.ledger import Unreadable, index_prefix, load_id, read_requests
from faasflow.engine.parts import Parts
from faasflow.engine.position import load_step
from faasflow.engine.records import load
from faasflow.engine.removal import Removal
from faasflow.engine.timers import (
    Timer,
    due_of,
    ended_of,
    ended_prefix,
    failed_prefix,
    flow_prefix,
    timers_prefix,
    unreadable_prefix,
)
from faasflow.errors import MessageError, RequestConflictError, RequestNotFoundError, StoreCorruptError
from faasflow.ports import Check, Delete, Entry, Put

logger = logging.getLogger(__name__)

_EVERY = 60.0
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Faulty:
    """An entry that cannot be read, by its key below the flow, with the request that it names, if it names one."""

    key: str
    request_id: str
    why: str


def load_timer(entry: Entry, key: str, flow: str) -> Timer:
    """A timer as it stands under `key`; `StoreCorruptError` if it is none."""
    due_of(key, flow)
    timer = load(entry.value, Timer, key)
    if timer.step is not None:
        try:
            load_step(timer.step)
        except MessageError as error:
            raise StoreCorruptError(f"The record {key!r} names no step: {error}") from error
    return timer


class Aside:
    """The entries of one flow that cannot be read."""

    def __init__(self, parts: Parts) -> None:
        self._flow, self._state = parts.flow, parts.state
        self._removal = Removal(parts)
        self._prefix = flow_prefix(parts.flow)
        self._aside = unreadable_prefix(parts.flow)
        self._tried = float("-inf")
        self._after = ""

    def put(self, key: str, entry: Entry, why: str) -> bool:
        """Set an entry aside if it is as it was read; whether it is now."""
        moved = self._move(key, entry, self._aside + key.removeprefix(self._prefix))
        if moved:
            logger.error(
                "Flow %r: %s It is set aside, and tried again each minute and after an upgrade; "
                "GET /flow/unreadable lists what is, POST /flow/unreadable?remove=NAME removes it.",
                self._flow,
                why,
            )
        return moved

    def restore(self, now: float) -> int:
        """Put back what can be read now, once a minute, a page at a time; how many."""
        if 0 <= now - self._tried < _EVERY:
            return 0
        self._tried = now
        return self.restore_now()

    def restore_now(self) -> int:
        """Put back what can be read now; how many of the next page."""
        keys = self._state.keys(self._aside, after=self._after, limit=_PAGE)
        self._after = keys[-1] if len(keys) == _PAGE else ""
        entries = self._state.read(keys) if keys else {}
        restored = 0
        for key, entry in entries.items():
            if self._fault(key, entry.value) is None:
                restored += self._move(key, entry, self._original(key))
        if restored:
            logger.info("Flow %r: %d of the entries that were set aside can be read again.", self._flow, restored)
        return restored

    def faulty(self, *, limit: int = _PAGE) -> list[Faulty]:
        """What cannot be read: what was set aside, and what the lists of requests and dead letters show as such among
        their first entries."""
        found = {}
        for prefix in (self._aside, index_prefix(self._flow), failed_prefix(self._flow)):
            for key, value in self._state.list(prefix, limit=limit).items():
                if fault := self._fault(key, value):
                    relative = key.removeprefix(self._prefix)
                    found[fault.request_id or relative] = Faulty(relative, fault.request_id, fault.why)
        return list(found.values())[:limit]

    def remove(self, name: str) -> None:
        """Remove a request whose record cannot be read, with all that is stored of it, or by its key an entry that
        names none. `RequestConflictError` for what can be read, `RequestNotFoundError` where nothing is."""
        if name.startswith("$"):
            self._remove_entry(name)
            return
        request = read_requests(self._state, self._flow, [name]).get(name)
        if request is None:
            raise RequestNotFoundError(f"Nothing is stored of request {name!r}.")
        if not isinstance(request, Unreadable):
            raise RequestConflictError(f"Request {name!r} can be read.", hint="Only what cannot be read is removed so.")
        if not self._removal.remove_unreadable(name, request.version, list(self._leading_to(name))):
            raise RequestConflictError(f"Request {name!r} was changed by somebody else just now.")

    def _remove_entry(self, name: str) -> None:
        key = self._prefix + name
        entry = self._state.read([key]).get(key)
        family = name.partition("/")[0] + "/"
        if entry is None or family not in [prefix.removeprefix(self._prefix) for prefix in self._families]:
            raise RequestNotFoundError(f"Nothing that was set aside is stored under {name!r}.")
        if self._fault(key, entry.value) is None:
            raise RequestConflictError(f"The entry {name!r} can be read.", hint="Only what cannot be read is removed.")
        self._state.transact([Check(key, entry.version), Delete(key)])

    @property
    def _families(self) -> list[str]:
        prefixes = (timers_prefix, index_prefix, failed_prefix, ended_prefix, unreadable_prefix)
        return [prefix(self._flow) for prefix in prefixes]

    def _leading_to(self, request_id: str) -> Iterator[str]:
        """The keys of every list that name a request."""
        for prefix in self._families:
            after = ""
            while page := self._state.list(prefix, after=after, limit=_PAGE):
                for key, value in page.items():
                    try:
                        if _id_in(self._original(key), value, self._flow) == request_id:
                            yield key
                    except StoreCorruptError:
                        continue
                after = next(reversed(page))

    def _original(self, key: str) -> str:
        """The key of an entry in its own family, whether or not it was set aside."""
        return self._prefix + key.removeprefix(self._aside) if key.startswith(self._aside) else key

    def _fault(self, key: str, value: bytes) -> Faulty | None:
        """What is wrong with an entry of a family, whether or not it was set aside."""
        key = self._original(key)
        try:
            id = _id_in(key, value, self._flow)
        except StoreCorruptError as error:
            return Faulty(key, "", str(error))
        request = read_requests(self._state, self._flow, [id]).get(id)
        return Faulty(key, id, request.why) if isinstance(request, Unreadable) else None

    def _move(self, key: str, entry: Entry, to: str) -> bool:
        return self._state.transact([Check(key, entry.version), Delete(key), Put(to, entry.value)]).committed


def _id_in(key: str, value: bytes, flow: str) -> str:
    if key.startswith(timers_prefix(flow)):
        return load_timer(Entry(value, None), key, flow).request
    if key.startswith(ended_prefix(flow)):
        ended_of(key, flow)
    return load_id(value, key)
