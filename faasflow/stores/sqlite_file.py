"""One SQLite file as this process sees it: opening it, taking turns at writing, and what its errors mean. What is in
the tables is left to `sqlite`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Generic, Literal, TypeVar, cast
from weakref import WeakSet, WeakValueDictionary

from faasflow.errors import StoreCorruptError, StoreError, StoreUnavailableError, ValueTooLargeError
from faasflow.private import make_private_file, make_private_folder

T = TypeVar("T")
Durability = Literal["normal", "full"]
Work = Callable[[sqlite3.Connection], T]

_APPLICATION_ID = int.from_bytes(b"faas", "big")
_SCHEMA_VERSION = 1
_SCHEMA = (
    # Small values lie beside their keys; large ones would make a tree without row ids deep.
    "CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE data (key TEXT PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE versions (unused INTEGER NOT NULL)",
    "INSERT INTO versions VALUES (1)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
_LARGEST_IDLE_LOG = 64 * 1024 * 1024
_VERSIONS_AT_ONCE = 1000

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "Another process has held it for too long. Try again, or give a longer busy_timeout.",
    sqlite3.SQLITE_LOCKED: "Try again.",
    sqlite3.SQLITE_PROTOCOL: "Try again.",
    sqlite3.SQLITE_NOMEM: "Give the process more memory.",
    sqlite3.SQLITE_FULL: "Free some space on its disk.",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable.",
    sqlite3.SQLITE_CANTOPEN: "Name a file in a folder that this user may write to.",
    sqlite3.SQLITE_IOERR: "Look at its disk.",
}


class SqliteFile:
    """A file that the stores of this process share. It is opened when it is needed, and once more after a fork. The
    safest durability and the longest timeout that a store asked for hold for all of them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._users: WeakSet[object] = WeakSet()
        self._durability: Durability = "normal"
        self._busy_timeout = 0.0
        self._connection: sqlite3.Connection | None = None
        self._waiting: deque[_Job[Any]] = deque()
        self._versions: deque[int] = deque()
        self.lock = threading.Lock()

    def __del__(self) -> None:
        # A connection is part of a cycle: without this it would stay open until a garbage collection.
        self._close()

    def join(self, user: object, *, durability: Durability, busy_timeout: float) -> None:
        """Count `user` among those who need the file open."""
        with self.lock:
            self._users.add(user)
            if durability == "full":
                self._durability = durability
            self._busy_timeout = max(self._busy_timeout, busy_timeout)
            if self._connection is not None:
                self._set_up(self._connection)

    def leave(self, user: object) -> None:
        """Close the file if nobody else needs it."""
        with self.lock:
            self._users.discard(user)
            if not self._users:
                self._close()

    def read(self, work: Work[T]) -> T:
        """What `work` returns, which sees one moment of the file."""
        with self.lock, self._errors():
            db = self._opened()
            db.execute("BEGIN")
            try:
                return work(db)
            finally:
                self._end(db)

    def write(self, work: Work[T]) -> T:
        """What `work` returns, once its changes are committed. `work` makes all of them or none, and may run twice."""
        job = _Job(work)
        self._waiting.append(job)
        with self.lock:
            # Whoever has the lock commits for all who wait for it: one fsync for many threads.
            if not job.is_taken:
                self._commit(self._take_waiting())
        return job.outcome(self.path)

    def next_version(self, db: sqlite3.Connection) -> int:
        """A number that no process has got before; to be called by work that writes."""
        # Taken from the file a thousand at a time, as this costs as much as a small write.
        if not self._versions:
            taken = "UPDATE versions SET unused = unused + ? RETURNING unused"
            (end,) = db.execute(taken, [_VERSIONS_AT_ONCE]).fetchone()
            self._versions.extend(range(end - _VERSIONS_AT_ONCE, end))
        return self._versions.popleft()

    def open(self) -> None:
        """Open the file, which is made if it is missing; `StoreCorruptError` if it is not one of ours."""
        with self.lock, self._errors():
            self._opened()

    def before_fork(self) -> None:
        """Let no thread and no connection be inside SQLite: a child would believe to hold the locks of its parent."""
        self.lock.acquire()
        self._close()

    def after_fork(self, *, is_child: bool) -> None:
        """Go on, in the child without what belongs to the parent and its threads."""
        if is_child:
            self._waiting.clear()
            self._versions.clear()
        self.lock.release()

    def _take_waiting(self) -> list[_Job[Any]]:
        jobs = []
        while self._waiting:
            jobs.append(self._waiting.popleft())
            jobs[-1].is_taken = True
        return jobs

    def _commit(self, jobs: Sequence[_Job[Any]]) -> None:
        try:
            with self._errors():
                results = self._in_one_transaction([job.work for job in jobs])
        except (StoreUnavailableError, StoreCorruptError) as exc:
            for job in jobs:
                job.error = exc
        except StoreError as exc:
            # The fault of one of them, found before the commit: the others must not pay for it.
            if len(jobs) == 1:
                jobs[0].error = exc
            else:
                for job in jobs:
                    self._commit([job])
        else:
            for job, result in zip(jobs, results, strict=True):
                job.results.append(result)

    def _in_one_transaction(self, works: Sequence[Work[Any]]) -> list[Any]:
        db = self._opened()
        db.execute("BEGIN IMMEDIATE")
        try:
            results = [work(db) for work in works]
            db.execute("COMMIT")
            return results
        except BaseException:
            self._versions.clear()
            self._end(db)
            raise

    def _end(self, db: sqlite3.Connection) -> None:
        # After some errors SQLite has rolled back already; an error here would hide the one that counts.
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        self._make_folder()
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            self._set_up(db)
            self._make_ours(db)
        except BaseException:
            db.close()
            raise
        return db

    def _make_folder(self) -> None:
        try:
            make_private_folder(os.path.dirname(self.path))
            make_private_file(self.path)  # its log and its index get the same mode
        except OSError as exc:
            raise StoreUnavailableError(
                f"The file {self.path!r} cannot be made: {exc}.", hint=_UNAVAILABLE[sqlite3.SQLITE_CANTOPEN]
            ) from exc

    def _set_up(self, db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA busy_timeout = {round(self._busy_timeout * 1000)}")
        db.execute(f"PRAGMA synchronous = {self._durability}")
        db.execute(f"PRAGMA journal_size_limit = {_LARGEST_IDLE_LOG}")

    def _make_ours(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")
        is_new = self._is_new(db)  # a file of somebody else is refused before anything in it changes
        db.execute("COMMIT")
        self._start_log(db)
        if is_new:
            self._create_tables(db)

    def _create_tables(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        # Another process may have been faster.
        for statement in _SCHEMA if self._is_new(db) else ():
            db.execute(statement)
        db.execute("COMMIT")

    def _is_new(self, db: sqlite3.Connection) -> bool:
        application, version, tables = (
            db.execute(query).fetchone()[0]
            for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if (application, version, tables) == (0, 0, 0):
            return True
        if application != _APPLICATION_ID:
            raise StoreCorruptError(
                f"{self.path!r} is a SQLite file of another application.",
                hint="Name another file, or move this one away.",
            )
        if version > _SCHEMA_VERSION:
            raise StoreCorruptError(
                f"{self.path!r} has format {version}, written by a newer faasflow; this one knows {_SCHEMA_VERSION}.",
                hint="Upgrade faasflow, or name another file.",
            )
        return False

    def _start_log(self, db: sqlite3.Connection) -> None:
        # SQLite does not wait for another process that does the same at this moment.
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as exc:
                if _code(exc) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        if mode != "wal":
            raise StoreError(f"The disk of {self.path!r} cannot take write-ahead logging. Name a file on a local disk.")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError, UnicodeError) as exc:
            raise _translated(exc, self.path) from exc


class _Job(Generic[T]):
    """Work that waits to be committed."""

    def __init__(self, work: Work[T]) -> None:
        self.work = work
        self.is_taken = False
        self.results: list[T] = []
        self.error: StoreError | None = None

    def outcome(self, path: str) -> T:
        if self.error is not None:
            raise self.error
        if not self.results:
            raise StoreUnavailableError(f"The thread that was writing to {path!r} was interrupted.")
        return self.results[0]


def shared_file(path: str) -> SqliteFile:
    """The one `SqliteFile` of this process for `path`."""
    real = os.path.realpath(path)
    with _files_lock:
        file = _files.get(real)
        if file is None:
            file = _files[real] = SqliteFile(real)
        return file


def _translated(exc: Exception, path: str) -> StoreError:
    code = _code(exc)
    if code == sqlite3.SQLITE_TOOBIG or isinstance(exc, OverflowError):
        return ValueTooLargeError(f"A value is larger than SQLite takes ({exc}). Keep it in an object store.")
    if code in _CORRUPT:
        return StoreCorruptError(
            f"{path!r} is damaged, or no SQLite file: {exc}.",
            hint="Restore it from a backup, or move it and its -wal file away to begin with an empty store.",
        )
    if code in _UNAVAILABLE:
        return StoreUnavailableError(f"{path!r} cannot be used now: {exc}.", hint=_UNAVAILABLE[code])
    return StoreError(f"SQLite refused an operation on {path!r}: {exc}.")


def _code(exc: Exception) -> int:
    return cast(int, getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


_files: WeakValueDictionary[str, SqliteFile] = WeakValueDictionary()
_files_lock = threading.Lock()
_at_fork: list[SqliteFile] = []


def _before_fork() -> None:
    _files_lock.acquire()
    _at_fork.extend(_files.values())
    for file in _at_fork:
        file.before_fork()


def _after_fork(*, is_child: bool) -> None:
    for file in _at_fork:
        file.after_fork(is_child=is_child)
    _at_fork.clear()
    _files_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=partial(_after_fork, is_child=False),
        after_in_child=partial(_after_fork, is_child=True),
    )
