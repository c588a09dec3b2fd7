"""Stores that fail on purpose, in the two ways a real one does: before an operation, and after it took place."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from faasflow.errors import StoreUnavailableError
from faasflow.ports import DataStore, StateStore
from faasflow.testing.wrappers import DataStoreWrapper, StateStoreWrapper

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operation:
    """A round trip that may be made to fail: its method, and its number in the store and its views, from 1."""

    name: str
    number: int
    is_write: bool


Fails = Callable[[Operation], bool]


def never(operation: Operation) -> bool:
    """Lets every operation pass."""
    return False


def sometimes(probability: float, *, seed: int) -> Fails:
    """Fails that share of all operations, the same ones again with the same seed."""
    chance, lock = random.Random(seed), Lock()

    def fails(operation: Operation) -> bool:
        with lock:
            return chance.random() < probability

    return fails


class FlakyStore(StateStoreWrapper):
    """A state store that raises `StoreUnavailableError` instead of an operation where `before` says so, and after it
    took place where `after` does."""

    def __init__(self, store: StateStore, *, before: Fails = never, after: Fails = never) -> None:
        super().__init__(store)
        self._faults = _Faults(before, after)

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        return self._faults.run(operation, call, is_write=is_write)


class FlakyDataStore(DataStoreWrapper):
    """A data store that fails like `FlakyStore`."""

    def __init__(self, store: DataStore, *, before: Fails = never, after: Fails = never) -> None:
        super().__init__(store)
        self._faults = _Faults(before, after)

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        return self._faults.run(operation, call, is_write=is_write)


class _Faults:
    def __init__(self, before: Fails, after: Fails) -> None:
        self._before = before
        self._after = after
        self._numbers = itertools.count(1)

    def run(self, name: str, call: Callable[[], T], *, is_write: bool) -> T:
        operation = Operation(name, next(self._numbers), is_write)
        if self._before(operation):
            raise StoreUnavailableError(f"Injected fault before operation {operation.number} ({name!r}).")
        result = call()
        if self._after(operation):
            raise StoreUnavailableError(f"Injected fault after operation {operation.number} ({name!r}).")
        return result
