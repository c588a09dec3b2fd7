"""The ports: what the engine needs from outside, each a contract. Adapters: `stores/`, `transport/`, `testing/`.

Every store adapter passes the published contract of `faasflow.testing`; the docstrings here are what it checks.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Version = Hashable
"""Names one state of one key. Opaque: compare for equality only. `None` stands for "the key does not exist"."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored value and the version it was read at."""

    value: bytes
    version: Version


@dataclass(frozen=True, slots=True)
class Check:
    """Holds if the key is at `version`; with `None`, if it does not exist."""

    key: str
    version: Version | None


@dataclass(frozen=True, slots=True)
class Create:
    """Writes a key that must not exist."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Put:
    """Writes a key, whether or not it exists; with `Check` on the same key it is a compare-and-set."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes a key; one that does not exist is no conflict."""

    key: str


@dataclass(frozen=True, slots=True)
class ListPrefix:
    """Reads every key that starts with `prefix`, as it is *after* the writes of the same transaction."""

    prefix: str


Op = Check | Create | Put | Delete | ListPrefix


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction: `conflicts` names all keys whose `Check` or `Create` did not hold; then nothing
    was written and `entries` is empty. Else `entries` has what each `ListPrefix` found, by full key, ordered."""

    conflicts: tuple[str, ...] = ()
    entries: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def committed(self) -> bool:
        return not self.conflicts


class StateStore(Protocol):
    """A consistent key-value store. Keys are text that is not empty, with `/` between parts; values are bytes up to
    512 KB, more is a `ValueTooLargeError`.

    Every method may raise `StoreUnavailableError` (unknown outcome) and `StoreError` (refused). Thread-safe.
    A read that starts after a write was acknowledged sees it, from any process.
    """

    def init(self) -> None:
        """Make the store ready (tables, buckets, connections). Calling it again changes nothing."""

    def configure(self, flow: str, request_id: str) -> StateStore:
        """A view whose keys live under `faasflow/<flow>/<request>/`, both parts escaped. Shares the connection of this
        store and changes nothing in it: views for many requests are used side by side."""

    def get(self, key: str) -> bytes:
        """The value; `KeyNotFoundError` if there is none, which is never confused with a failure to read."""

    def set(self, key: str, value: bytes) -> None:
        """Write, whatever was there."""

    def update(self, key: str, old: bytes | None, new: bytes) -> bool:
        """Atomically replace `old` by `new`; `old=None` means the key must not exist. False, and nothing written, if it
        holds something else."""

    def delete(self, key: str) -> None:
        """Remove; a missing key is fine."""

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> dict[str, bytes]:
        """The keys that start with `prefix` and sort behind `after`, with their values, in order of their UTF-8 bytes,
        at most `limit`. An empty dict if there are none."""

    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[str]:
        """What `list` would find, without the values: one consistent snapshot in one round trip, whose cost does not
        depend on how large the values are."""

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        """One consistent snapshot of several keys and prefixes in one round trip. Missing keys are left out."""

    def transact(self, ops: Sequence[Op]) -> Outcome:
        """All of `ops` or none, atomically, in one round trip. Each `Check` and `Create` is judged by what was there
        before, wherever it stands; a key may be written once, twice is a `StoreError`."""

    def cleanup(self) -> None:
        """Remove every key of this view (of a whole store only in tests)."""

    def close(self) -> None:
        """Release connections. Calling it again is fine; other views of the store are closed with it."""


class DataStore(Protocol):
    """A store for values of any size, with the same rules as `StateStore` but no transactions."""

    def init(self) -> None:
        """Make the store ready. Calling it again changes nothing."""

    def configure(self, flow: str, request_id: str) -> DataStore:
        """A view for one request; see `StateStore.configure`."""

    def get(self, key: str) -> bytes:
        """The value; `KeyNotFoundError` if there is none."""

    def set(self, key: str, value: bytes) -> None:
        """Write, whatever was there; when it returns the whole value is stored."""

    def delete(self, key: str) -> None:
        """Remove; a missing key is fine."""

    def list(self, prefix: str) -> Sequence[str]:
        """The keys that start with `prefix`, in order of their UTF-8 bytes."""

    def cleanup(self) -> None:
        """Remove every key of this view."""

    def close(self) -> None:
        """Release connections. Calling it again is fine."""


@dataclass(slots=True)
class OutgoingCall:
    """An HTTP call about to be made; an operation's `on_request` may change any of it.

    `timeout` is in seconds. `function` names the OpenFaaS function where the target is one.
    """

    method: str
    url: str
    headers: dict[str, str]
    query: list[tuple[str, str]]
    body: bytes
    timeout: float
    function: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer. Header names are looked up without regard to case through `header`."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def header(self, name: str, default: str = "") -> str:
        wanted = name.lower()
        return next((value for key, value in self.headers.items() if key.lower() == wanted), default)


@dataclass(frozen=True, slots=True)
class Forward:
    """A message on its way to the flow's own `/flow/<request_id>/forward`."""

    flow: str
    request_id: str
    body: bytes


class Transport(Protocol):
    """How the engine reaches functions, URLs and its own queue."""

    def function_url(self, name: str) -> str:
        """Where the function `name` (or `name.namespace`) is called."""

    def call(self, call: OutgoingCall) -> Response:
        """Make the call once and return whatever was answered, of any status. `CallTimeoutError` when it took longer
        than its timeout, `TransportError` when there was no answer."""

    def forward(self, messages: Sequence[Forward]) -> None:
        """Hand messages to the queue; when it returns, all are taken. `ForwardError` if any was not: some of the
        others may have been taken, and all may be sent again."""


class Clock(Protocol):
    """Wall time, for records and time limits; correctness never hangs on it."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""

    def sleep(self, seconds: float) -> None:
        """Wait; only where a caller asked to (`?wait=`)."""
