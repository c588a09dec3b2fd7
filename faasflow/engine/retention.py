"""Retention: requests that ended longer ago than they are kept are removed, beside the timers and so many a tick."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

from faasflow.engine.aside import Aside
from faasflow.engine.beside import Inline, Lane
from faasflow.engine.ledger import StoredRequest, Unreadable, load_id, read_requests
from faasflow.engine.parts import Parts
from faasflow.engine.round import Round
from faasflow.engine.timers import ended_of, ended_prefix
from faasflow.errors import FaasflowError, StoreCorruptError, StoreUnavailableError

logger = logging.getLogger(__name__)

_EVERY = 60.0
_PAGE = 100
_MOST = 1000
_LONGEST = 10.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0

Remove = Callable[[str, str, StoredRequest | None], int]
"""Removes the request that stands under a key of the list of ended requests; how many were."""


class Retention:
    """Removes what was kept long enough. `remove` is told the key, the id and the record of each request."""

    def __init__(self, parts: Parts, aside: Aside, remove: Remove) -> None:
        self._parts = parts
        self._aside = aside
        self._remove = remove
        self._last = float("-inf")
        self._under_way = threading.Lock()
        self._failed: dict[str, tuple[int, float]] = {}

    def begin(self, now: float, round: Round) -> None:
        """Hand to the workers what is to be removed now, if it is time for that and nothing is under way."""
        every = min(_EVERY, self._parts.retention / 2)
        if 0 <= now - self._last < every or not self._parts.workers.has_room(Lane.END):
            return
        if not self._under_way.acquire(blocking=False):
            return
        self._last = now
        round.begin()
        self._parts.workers.submit(Lane.END, lambda: self._run(round), lambda: self._end(round))

    def _run(self, round: Round) -> None:
        try:
            if not self._remove_some(round):
                self._last = float("-inf")  # the next tick goes on
        except StoreUnavailableError as error:
            if isinstance(self._parts.workers, Inline):
                raise
            logger.warning("Flow %r: ended requests were not removed: %s", self._parts.flow, error)
        finally:
            self._end(round)

    def _end(self, round: Round) -> None:
        self._under_way.release()
        round.end()

    def _remove_some(self, round: Round) -> bool:
        """Remove what is old, until there is no more of it (True), or for as long and as many as one tick should."""
        began = self._parts.time.now()
        after = ""
        for _ in range(_MOST // _PAGE):
            keys = self._parts.state.keys(ended_prefix(self._parts.flow), after=after, limit=_PAGE)
            old = [key for key in keys if self._is_old(key, began)]
            for key, request_id, request in self._read(old):
                if not 0 <= self._parts.time.now() - began < _LONGEST:
                    return False
                round.add(removed=self._try(key, request_id, request))
            if len(old) < _PAGE:
                return True
            after = keys[-1]
        return False

    def _is_old(self, key: str, now: float) -> bool:
        try:
            return ended_of(key, self._parts.flow) < now - self._parts.retention
        except StoreCorruptError:
            return True  # it is set aside

    def _read(self, keys: list[str]) -> Iterator[tuple[str, str, StoredRequest | None]]:
        """The requests under keys of the list. What cannot be read is set aside."""
        ids: dict[str, str] = {}
        entries = self._parts.state.read(keys) if keys else {}
        for key, entry in entries.items():
            try:
                ended_of(key, self._parts.flow)
                ids[key] = load_id(entry.value, key)
            except StoreCorruptError as error:
                self._aside.put(key, entry, str(error))
        requests = read_requests(self._parts.state, self._parts.flow, set(ids.values()))
        for key, id in ids.items():
            request = requests.get(id)
            if isinstance(request, Unreadable):
                self._aside.put(key, entries[key], request.why)
            else:
                yield key, id, request

    def _try(self, key: str, request_id: str, request: StoredRequest | None) -> int:
        """Remove a request. One that cannot be removed is left alone for a while, and does not keep the others."""
        tries, due = self._failed.get(key, (0, 0.0))
        now = self._parts.time.now()
        if tries and 0 <= due - now <= _LONGEST_PAUSE:
            return 0
        try:
            removed = self._remove(key, request_id, request)
        except FaasflowError as error:
            pause = min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2.0 ** min(tries, 10))
            if len(self._failed) >= _MOST:
                self._failed.clear()
            self._failed[key] = (tries + 1, now + pause)
            logger.warning(
                "Flow %r: request %r could not be removed, which is tried again in %.0f s: %s",
                self._parts.flow,
                request_id,
                pause,
                error,
            )
            return 0
        self._failed.pop(key, None)
        return removed
