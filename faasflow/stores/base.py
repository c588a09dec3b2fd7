"""What every store adapter shares: the views of one request, and the operations that follow from `read` and `transact`.
An adapter knows absolute keys only; which keys belong to a request is decided here and in `naming`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from faasflow.errors import KeyNotFoundError, StoreError, ValueTooLargeError
from faasflow.naming import request_prefix
from faasflow.ports import Check, Create, DataStore, Delete, Entry, ListPrefix, Op, Outcome, Put, StateStore, Version

V = TypeVar("V")

LARGEST_STATE_VALUE = 512 * 1024
"""In bytes: what Consul takes. Every state store refuses more, so that a flow meets the limit on the laptop."""


class BaseStateStore(ABC):
    """A `StateStore` over absolute keys. An adapter gives `init`, `read`, `transact`, `clear` and `close`, and those of
    the others that its server does at a lower cost."""

    @abstractmethod
    def init(self) -> None: ...

    @abstractmethod
    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]: ...

    @abstractmethod
    def transact(self, ops: Sequence[Op]) -> Outcome: ...

    @abstractmethod
    def clear(self, prefix: str) -> None:
        """Remove every key that starts with `prefix`."""

    @abstractmethod
    def close(self) -> None: ...

    def find_risks(self) -> Sequence[str]:
        """How its server is set up so that it may lose what it acknowledged, one sentence each."""
        return ()

    def configure(self, flow: str, request_id: str) -> StateStore:
        return ScopedStateStore(self, request_prefix(flow, request_id))

    def get(self, key: str) -> bytes:
        entry = self.read([key]).get(key)
        if entry is None:
            raise KeyNotFoundError(key)
        return entry.value

    def set(self, key: str, value: bytes) -> None:
        self.transact([Put(key, value)])

    def update(self, key: str, old: bytes | None, new: bytes) -> bool:
        if old is None:
            return self.transact([Create(key, new)]).committed
        # A conflict may come from a write of the same bytes, so only what the key holds decides.
        while True:
            entry = self.read([key]).get(key)
            if entry is None or entry.value != old:
                return False
            if self.transact([Check(key, entry.version), Put(key, new)]).committed:
                return True

    def delete(self, key: str) -> None:
        self.transact([Delete(key)])

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> dict[str, bytes]:
        found = self.read([], [prefix])
        behind = sorted(key for key in found if key > after)
        return {key: found[key].value for key in behind[:limit]}

    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[str]:
        return list(self.list(prefix, after=after, limit=limit))

    def cleanup(self) -> None:
        self.clear("")


class ScopedStateStore:
    """The view of a state store whose keys all start with `prefix`; callers see them without it."""

    def __init__(self, store: BaseStateStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def init(self) -> None:
        self._store.init()

    def configure(self, flow: str, request_id: str) -> StateStore:
        return self._store.configure(flow, request_id)

    def get(self, key: str) -> bytes:
        return self._store.get(self._prefix + key)

    def set(self, key: str, value: bytes) -> None:
        self._store.set(self._prefix + key, value)

    def update(self, key: str, old: bytes | None, new: bytes) -> bool:
        return self._store.update(self._prefix + key, old, new)

    def delete(self, key: str) -> None:
        self._store.delete(self._prefix + key)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> dict[str, bytes]:
        found = self._store.list(self._prefix + prefix, after=self._prefix + after, limit=limit)
        return self._relative(found)

    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[str]:
        found = self._store.keys(self._prefix + prefix, after=self._prefix + after, limit=limit)
        return [key.removeprefix(self._prefix) for key in found]

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        found = self._store.read([self._prefix + key for key in keys], [self._prefix + prefix for prefix in prefixes])
        return self._relative(found)

    def transact(self, ops: Sequence[Op]) -> Outcome:
        outcome = self._store.transact([_moved(op, self._prefix) for op in ops])
        conflicts = tuple(key.removeprefix(self._prefix) for key in outcome.conflicts)
        return Outcome(conflicts, self._relative(outcome.entries))

    def cleanup(self) -> None:
        self._store.clear(self._prefix)

    def close(self) -> None:
        self._store.close()

    def _relative(self, found: Mapping[str, V]) -> dict[str, V]:
        return {key.removeprefix(self._prefix): value for key, value in found.items()}


class BaseDataStore(ABC):
    """A `DataStore` over absolute keys."""

    @abstractmethod
    def init(self) -> None: ...

    @abstractmethod
    def get(self, key: str) -> bytes: ...

    @abstractmethod
    def set(self, key: str, value: bytes) -> None: ...

    @abstractmethod
    def delete(self, key: str) -> None: ...

    @abstractmethod
    def list(self, prefix: str) -> Sequence[str]: ...

    @abstractmethod
    def clear(self, prefix: str) -> None:
        """Remove every key that starts with `prefix`."""

    @abstractmethod
    def close(self) -> None: ...

    def configure(self, flow: str, request_id: str) -> DataStore:
        return ScopedDataStore(self, request_prefix(flow, request_id))

    def cleanup(self) -> None:
        self.clear("")


class ScopedDataStore:
    """The view of a data store whose keys all start with `prefix`; callers see them without it."""

    def __init__(self, store: BaseDataStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def init(self) -> None:
        self._store.init()

    def configure(self, flow: str, request_id: str) -> DataStore:
        return self._store.configure(flow, request_id)

    def get(self, key: str) -> bytes:
        return self._store.get(self._prefix + key)

    def set(self, key: str, value: bytes) -> None:
        self._store.set(self._prefix + key, value)

    def delete(self, key: str) -> None:
        self._store.delete(self._prefix + key)

    def list(self, prefix: str) -> Sequence[str]:
        return [key.removeprefix(self._prefix) for key in self._store.list(self._prefix + prefix)]

    def cleanup(self) -> None:
        self._store.clear(self._prefix)

    def close(self) -> None:
        self._store.close()


def check_ops(ops: Iterable[Op]) -> None:
    """Refuse a transaction that writes a key twice (`StoreError`) or a value over the limit (`ValueTooLargeError`)."""
    written: set[str] = set()
    for op in ops:
        if isinstance(op, Check | ListPrefix):
            continue
        if op.key in written:
            raise StoreError(f"The transaction writes {op.key!r} twice. Write each key once.")
        written.add(op.key)
        if isinstance(op, Create | Put) and len(op.value) > LARGEST_STATE_VALUE:
            raise ValueTooLargeError(
                f"The value of {op.key!r} has {len(op.value):,} bytes, a state store takes {LARGEST_STATE_VALUE:,}.",
                hint="Keep large values in the data store.",
            )


def conflicts_of(ops: Iterable[Op], versions: Mapping[str, Version]) -> tuple[str, ...]:
    """The keys whose `Check` or `Create` does not hold, where `versions` has those of the keys that exist."""
    expected = ((op.key, op.version if isinstance(op, Check) else None) for op in ops if isinstance(op, Check | Create))
    return tuple(dict.fromkeys(key for key, version in expected if versions.get(key) != version))


def end_of_prefix(prefix: str) -> str | None:
    """The smallest text behind every text that starts with `prefix`; None if there is none."""
    stem = prefix.rstrip(chr(sys.maxunicode))
    if not stem:
        return None
    # Surrogates cannot be encoded, and no text lies between U+D7FF and U+E000.
    following = 0xE000 if stem[-1] == "\ud7ff" else ord(stem[-1]) + 1
    return stem[:-1] + chr(following)


def _moved(op: Op, prefix: str) -> Op:
    if isinstance(op, ListPrefix):
        return ListPrefix(prefix + op.prefix)
    return replace(op, key=prefix + op.key)
