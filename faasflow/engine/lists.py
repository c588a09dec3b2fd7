"""The requests of a flow, and those that failed for good, page by page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from faasflow.engine.closing import CALLBACK
from faasflow.engine.ledger import StoredRequest, Unreadable, index_prefix, load_id, read_requests
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.parts import Parts
from faasflow.engine.records import RequestRecord
from faasflow.engine.timers import failed_prefix, flow_prefix, newest_first, time_of_newest_first
from faasflow.errors import StoreCorruptError

_MOST_SEEN = 1000
_SPARSE_PART = 200
# What any store reads in one go. A list need not be of one moment, which a busy store may have to be asked twice for.
_READ_TOGETHER = 64


UNREADABLE = "UNREADABLE"
"""What a list says instead of the state of a request whose record cannot be read."""


@dataclass(frozen=True, slots=True)
class _Row:
    """What a list has under a cursor: the request's record, why it cannot be read, or neither, if it is gone."""

    cursor: str
    id: str
    record: RequestRecord | None = None
    fault: str = ""


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
        before, or the `cursor` of the last row seen. FAILED alone is ordered by when they failed. A request whose
        record cannot be read is UNREADABLE, and is listed where no state is asked for.

        At most 1000 requests are looked at: a page may have fewer rows than `limit`, and others behind it."""

        def fits(record: RequestRecord) -> bool:
            return since <= record.created < before and (not states or record.state in states)

        if set(states) == {RequestState.FAILED}:
            prefix = failed_prefix(self._flow)
        else:
            prefix = index_prefix(self._flow)
            after = max(after, newest_first(before)) if before != float("inf") else after
        rows, follows = self._listed(
            prefix, limit, after, fits, since=since, is_sparse=bool(states), with_faults=not states
        )
        return Page([{**_shown(row), "cursor": row.cursor} for row in rows], follows)

    def dead_letters(self, *, limit: int = 100, after: str = "") -> list[dict[str, object]]:
        """The requests that failed for good, the last first, and those whose callback was given up, for JSON; `after`
        as in `requests`."""
        rows, _ = self._listed(failed_prefix(self._flow), limit, after, lambda record: True, with_faults=True)
        return [{**_shown(row), **_reason(row), "cursor": row.cursor} for row in rows]

    def _listed(
        self,
        prefix: str,
        limit: int,
        after: str,
        fits: Callable[[RequestRecord], bool],
        *,
        since: float = 0.0,
        is_sparse: bool = False,
        with_faults: bool,
    ) -> tuple[list[_Row], str | None]:
        """The requests of a list that fit, with where each stands in it, and behind which cursor others may follow. The
        list is that of times of `since` or later; where few of it may fit, it `is_sparse`."""
        found: list[_Row] = []
        seen, last = 0, newest_first(since)
        for row in self._walk(prefix, after, max(limit + 1, _SPARSE_PART if is_sparse else 0)):
            if row.cursor[: len(last)] > last:
                break
            if len(found) == limit or seen == _MOST_SEEN:
                return found, after
            seen, after = seen + 1, row.cursor
            if fits(row.record) if row.record is not None else row.fault and with_faults:
                found.append(row)
        return found, None

    def _walk(self, prefix: str, after: str, size: int) -> Iterator[_Row]:
        """What stands in a list, with its cursors, read `size` at a time."""
        while True:
            listed = list(self._state.list(prefix, after=prefix + after if after else "", limit=size).items())
            for start in range(0, len(listed), _READ_TOGETHER):
                yield from self._rows(prefix, listed[start : start + _READ_TOGETHER])
            if len(listed) < size:
                return
            after = listed[-1][0].removeprefix(prefix)

    def _rows(self, prefix: str, listed: list[tuple[str, bytes]]) -> Iterator[_Row]:
        ids, faults = {}, {}
        for key, value in listed:
            try:
                ids[key] = load_id(value, key)
            except StoreCorruptError as error:
                faults[key] = str(error)
        requests = read_requests(self._state, self._flow, ids.values())
        for key, _ in listed:
            cursor = key.removeprefix(prefix)
            if key in faults:  # by its key an operator can remove it
                yield _Row(cursor, key.removeprefix(flow_prefix(self._flow)), fault=faults[key])
                continue
            match requests.get(ids[key]):
                case StoredRequest(record) if not record.is_removed:
                    yield _Row(cursor, ids[key], record)
                case Unreadable(why=why):
                    yield _Row(cursor, ids[key], fault=why)
                case _:
                    yield _Row(cursor, ids[key])


def _shown(row: _Row) -> dict[str, object]:
    record = row.record
    if record is None:
        created = time_of_newest_first(row.cursor)
        return {
            "request_id": row.id,
            "state": UNREADABLE,
            "created": created,
            "ended": None,
            "node": None,
            "error_type": StoreCorruptError.__name__,
        }
    failure = record.failure
    return {
        "request_id": row.id,
        "state": record.state,
        "created": record.created,
        "ended": record.ended,
        "node": failure.node if failure else None,
        "error_type": failure.error_type if failure else None,
    }


def _reason(row: _Row) -> dict[str, object]:
    failure = row.record.failure if row.record is not None else None
    if failure is not None:
        return {
            "node": failure.node,
            "operation": failure.operation,
            "error_type": failure.error_type,
            "message": failure.message,
            "attempt": failure.attempt,
        }
    if row.record is None:
        return {
            "node": "",
            "operation": "",
            "error_type": StoreCorruptError.__name__,
            "message": row.fault,
            "attempt": 0,
        }
    return {
        "node": CALLBACK,
        "operation": "",
        "error_type": "",
        "message": "The callback was given up.",
        "attempt": 0,
    }
