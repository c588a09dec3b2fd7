"""Stores that count their round trips, for tests that hold a number against them. A view counts into its store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from faasflow.ports import DataStore, StateStore
from faasflow.testing.wrappers import DataStoreWrapper, StateStoreWrapper

T = TypeVar("T")


class CountingStore(StateStoreWrapper):
    """A state store that counts. A transaction that writes nothing is a read; `init` and `close` are nothing."""

    def __init__(self, store: StateStore) -> None:
        super().__init__(store)
        self._tally = _Tally()

    @property
    def reads(self) -> int:
        return self._tally["read"]

    @property
    def writes(self) -> int:
        return self._tally["write"]

    def reset(self) -> None:
        """Begin again at 0."""
        self._tally.reset()

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        self._tally.add("write" if is_write else "read")
        return call()


class CountingDataStore(DataStoreWrapper):
    """A data store that counts: `get`, `set`, and the others together."""

    def __init__(self, store: DataStore) -> None:
        super().__init__(store)
        self._tally = _Tally()

    @property
    def gets(self) -> int:
        return self._tally["get"]

    @property
    def sets(self) -> int:
        return self._tally["set"]

    @property
    def others(self) -> int:
        return self._tally["other"]

    def reset(self) -> None:
        """Begin again at 0."""
        self._tally.reset()

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        self._tally.add(operation if operation in ("get", "set") else "other")
        return call()


class _Tally:
    def __init__(self) -> None:
        self._lock = Lock()
        self._counts = Counter[str]()

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def add(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def reset(self) -> None:
        with self._lock:
            self._counts.clear()
