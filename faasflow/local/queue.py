"""A durable queue in one SQLite file that delivers every message at least once.

One process owns the file. So a claim is kept in memory alone: when the process dies, however it dies, everything
claimed is due again for the next owner, and claiming costs no write. What `put` took survives kill -9 (write-ahead log,
not synced on every message: a power failure may lose the latest).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from faasflow.errors import GatewayError
from faasflow.private import make_private_file

DEAD_KEPT = 1_000

_LONGEST_DELAY = 60.0  # of a message from an earlier owner, whose wall clock may have been ahead of ours

_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, kind TEXT NOT NULL, payload BLOB NOT NULL,
    due REAL NOT NULL, tries INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS message_due ON message (due, id);
CREATE TABLE IF NOT EXISTS dead (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, payload BLOB NOT NULL, tries INTEGER NOT NULL,
    reason TEXT NOT NULL
);
"""
_REMOVE = "DELETE FROM message WHERE id = ?"
_POSTPONE = "UPDATE message SET due = ?, tries = tries + 1 WHERE id = ?"
_BURY = "INSERT INTO dead (kind, payload, tries, reason) VALUES (?, ?, ?, ?)"
_HASTEN = "UPDATE message SET due = ? WHERE due > ?"
_TRIM = "DELETE FROM dead WHERE id <= (SELECT max(id) FROM dead) - ?"
_INSERT = "INSERT INTO message (key, kind, payload, due) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"

_Statement = tuple[str, tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be put. While a message with the same `key` is queued or claimed, another one is not taken."""

    kind: str
    payload: bytes
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A claimed message; `tries` counts the deliveries that failed before this one."""

    id: int
    kind: str
    payload: bytes
    tries: int


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """A message that was given up, and why."""

    kind: str
    payload: bytes
    tries: int
    reason: str


class Queue:
    """The messages of one file; oldest due first. Thread-safe. Every method but `claim` answers at once."""

    def __init__(self, path: Path, *, now: Callable[[], float] | None = None) -> None:
        self._now = now or _steady_clock()
        self._changed = threading.Condition()
        self._claimed: set[int] = set()
        self._stopped = self._closed = False
        self._path = path
        try:
            self._db = _open(path)
            latest = self._now() + _LONGEST_DELAY
            self._db.execute(_HASTEN, (latest, latest))
        except (sqlite3.Error, OSError) as exc:
            raise GatewayError(f"The queue file {str(path)!r} cannot be opened: {exc}. Repair or remove it.") from exc

    def __len__(self) -> int:
        with self._changed:
            return int(self._db.execute("SELECT count(*) FROM message").fetchone()[0])

    def put(self, draft: Draft, *, delay: float = 0.0) -> bool:
        """Take a message, due after `delay` seconds. False, and nothing changed, if one with its key is here already.
        `GatewayError` if it cannot be written."""
        with self._changed, self._transaction():
            return self._insert([draft], due=self._now() + delay) > 0

    def claim(self, *, timeout: float | None = None) -> Message | None:
        """The oldest due message that nobody has claimed; waits for one. None after `timeout` seconds or `stop`.

        The caller ends the claim with `ack`, `retry`, `bury` or `release`."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._stopped:
                now = self._now()  # once: a message that became due between two readings would be waited past
                if (message := self._next_due(now)) is not None:
                    self._claimed.add(message.id)
                    return message
                if until is not None and time.monotonic() >= until:
                    return None
                self._changed.wait(self._patience(now, until))
        return None

    def ack(self, message: Message, *, then: Sequence[Draft] = ()) -> None:
        """Remove a delivered message, and in the same transaction take those that follow from it."""
        self._end(message, [(_REMOVE, (message.id,))], then=then)

    def retry(self, message: Message, *, delay: float) -> None:
        """Count a failed delivery and make the message due again after `delay` seconds."""
        self._end(message, [(_POSTPONE, (self._now() + delay, message.id))])

    def bury(self, message: Message, *, reason: str, then: Sequence[Draft] = ()) -> None:
        """Give a message up: it moves to `dead`, where the latest thousand are kept, and those that follow are
        taken."""
        row = (message.kind, message.payload, message.tries + 1, reason)
        self._end(message, [(_REMOVE, (message.id,)), (_BURY, row), (_TRIM, (DEAD_KEPT,))], then=then)

    def release(self, message: Message) -> None:
        """Give a claim back: the message is as if it had not been claimed."""
        self._end(message, [])

    def dead(self) -> Sequence[DeadMessage]:
        """The messages that were given up, oldest first."""
        with self._changed:
            rows = self._db.execute("SELECT kind, payload, tries, reason FROM dead ORDER BY id").fetchall()
        return [DeadMessage(*row) for row in rows]

    def stop(self) -> None:
        """Let every `claim`, waiting or to come, answer None. Messages are still taken."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Close the file. What is claimed is due again for the next owner."""
        self.stop()
        with self._changed:
            self._closed = True
            self._db.close()

    def _insert(self, drafts: Sequence[Draft], *, due: float) -> int:
        if not drafts:
            return 0
        self._changed.notify(len(drafts))
        return self._db.executemany(_INSERT, [(draft.key, draft.kind, draft.payload, due) for draft in drafts]).rowcount

    def _next_due(self, now: float) -> Message | None:
        # At most this many of the oldest are claimed, so one more row is enough.
        limit = len(self._claimed) + 1
        rows = self._db.execute("SELECT id FROM message WHERE due <= ? ORDER BY due, id LIMIT ?", (now, limit))
        found = next((row[0] for row in rows.fetchall() if row[0] not in self._claimed), None)
        if found is None:
            return None
        row = self._db.execute("SELECT id, kind, payload, tries FROM message WHERE id = ?", (found,)).fetchone()
        return Message(*row)

    def _patience(self, now: float, until: float | None) -> float | None:
        """How long to wait for a change: until the next message is due, or the caller's time is over."""
        row = self._db.execute("SELECT min(due) FROM message WHERE due > ?", (now,)).fetchone()
        waits = [row[0] - now] if row[0] is not None else []
        if until is not None:
            waits.append(until - time.monotonic())
        return max(0.0, min(waits)) if waits else None

    def _end(self, message: Message, statements: Sequence[_Statement], *, then: Sequence[Draft] = ()) -> None:
        """End a claim, with what that changes in one transaction. After `close` it changes nothing."""
        with self._changed:
            self._claimed.discard(message.id)
            self._changed.notify()
            if self._closed:
                return
            with self._transaction():
                for statement, values in statements:
                    self._db.execute(statement, values)
                self._insert(then, due=self._now())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise GatewayError(f"The queue file {str(self._path)!r} cannot be written: {exc}.") from exc


def _steady_clock() -> Callable[[], float]:
    """Seconds since the epoch, which a wall clock that is set later does not change."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


def _open(path: Path) -> sqlite3.Connection:
    make_private_file(path)
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.executescript(_SCHEMA)
    return db
