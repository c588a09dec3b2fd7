"""The requests of a flow, and those that failed for good, page by page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from faasflow.engine.closing import CALLBACK
from faasflow.engine.ledger import index_prefix, read_requests
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.parts import Parts
from faasflow.engine.records import RequestRecord
from faasflow.engine.timers import failed_prefix, newest_first

_MOST_SEEN = 1000
_SPARSE_PART = 200
# What any store reads in one go. A list need not be of one moment, which a busy store may have to be asked twice for.
_READ_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. `next` is where the following part begins, `None` at the end."""

    rows: list[dict[str, object]]
    next: str | None


class Lists:
    """Reads the lists of one flow."""

    def __init__(self, parts: Parts) -> None:
        self._flow = parts.flow
        self._state = parts.state

    def requests(
        self,
        *,
        limit: int = 100,
        after: str = "",
        states: Collection[RequestState] = (),
        since: float = 0.0,
        before: float = float("inf"),
    ) -> Page:
        """The newest requests, for JSON: those in one of `states` (of any, if none is given) that were created at
        `since` or later, and earlier than `before`, in seconds since the epoch. `after` is the `next` of the page
        before, or the `cursor` of the last row seen. FAILED alone is ordered by when they failed.

        At most 1000 requests are looked at: a page may have fewer rows than `limit`, and others behind it."""

        def fits(record: RequestRecord) -> bool:
            return since <= record.created < before and (not states or record.state in states)

        if set(states) == {RequestState.FAILED}:
            prefix = failed_prefix(self._flow)
        else:
            prefix = index_prefix(self._flow)
            after = max(after, newest_first(before)) if before != float("inf") else after
        rows, follows = self._listed(prefix, limit, after, fits, since=since, is_sparse=bool(states))
        return Page([{"request_id": id, **_row(record), "cursor": cursor} for id, record, cursor in rows], follows)

    def dead_letters(self, *, limit: int = 100, after: str = "") -> list[dict[str, object]]:
        """The requests that failed for good, the last first, and those whose callback was given up, for JSON; `after`
        as in `requests`."""
        rows, _ = self._listed(failed_prefix(self._flow), limit, after, lambda record: True)
        return [{"request_id": id, **_row(record), **_reason(record), "cursor": cursor} for id, record, cursor in rows]

    def _listed(
        self,
        prefix: str,
        limit: int,
        after: str,
        fits: Callable[[RequestRecord], bool],
        *,
        since: float = 0.0,
        is_sparse: bool = False,
    ) -> tuple[list[tuple[str, RequestRecord, str]], str | None]:
        """The requests of a list that fit, with where each stands in it, and behind which cursor others may follow. The
        list is that of times of `since` or later; where few of it may fit, it `is_sparse`."""
        found: list[tuple[str, RequestRecord, str]] = []
        seen, last = 0, newest_first(since)
        for cursor, id, record in self._walk(prefix, after, max(limit + 1, _SPARSE_PART if is_sparse else 0)):
            if cursor[: len(last)] > last:
                break
            if len(found) == limit or seen == _MOST_SEEN:
                return found, after
            seen, after = seen + 1, cursor
            if record is not None and fits(record):
                found.append((id, record, cursor))
        return found, None

    def _walk(self, prefix: str, after: str, size: int) -> Iterator[tuple[str, str, RequestRecord | None]]:
        """What stands in a list, with its cursors, read `size` at a time."""
        while True:
            listed = list(self._state.list(prefix, after=prefix + after if after else "", limit=size).items())
            for start in range(0, len(listed), _READ_TOGETHER):
                part = [(key.removeprefix(prefix), id.decode()) for key, id in listed[start : start + _READ_TOGETHER]]
                requests = read_requests(self._state, self._flow, (id for _, id in part))
                yield from ((cursor, id, requests[id].record if id in requests else None) for cursor, id in part)
            if len(listed) < size:
                return
            after = listed[-1][0].removeprefix(prefix)


def _row(record: RequestRecord) -> dict[str, object]:
    failure = record.failure
    return {
        "state": record.state,
        "created": record.created,
        "ended": record.ended,
        "node": failure.node if failure else None,
        "error_type": failure.error_type if failure else None,
    }


def _reason(record: RequestRecord) -> dict[str, object]:
    if record.failure is None:
        return {
            "node": CALLBACK,
            "operation": "",
            "error_type": "",
            "message": "The callback was given up.",
            "attempt": 0,
        }
    failure = record.failure
    return {
        "node": failure.node,
        "operation": failure.operation,
        "error_type": failure.error_type,
        "message": failure.message,
        "attempt": failure.attempt,
    }
