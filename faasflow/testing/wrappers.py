"""Stores that pass every round trip to another store and have something to say about it. What that is comes from a
subclass; views of a wrapper share what it knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from typing import Self, TypeVar

from faasflow.ports import Check, DataStore, Entry, ListPrefix, Op, Outcome, StateStore

T = TypeVar("T")


class StateStoreWrapper(ABC):
    """A `StateStore` whose every round trip goes through `_run`."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    @abstractmethod
    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        """Make the call, or do not, and whatever else is to be done about it."""

    def init(self) -> None:
        self._store.init()

    def configure(self, flow: str, request_id: str) -> Self:
        view = copy(self)
        view._store = self._store.configure(flow, request_id)
        return view

    def get(self, key: str) -> bytes:
        return self._run("get", lambda: self._store.get(key), is_write=False)

    def set(self, key: str, value: bytes) -> None:
        self._run("set", lambda: self._store.set(key, value), is_write=True)

    def update(self, key: str, old: bytes | None, new: bytes) -> bool:
        return self._run("update", lambda: self._store.update(key, old, new), is_write=True)

    def delete(self, key: str) -> None:
        self._run("delete", lambda: self._store.delete(key), is_write=True)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> dict[str, bytes]:
        return self._run("list", lambda: self._store.list(prefix, after=after, limit=limit), is_write=False)

    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[str]:
        return self._run("keys", lambda: self._store.keys(prefix, after=after, limit=limit), is_write=False)

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        return self._run("read", lambda: self._store.read(keys, prefixes), is_write=False)

    def transact(self, ops: Sequence[Op]) -> Outcome:
        is_write = not all(isinstance(op, Check | ListPrefix) for op in ops)
        return self._run("transact", lambda: self._store.transact(ops), is_write=is_write)

    def cleanup(self) -> None:
        self._run("cleanup", self._store.cleanup, is_write=True)

    def close(self) -> None:
        self._store.close()


class DataStoreWrapper(ABC):
    """A `DataStore` whose every round trip goes through `_run`."""

    def __init__(self, store: DataStore) -> None:
        self._store = store

    @abstractmethod
    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        """Make the call, or do not, and whatever else is to be done about it."""

    def init(self) -> None:
        self._store.init()

    def configure(self, flow: str, request_id: str) -> Self:
        view = copy(self)
        view._store = self._store.configure(flow, request_id)
        return view

    def get(self, key: str) -> bytes:
        return self._run("get", lambda: self._store.get(key), is_write=False)

    def set(self, key: str, value: bytes) -> None:
        self._run("set", lambda: self._store.set(key, value), is_write=True)

    def delete(self, key: str) -> None:
        self._run("delete", lambda: self._store.delete(key), is_write=True)

    def list(self, prefix: str) -> Sequence[str]:
        return self._run("list", lambda: self._store.list(prefix), is_write=False)

    def cleanup(self) -> None:
        self._run("cleanup", self._store.cleanup, is_write=True)

    def close(self) -> None:
        self._store.close()
