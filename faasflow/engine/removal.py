"""Removal of ended requests: everything that is stored of one incarnation, and nothing of a later one with the same id.

A removal first marks the request's record, which only one can do while the record is as it was read. From then on the
request counts as unknown: no delivery, retry or late write of it is accepted. Whatever the removal deletes afterwards,
it deletes only while the marked record is there, and the record itself goes last. A new request with the same id can
start only after that, so several removals at once, or one that was cut off, do no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import islice

import msgspec

from faasflow.engine.ledger import INCARNATION, REQUEST, Ledger, StoredRequest, index_key
from faasflow.engine.parts import Parts
from faasflow.engine.records import IncarnationRecord, RequestRecord, dump, load
from faasflow.engine.timers import ended_key, failed_key
from faasflow.errors import StoreError
from faasflow.naming import request_prefix
from faasflow.ports import Check, Delete, Op, Put, Version

logger = logging.getLogger(__name__)

_DELETED_AT_ONCE = 60  # older Consul servers take 64 operations in a transaction


class Removal:
    """Removes requests of one flow. Thread-safe."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def remove(self, request_id: str, stored: StoredRequest) -> bool:
        """Remove an ended request; False if it has changed since it was read."""
        incarnation = stored.record.incarnation
        if not stored.record.is_removed:
            if not self._mark(request_id, stored):
                return False
            marked = self._parts.ledger(request_id).stored()
            if marked is None or marked.record.incarnation != incarnation:
                return True  # somebody else has finished it
            stored = marked
        self._clear(request_id, incarnation, stored.version, self._lists(request_id, stored.record))
        return True

    def remove_unreadable(self, request_id: str, version: Version, leading: Iterable[str]) -> bool:
        """Remove a request whose record cannot be read, with the keys of the lists that lead to it; False if it has
        changed since it was read."""
        key = request_prefix(self._parts.flow, request_id) + INCARNATION
        entry = self._parts.state.read([key]).get(key)
        incarnation = load(entry.value, IncarnationRecord, key).incarnation if entry is not None else ""
        if not self._commit(request_id, version, [self._refusal(request_id, incarnation)]):
            return False
        return self._clear(request_id, incarnation, version, leading)

    def finish(self, request_id: str) -> bool:
        """Finish the removal of a request, if one has begun; whether the id is free now."""
        stored = self._parts.ledger(request_id).stored()
        if stored is None:
            return True
        return stored.record.is_removed and self.remove(request_id, stored)

    def discard(self, request_id: str, incarnation: str, ledger: Ledger) -> None:
        """Remove what a start has written, if no request was recorded. If that fails, the clock does it later."""
        try:
            if ledger.cancel_start():
                self.remove_start(request_id, incarnation)
                ledger.forget_start()
        except StoreError as error:
            logger.warning("What a failed start of request %r has stored is removed later: %s", request_id, error)

    def remove_start(self, request_id: str, incarnation: str) -> None:
        """Remove what a start has written that will never be recorded."""
        self._parts.values(request_id, incarnation).cleanup()
        self._delete(request_id, None, self._parts.state.keys(request_prefix(self._parts.flow, request_id)))

    def _mark(self, request_id: str, stored: StoredRequest) -> bool:
        key = request_prefix(self._parts.flow, request_id) + REQUEST
        marked = msgspec.structs.replace(stored.record, is_removed=True)
        ops: list[Op] = [Put(key, dump(marked)), self._refusal(request_id, stored.record.incarnation)]
        return self._commit(request_id, stored.version, ops)

    def _refusal(self, request_id: str, incarnation: str) -> Op:
        """Refuses every later write of those who still work for the request: they require the version of before."""
        record = IncarnationRecord(incarnation, is_removed=True)
        return Put(request_prefix(self._parts.flow, request_id) + INCARNATION, dump(record))

    def _clear(self, request_id: str, incarnation: str, version: Version, leading: Iterable[str]) -> bool:
        """Delete all of a request while its record is at `version`, the record itself last."""
        self._parts.values(request_id, incarnation).cleanup()
        prefix = request_prefix(self._parts.flow, request_id)
        last = [prefix + REQUEST, prefix + INCARNATION]
        records = (key for key in self._parts.state.keys(prefix) if key not in last)
        if not self._delete(request_id, version, records):
            return False
        return self._commit(request_id, version, [Delete(key) for key in (*last, *leading)])

    def _delete(self, request_id: str, version: Version | None, keys: Iterable[str]) -> bool:
        left = iter(keys)
        while some := list(islice(left, _DELETED_AT_ONCE)):
            if not self._commit(request_id, version, [Delete(key) for key in some]):
                return False
        return True

    def _lists(self, request_id: str, record: RequestRecord) -> list[str]:
        """Where an ended request is listed."""
        flow, ended = self._parts.flow, record.ended or 0.0
        return [
            index_key(flow, request_id, record.created),
            failed_key(flow, request_id, ended),
            ended_key(flow, request_id, ended),
        ]

    def _commit(self, request_id: str, version: Version | None, ops: list[Op]) -> bool:
        """Carry out `ops` while the request's record is at `version`."""
        key = request_prefix(self._parts.flow, request_id) + REQUEST
        return self._parts.state.transact([Check(key, version), *ops]).committed
