"""The last net: what cannot be worked on, for a reason that nobody foresaw, fails its request in the end.

Code of a handler, functions, stores and queues fail in ways that have an answer of their own. What is left is a defect
of this package, or a record that cannot be read or is not there any more. That may pass, so the delivery is repeated,
but not for ever: nobody would know of it. Key, relative to the request: `trouble/<run>/<step>`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from faasflow.engine.closing import Closing
from faasflow.engine.flow_time import is_believed
from faasflow.engine.ledger import StoredRequest
from faasflow.engine.parts import Parts
from faasflow.engine.records import dump, load
from faasflow.engine.settlement import Settlement
from faasflow.engine.work import NotRecordedError, Work
from faasflow.errors import StoreCorruptError, StuckError, TryAgainError

LOOKS = 10
"""So many looks of the clock in a row may fail at one request; the waits between them come to about four minutes."""

_DELIVERIES = 5
_SHORTEST = 60.0
_SHORTEST_MISSING = 600.0
_FIRST_WAIT, _LONGEST_WAIT = 5.0, 60.0

logger = logging.getLogger(__name__)


class _Trouble(msgspec.Struct, frozen=True):
    """How many deliveries of a step have failed, the first one at `since` and the last one with `error`."""

    count: int = 0
    since: float = 0.0
    error: str = ""


class LastNet:
    """Counts deliveries that failed, for one flow. Holds no state of its own."""

    def __init__(self, parts: Parts, settlement: Settlement, closing: Closing) -> None:
        self._parts = parts
        self._settlement = settlement
        self._closing = closing

    def catch(self, work: Work, error: Exception) -> None:
        """Fail the request if this error has come too often, and for a minute at least; else `TryAgainError`. A message
        of a request that has ended, or goes on without it, ends here."""
        key = f"trouble/{work.message.life.run}/{work.step.key}"
        snapshot = work.ledger.read([key])
        request = snapshot.request
        if request is None or request.record.life != work.message.life:
            return None
        if request.record.state.has_ended:
            return self._closing.run_again(work, request.record)
        trouble = self._counted(key, snapshot.entries, error)
        missing = isinstance(error, NotRecordedError)
        lasted = self._parts.time.now() - trouble.since
        if trouble.count >= _DELIVERIES and lasted >= (_SHORTEST_MISSING if missing else _SHORTEST):
            return self._settlement.end(work, request, stuck(f"Step {str(work.step)!r}", trouble.count, error))
        work.ledger.set(key, dump(trouble))
        if missing:
            raise error
        logger.error("%s cannot be worked on.", work.step, exc_info=error)
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(trouble.count - 1, 10))
        raise TryAgainError(f"{str(work.step)!r} cannot be worked on: {trouble.error}", retry_after=wait) from error

    def end(self, work: Work, request: StoredRequest, error: Exception) -> None:
        """Fail a request at which the clock has failed to look."""
        self._settlement.end(work, request, stuck("The request", LOOKS, error))

    def _counted(self, key: str, entries: Mapping[str, bytes], error: Exception) -> _Trouble:
        before = _Trouble()
        try:
            before = load(entries[key], _Trouble, key) if key in entries else before
        except StoreCorruptError:
            logger.warning("The record %r is begun anew.", key)
        now = self._parts.time.now()
        since = before.since if before.count and is_believed(before.since, now) else now
        return _Trouble(before.count + 1, since, _text(error))


def stuck(what: str, count: int, error: Exception) -> StuckError:
    """What a request fails with that cannot be worked on."""
    return StuckError(
        f"{what} could not be worked on, {count} times: {_text(error)}",
        hint="It is a defect of faasflow, or a damaged record: see the log. Once that is mended, retry the request.",
    )


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:2000].encode("utf-8", "backslashreplace").decode()
