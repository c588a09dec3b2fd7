"""Transactions for a store that has none: a `StateStore` made of a store of five plain methods, whose only promise is
an atomic `update` of one key.

How it works. Two kinds of keys are in the plain store:

- `faasflow/%head` names the last transaction that committed. It is replaced by `update` alone, and never holds the same
  bytes twice.
- `KEY@STAMP` is a record: one value that `KEY` was given, by the transaction `STAMP`. Stamps are random and never used
  again, so they are also the versions. A record is made *unborn*, becomes *live*, is deleted, and never comes back.

A transaction reads the head, lists the records it is about and judges its checks. It makes an unborn record for each
value it writes. Then it replaces the head it has read by its own, which names the records that are born with it and
those that are gone with it. This one `update` is the commit: before it nothing has happened, behind it everything has,
and if another transaction came first it fails and all begins anew. What follows is tidying: born records are made live,
gone ones are deleted, and the head is *settled* by taking the names off it. Whoever comes upon a head that is not
settled, because its owner is slow or dead, does the same before it commits on top. So there is no lock to be left
behind, no expiry and no clock: a transaction that is abandoned anywhere holds up nobody.

A reader reads the head, the records, and the head again. If it is the same, the records it found, less those that are
gone with the head and more those that are born with it, are the store as that head left it. No listing has to be a
snapshot: while the head stays, records come and go only as it says, besides unborn ones, which do not count.

A call that takes effect late does no harm, be it that a process slept for a day. A record goes from unborn to live
once, by `update`, which fails if it has been deleted. A deleted name is not used again, so that a late `delete` finds
nothing, which a late `delete` of `KEY` itself would not. A late unborn record is one nobody sees. The unborn records of
a transaction that lost or died are gone with the next one that comes upon them: at its commit their head is no longer
the last, so they can never be born. The same holds for a call that takes effect twice. Only all calls about one record,
done again in their order after its deletion, would bring it back.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Protocol, TypeVar
from uuid import uuid4

from faasflow.errors import KeyNotFoundError, StoreCorruptError, StoreError, StoreUnavailableError
from faasflow.ports import Check, Create, Delete, Entry, ListPrefix, Op, Outcome, Put
from faasflow.stores.base import BaseStateStore, check_ops, conflicts_of

T = TypeVar("T")

HEAD = "faasflow/%head"
TRIES = 1000
"""How often another transaction may be faster before `StoreUnavailableError` is raised."""

_UNBORN, _LIVE = b"-", b"+"
_LARGEST_CLEAR = 100
_LONGEST_PAUSE = 0.05


class SimpleStore(Protocol):
    """What `SimpleStateStore` needs: keys are text, values bytes, up to 512 KB and one byte. Thread-safe; a read that
    starts after a write was acknowledged sees it, from any process.

    A store that cannot be reached, or did not answer, raises `StoreUnavailableError`. `close` is called if it is there.
    """

    def init(self) -> None:
        """Make the store ready. Calling it again changes nothing."""

    def get(self, key: str) -> bytes:
        """The value; `KeyNotFoundError` if there is none."""

    def update(self, key: str, old: bytes | None, new: bytes) -> bool:
        """Atomically replace `old` by `new`; `old=None` means the key must not exist. False only if nothing was
        written."""

    def delete(self, key: str) -> None:
        """Remove; a missing key is fine."""

    def list(self, prefix: str) -> Mapping[str, bytes]:
        """The keys that start with `prefix`, and their values, in any order. A key that is there all the while is among
        them; others may be."""


class SimpleStateStore(BaseStateStore):
    """A state store with transactions, made of `store`. All that use the same keys have to go through this class.

    A read takes two `get` and a `list` for each key and prefix; a transaction two `get` at most, two `update`, and for
    each key a `list`, two `update` if it is written and a `delete` if it was there. One commits at a time in the whole
    store, so it is for moderate loads.
    """

    def __init__(self, store: SimpleStore) -> None:
        self._store = store
        # Correctness does not need it: threads that waited for each other need not begin anew.
        self._turn = Lock()

    def init(self) -> None:
        self._store.init()
        self._head()

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        return self._snapshot(keys, prefixes).entries

    def transact(self, ops: Sequence[Op]) -> Outcome:
        check_ops(ops)
        return self._transact(ops, is_write=not all(isinstance(op, Check | ListPrefix) for op in ops))

    def clear(self, prefix: str) -> None:
        found = self._snapshot([], [prefix])
        keys = list(found.entries)
        for start in range(0, len(keys), _LARGEST_CLEAR):
            deletes = [Delete(key) for key in keys[start : start + _LARGEST_CLEAR]]
            self._transact([*deletes, ListPrefix(prefix)], is_write=True)
        if found.unborn and not keys:
            self._transact([ListPrefix(prefix)], is_write=True)

    def close(self) -> None:
        close = getattr(self._store, "close", None)
        if close is not None:
            close()

    def _transact(self, ops: Sequence[Op], *, is_write: bool) -> Outcome:
        with self._turn:
            return _first(lambda: self._try(ops, is_write=is_write))

    def _try(self, ops: Sequence[Op], *, is_write: bool) -> Outcome | None:
        head = self._settled_head()
        prefixes = [op.prefix for op in ops if isinstance(op, ListPrefix)]
        found = self._look(head, [op.key for op in ops if not isinstance(op, ListPrefix)], prefixes)
        conflicts = conflicts_of(ops, {key: entry.version for key, entry in found.entries.items()})
        if conflicts or not is_write:
            entries = {} if conflicts else _below(prefixes, found.entries)
            return Outcome(conflicts, entries) if self._head().id == head.id else None
        change = _Change.of(ops, found)
        return Outcome(entries=_below(prefixes, change.after)) if self._commit(head, change) else None

    def _commit(self, head: _Head, change: _Change) -> bool:
        unborn = {name: _UNBORN + value for name, value in change.born.items()}
        for name, record in unborn.items():
            self._store.update(name, None, record)
        own = _Head.new(change.id, born=unborn, gone=change.gone)
        if not self._store.update(HEAD, head.raw, own.raw):
            for name in unborn:
                self._store.delete(name)
            return False
        # It has committed, whatever happens now; the next transaction does what is left undone.
        with suppress(StoreError):
            self._settle(own, unborn)
        return True

    def _settled_head(self) -> _Head:
        def settle() -> _Head | None:
            head = self._head()
            return head.settled() if head.is_settled or self._settle(head, {}) else None

        return _first(settle)

    def _settle(self, head: _Head, records: Mapping[str, bytes]) -> bool:
        """Do what `head` says; `records` has those that are known to be unborn. False if the head was settled by
        another."""
        for name in head.born:
            record = records.get(name) or self._record(name)
            if record is not None and record.startswith(_UNBORN):
                self._store.update(name, record, _LIVE + record[1:])
        for name in head.gone:
            self._store.delete(name)
        return self._store.update(HEAD, head.raw, head.settled().raw)

    def _record(self, name: str) -> bytes | None:
        try:
            return self._store.get(name)
        except KeyNotFoundError:
            return None  # another has settled this head, and a later transaction has deleted the record

    def _head(self) -> _Head:
        raw = self._record(HEAD)
        while raw is None:
            self._store.update(HEAD, None, _Head.new(uuid4().hex).raw)
            raw = self._record(HEAD)
        return _Head.parse(raw)

    def _snapshot(self, keys: Iterable[str], prefixes: Iterable[str]) -> _Found:
        def look() -> _Found | None:
            head = self._head()
            found = self._look(head, keys, prefixes)
            return found if self._head().id == head.id else None

        return _first(look)

    def _look(self, head: _Head, keys: Iterable[str], prefixes: Iterable[str]) -> _Found:
        """What is found in one pass; that it is of one moment is for the caller to show."""
        wanted_keys, below = set(keys), _outermost(prefixes)
        records: dict[str, bytes] = {}
        for start in [*below, *(f"{key}@" for key in wanted_keys if not key.startswith(below))]:
            records |= self._store.list(start)
        found = _Found({}, [])
        for name in sorted(records, key=_key_of):
            key = _key_of(name)
            if key and (key in wanted_keys or key.startswith(below)):
                found.take(head, name, records[name])
        return found


@dataclass(frozen=True, slots=True)
class _Head:
    """The last transaction that committed: the names of the records that are born and gone with it, until all of them
    are. `raw` is how the store holds it."""

    raw: bytes
    id: str
    born: Sequence[str]
    gone: Sequence[str]

    @classmethod
    def new(cls, id: str, *, born: Iterable[str] = (), gone: Iterable[str] = ()) -> _Head:
        names = {"born": list(born), "gone": list(gone)}
        raw = json.dumps({"format": 1, "id": id, **names}).encode()
        return cls(raw, id, **names)

    @classmethod
    def parse(cls, raw: bytes) -> _Head:
        try:
            parts = json.loads(raw)
            if parts["format"] != 1:
                raise ValueError(parts["format"])
            return cls(raw, parts["id"], parts["born"], parts["gone"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreCorruptError(
                f"The key {HEAD!r} was not written by this version of faasflow.",
                hint="Give the flow a store of its own, or the version that wrote it.",
            ) from error

    @property
    def is_settled(self) -> bool:
        return not (self.born or self.gone)

    def settled(self) -> _Head:
        return self if self.is_settled else _Head.new(self.id)


@dataclass(frozen=True, slots=True)
class _Found:
    """The live records by key, and the names of the unborn."""

    entries: dict[str, Entry]
    unborn: list[str]

    def take(self, head: _Head, name: str, record: bytes) -> None:
        key, _, stamp = name.rpartition("@")
        if name in head.gone:
            return
        if record.startswith(_LIVE) or name in head.born:
            self.entries[key] = Entry(record[1:], stamp)
        elif record.startswith(_UNBORN):
            self.unborn.append(name)
        else:
            raise StoreCorruptError(f"The key {name!r} was not written by faasflow.")


@dataclass(frozen=True, slots=True)
class _Change:
    """What one try of a transaction does: the values of the records it makes, the names of those it removes, and the
    entries as they are after it."""

    id: str
    born: dict[str, bytes]
    gone: list[str]
    after: dict[str, Entry]

    @classmethod
    def of(cls, ops: Iterable[Op], found: _Found) -> _Change:
        change = cls(uuid4().hex, {}, [*found.unborn], dict(found.entries))
        for op in ops:
            if isinstance(op, Create | Put | Delete):
                change._write(op)
        return change

    def _write(self, op: Create | Put | Delete) -> None:
        replaced = self.after.pop(op.key, None)
        if replaced is not None:
            self.gone.append(f"{op.key}@{replaced.version}")
        if not isinstance(op, Delete):
            self.born[f"{op.key}@{self.id}"] = op.value
            self.after[op.key] = Entry(op.value, self.id)


def _below(prefixes: Iterable[str], entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Those that start with one of `prefixes`, in order."""
    starts = tuple(prefixes)
    return {key: entries[key] for key in sorted(entries) if key.startswith(starts)}


def _key_of(name: str) -> str:
    return name.rpartition("@")[0]


def _outermost(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Without those that start with another."""
    kept: list[str] = []
    for prefix in sorted(prefixes):
        if not prefix.startswith(tuple(kept)):
            kept.append(prefix)
    return tuple(kept)


def _first(attempt: Callable[[], T | None]) -> T:
    """The first result of `attempt`, with pauses in between: longer each time, and by chance, so that two that got in
    each other's way do not do it again."""
    for number in range(TRIES):
        result = attempt()
        if result is not None:
            return result
        time.sleep(random.random() * min(_LONGEST_PAUSE, 0.0005 * 2 ** min(number, 10)))
    raise StoreUnavailableError(
        f"Other transactions were faster {TRIES} times.",
        hint="Too many write to this store at once, or its update() is False where nothing else has written.",
    )
