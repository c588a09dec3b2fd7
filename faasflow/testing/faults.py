"""Stores and a transport that fail on purpose, in the two ways real ones do: before an operation, and after it took
place. Messages also get lost, and come twice.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from faasflow.errors import CallTimeoutError, FaasflowError, ForwardError, StoreUnavailableError, UnreachableError
from faasflow.ports import DataStore, Forward, OutgoingCall, Response, StateStore, Transport
from faasflow.testing.wrappers import DataStoreWrapper, StateStoreWrapper

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operation:
    """What may be made to fail: the method, and its number in the store and its views, or in the transport, from 1.
    A round trip to a store is one operation, and so is a call, and each of the messages that are forwarded."""

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


class FlakyTransport:
    """A transport that fails where it is told to, and hands messages on one at a time. A call raises
    `UnreachableError` instead of being made where `before` says so, and `CallTimeoutError` after it was made where
    `after` does; a forward raises `ForwardError` instead of taking a message or after taking it, and takes none of
    those behind it. A message of which `loses` says so is lost without an error, and one of which `doubles` does is
    taken twice."""

    def __init__(
        self,
        transport: Transport,
        *,
        before: Fails = never,
        after: Fails = never,
        loses: Fails = never,
        doubles: Fails = never,
    ) -> None:
        self._transport = transport
        self._faults = _Faults(before, after)
        self._loses = loses
        self._doubles = doubles

    def function_url(self, name: str) -> str:
        return self._transport.function_url(name)

    def call(self, call: OutgoingCall) -> Response:
        operation = self._faults.next("call", is_write=True)
        self._faults.check_before(operation, UnreachableError)
        response = self._transport.call(call)
        self._faults.check_after(operation, CallTimeoutError)
        return response

    def forward(self, messages: Sequence[Forward]) -> None:
        for message in messages:
            operation = self._faults.next("forward", is_write=True)
            self._faults.check_before(operation, ForwardError)
            if not self._loses(operation):
                self._transport.forward([message] * (2 if self._doubles(operation) else 1))
            self._faults.check_after(operation, ForwardError)


class _Faults:
    def __init__(self, before: Fails, after: Fails) -> None:
        self._before = before
        self._after = after
        self._numbers = itertools.count(1)

    def next(self, name: str, *, is_write: bool) -> Operation:
        return Operation(name, next(self._numbers), is_write)

    def check_before(self, operation: Operation, error: type[FaasflowError]) -> None:
        if self._before(operation):
            raise error(f"Injected fault before operation {operation.number} ({operation.name!r}).")

    def check_after(self, operation: Operation, error: type[FaasflowError]) -> None:
        if self._after(operation):
            raise error(f"Injected fault after operation {operation.number} ({operation.name!r}).")

    def run(self, name: str, call: Callable[[], T], *, is_write: bool) -> T:
        operation = self.next(name, is_write=is_write)
        self.check_before(operation, StoreUnavailableError)
        result = call()
        self.check_after(operation, StoreUnavailableError)
        return result
