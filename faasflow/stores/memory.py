"""Stores that live in this process and end with it: for tests, and for flows that may be forgotten."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Generic, TypeVar

from faasflow.errors import KeyNotFoundError
from faasflow.ports import Check, Create, Delete, Entry, ListPrefix, Op, Outcome, Put
from faasflow.stores.base import BaseDataStore, BaseStateStore, check_ops, conflicts_of, end_of_prefix

V = TypeVar("V")


class MemoryStateStore(BaseStateStore):
    """A state store in memory. Closing it keeps what it holds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries = _Table[Entry]()
        self._last_version = 0

    def init(self) -> None:
        pass

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        with self._lock:
            return self._entries.starting_with(prefixes) | self._entries.only(keys)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> dict[str, bytes]:
        with self._lock:
            keys = self._entries.keys(prefix, after=after, limit=limit)
            return {key: entry.value for key, entry in self._entries.only(keys).items()}

    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[str]:
        with self._lock:
            return self._entries.keys(prefix, after=after, limit=limit)

    def transact(self, ops: Sequence[Op]) -> Outcome:
        check_ops(ops)
        with self._lock:
            guarded = self._entries.only(op.key for op in ops if isinstance(op, Check | Create))
            conflicts = conflicts_of(ops, {key: entry.version for key, entry in guarded.items()})
            if conflicts:
                return Outcome(conflicts)
            for op in ops:
                self._write(op)
            return Outcome(entries=self._entries.starting_with(op.prefix for op in ops if isinstance(op, ListPrefix)))

    def clear(self, prefix: str) -> None:
        with self._lock:
            self._entries.clear(prefix)

    def close(self) -> None:
        pass

    def _write(self, op: Op) -> None:
        match op:
            case Create(key, value) | Put(key, value):
                # One counter for all keys: a key that is deleted and made again never gets an old version.
                self._last_version += 1
                self._entries.put(key, Entry(value, self._last_version))
            case Delete(key):
                self._entries.remove(key)


class MemoryDataStore(BaseDataStore):
    """A data store in memory. Closing it keeps what it holds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values = _Table[bytes]()

    def init(self) -> None:
        pass

    def get(self, key: str) -> bytes:
        with self._lock:
            value = self._values.get(key)
        if value is None:
            raise KeyNotFoundError(key)
        return value

    def set(self, key: str, value: bytes) -> None:
        with self._lock:
            self._values.put(key, value)

    def delete(self, key: str) -> None:
        with self._lock:
            self._values.remove(key)

    def list(self, prefix: str) -> Sequence[str]:
        with self._lock:
            return self._values.keys(prefix)

    def clear(self, prefix: str) -> None:
        with self._lock:
            self._values.clear(prefix)

    def close(self) -> None:
        pass


class _Table(Generic[V]):
    """A dict whose keys can be listed by prefix, in the order of their UTF-8 bytes, which is that of code points."""

    def __init__(self) -> None:
        self._values: dict[str, V] = {}
        self._order: list[str] = []

    def get(self, key: str) -> V | None:
        return self._values.get(key)

    def put(self, key: str, value: V) -> None:
        if key not in self._values:
            insort(self._order, key)
        self._values[key] = value

    def remove(self, key: str) -> None:
        if key in self._values:
            del self._values[key]
            del self._order[bisect_left(self._order, key)]

    def clear(self, prefix: str) -> None:
        start, end = self._bounds(prefix)
        for key in self._order[start:end]:
            del self._values[key]
        del self._order[start:end]

    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        start, end = self._bounds(prefix)
        start = bisect_right(self._order, after, start, end)
        return self._order[start : end if limit is None else min(end, start + limit)]

    def starting_with(self, prefixes: Iterable[str]) -> dict[str, V]:
        keys = {key for prefix in prefixes for key in self.keys(prefix)}
        return {key: self._values[key] for key in sorted(keys)}

    def only(self, keys: Iterable[str]) -> dict[str, V]:
        return {key: self._values[key] for key in keys if key in self._values}

    def _bounds(self, prefix: str) -> tuple[int, int]:
        behind = end_of_prefix(prefix)
        end = len(self._order) if behind is None else bisect_left(self._order, behind)
        return bisect_left(self._order, prefix), end
