"""Stores in one SQLite file: durable on one machine and shared by any number of its processes, on a local disk
(write-ahead logging does not work over NFS or SMB). State and data may live in the same file.

With the durability "normal" nothing acknowledged is lost when a process is killed, and the last moments may be when the
machine loses power; "full" waits for the disk at every commit and loses nothing. Each process writes through one
connection, however many stores open the file: SQLite lets its writers wait by sleeping, which starves some of them, and
before 3.51.3 two connections that write and checkpoint at the same instant can, very rarely, damage the file
(https://sqlite.org/wal.html#walresetbug). Threads that write at the same time are committed together.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from typing import get_args

from faasflow.errors import ConfigError, KeyNotFoundError, StoreError
from faasflow.ports import Check, Create, Delete, Entry, ListPrefix, Op, Outcome, Put
from faasflow.stores.base import BaseDataStore, BaseStateStore, check_ops, conflicts_of, end_of_prefix
from faasflow.stores.sqlite_file import Durability, SqliteFile, shared_file


class _InFile:
    """What the two stores have in common: their file, from the first use to `close`."""

    def __init__(
        self, path: str | os.PathLike[str], *, durability: Durability = "normal", busy_timeout: float = 10.0
    ) -> None:
        if durability not in get_args(Durability):
            raise ConfigError(f"The durability {durability!r} is unknown. Use 'normal' or 'full'.")
        self._path = os.fspath(path)
        self._opened: SqliteFile | None = shared_file(self._path)
        self._opened.join(self, durability=durability, busy_timeout=busy_timeout)

    def init(self) -> None:
        self._file.open()

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.leave(self)

    @property
    def _file(self) -> SqliteFile:
        if self._opened is None:
            raise StoreError(f"The store in {self._path!r} is closed. Make a new one.")
        return self._opened


class SqliteStateStore(_InFile, BaseStateStore):
    """A state store in the file `path`, which is made when it is missing. `busy_timeout` is how many seconds to wait
    for other processes that write."""

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        return self._file.read(lambda db: _entries_below(db, prefixes) | _entries_at(db, keys))

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> dict[str, bytes]:
        query = "SELECT key, value FROM state WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
        page = _page_of(prefix, after, limit)
        return self._file.read(lambda db: dict(db.execute(query, page).fetchall()))

    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[str]:
        query = "SELECT key FROM state WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
        page = _page_of(prefix, after, limit)
        return self._file.read(lambda db: [key for (key,) in db.execute(query, page)])

    def transact(self, ops: Sequence[Op]) -> Outcome:
        check_ops(ops)
        if all(isinstance(op, Check | ListPrefix) for op in ops):
            return self._file.read(lambda db: self._apply(db, ops))
        return self._file.write(lambda db: self._apply(db, ops))

    def clear(self, prefix: str) -> None:
        query = "DELETE FROM state WHERE key >= ? AND key < ?"
        self._file.write(lambda db: db.execute(query, _range_of(prefix)).close())

    def _apply(self, db: sqlite3.Connection, ops: Sequence[Op]) -> Outcome:
        guarded = [op.key for op in ops if isinstance(op, Check | Create)]
        conflicts = conflicts_of(ops, {key: entry.version for key, entry in _entries_at(db, guarded).items()})
        if conflicts:
            return Outcome(conflicts)
        for op in ops:
            self._write(db, op)
        return Outcome(entries=_entries_below(db, [op.prefix for op in ops if isinstance(op, ListPrefix)]))

    def _write(self, db: sqlite3.Connection, op: Op) -> None:
        match op:
            case Create(key, value) | Put(key, value):
                row = (key, value, self._file.next_version(db))
                db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", row)
            case Delete(key):
                db.execute("DELETE FROM state WHERE key = ?", [key])


class SqliteDataStore(_InFile, BaseDataStore):
    """A data store in the file `path`, for values up to a gigabyte; see `SqliteStateStore`."""

    def get(self, key: str) -> bytes:
        query = "SELECT value FROM data WHERE key = ?"
        row = self._file.read(lambda db: db.execute(query, [key]).fetchone())
        if row is None:
            raise KeyNotFoundError(key)
        value: bytes = row[0]
        return value

    def set(self, key: str, value: bytes) -> None:
        query = "INSERT INTO data VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        self._file.write(lambda db: db.execute(query, [key, value]).close())

    def delete(self, key: str) -> None:
        self._file.write(lambda db: db.execute("DELETE FROM data WHERE key = ?", [key]).close())

    def list(self, prefix: str) -> Sequence[str]:
        query = "SELECT key FROM data WHERE key >= ? AND key < ? ORDER BY key"
        rows = self._file.read(lambda db: db.execute(query, _range_of(prefix)).fetchall())
        return [key for (key,) in rows]

    def clear(self, prefix: str) -> None:
        query = "DELETE FROM data WHERE key >= ? AND key < ?"
        self._file.write(lambda db: db.execute(query, _range_of(prefix)).close())


def _entries_at(db: sqlite3.Connection, keys: Iterable[str]) -> dict[str, Entry]:
    query = "SELECT key, value, version FROM state WHERE key = ?"
    rows = (db.execute(query, [key]).fetchone() for key in keys)
    return {row[0]: Entry(row[1], row[2]) for row in rows if row is not None}


def _entries_below(db: sqlite3.Connection, prefixes: Iterable[str]) -> dict[str, Entry]:
    query = "SELECT key, value, version FROM state WHERE key >= ? AND key < ? ORDER BY key"
    found = {
        key: Entry(value, version)
        for prefix in prefixes
        for key, value, version in db.execute(query, _range_of(prefix))
    }
    return dict(sorted(found.items()))


def _page_of(prefix: str, after: str, limit: int | None) -> tuple[str, str | bytes, int]:
    # One lower bound: of two, SQLite might search by the worse and walk through all pages before.
    return max(prefix, after + "\0"), _range_of(prefix)[1], -1 if limit is None else limit


def _range_of(prefix: str) -> tuple[str, str | bytes]:
    # To SQLite every blob is greater than every text.
    behind = end_of_prefix(prefix)
    return prefix, b"" if behind is None else behind
