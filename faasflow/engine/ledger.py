"""The record of one request in the state store: its keys, what is read together, what is written together.

Keys, below `faasflow/<flow>/<request>/`: `request`, `input`, `node/<path>`, `branches/<path>`,
`arrived/<path>#<group>/<who>`, `parked/<step>`, `data/<name>`. Beside the requests,
`faasflow/<flow>/$requests/<newest first>` lists them. Nothing else decides anything, and there are no counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from faasflow.engine.records import RequestRecord, dump, load
from faasflow.naming import escape, request_prefix
from faasflow.ports import Check, Create, Entry, ListPrefix, Op, Outcome, Put, StateStore, Version

REQUEST = "request"
INPUT = "input"


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request's record and the version at which it was read."""

    record: RequestRecord
    version: Version


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was read together. Keys are relative to the request."""

    request: StoredRequest | None
    entries: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Commit:
    """What became of a commit: `conflicts` are the keys that stood in the way, `entries` what was listed."""

    conflicts: frozenset[str] = frozenset()
    entries: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return not self.conflicts


class Ledger:
    """The ledger of one request. Every method is one round trip to the store."""

    def __init__(self, store: StateStore, flow: str, request_id: str) -> None:
        self._store = store
        self._flow = flow
        self._request_id = request_id
        self._prefix = request_prefix(flow, request_id)

    def read(self, keys: Sequence[str] = (), prefixes: Sequence[str] = ()) -> Snapshot:
        """The request's record and what stands under `keys` and `prefixes`, from one moment."""
        entries = self._store.read(
            [self._prefix + key for key in (REQUEST, *keys)], [self._prefix + prefix for prefix in prefixes]
        )
        request = entries.pop(self._prefix + REQUEST, None)
        return Snapshot(self._stored(request) if request else None, self._relative(entries))

    def start(self, record: RequestRecord, creates: Mapping[str, bytes]) -> bool:
        """Record a new request; False if it exists."""
        ops: list[Op] = [Create(self._prefix + REQUEST, dump(record))]
        ops += [Create(self._prefix + key, value) for key, value in creates.items()]
        ops.append(self._listed(record))
        return self._store.transact(ops).committed

    def commit(
        self,
        request: StoredRequest,
        *,
        create: Mapping[str, bytes],
        put: Mapping[str, bytes] | None = None,
        listing: Iterable[str] = (),
        change: RequestRecord | None = None,
    ) -> Commit:
        """While the request is as it was read (for version `None`: not there): create records, put arrivals, change
        the request's own record, and read `listing` as it is then. All or nothing."""
        ops: list[Op] = [Check(self._prefix + REQUEST, request.version)]
        ops += [Create(self._prefix + key, value) for key, value in create.items()]
        ops += [Put(self._prefix + key, value) for key, value in (put or {}).items()]
        if change is not None:
            ops.append(Put(self._prefix + REQUEST, dump(change)))
        if request.version is None:
            ops.append(self._listed(request.record))
        return self._commit(ops, listing)

    def arrive(self, put: Iterable[str], listing: Iterable[str]) -> Commit:
        """Put arrivals, which is harmless to repeat, and read who has arrived."""
        return self._commit([Put(self._prefix + key, b"") for key in put], listing)

    def write(self, values: Mapping[str, bytes]) -> None:
        """Write values that nothing refers to yet."""
        self._store.transact([Put(self._prefix + key, value) for key, value in values.items()])

    def create(self, key: str, value: bytes) -> bool:
        """Create one record; False if it exists."""
        return self._store.transact([Create(self._prefix + key, value)]).committed

    def delete(self, key: str) -> None:
        """Remove one key."""
        self._store.delete(self._prefix + key)

    def set(self, key: str, value: bytes) -> None:
        """Write one key, whatever was there."""
        self._store.set(self._prefix + key, value)

    def get(self, key: str) -> bytes:
        """One value; `KeyNotFoundError` if there is none."""
        return self._store.get(self._prefix + key)

    def _commit(self, ops: list[Op], listing: Iterable[str]) -> Commit:
        outcome: Outcome = self._store.transact([*ops, *(ListPrefix(self._prefix + prefix) for prefix in listing)])
        cut = len(self._prefix)
        return Commit(frozenset(key[cut:] for key in outcome.conflicts), self._relative(outcome.entries))

    def _listed(self, record: RequestRecord) -> Op:
        return Put(index_key(self._flow, self._request_id, record.created), self._request_id.encode())

    def _stored(self, entry: Entry) -> StoredRequest:
        return StoredRequest(load(entry.value, RequestRecord, self._prefix + REQUEST), entry.version)

    def _relative(self, entries: Mapping[str, Entry]) -> dict[str, bytes]:
        cut = len(self._prefix)
        return {key[cut:]: entry.value for key, entry in entries.items()}


def index_prefix(flow: str) -> str:
    """What the keys that list a flow's requests start with."""
    return f"faasflow/{escape(flow)}/$requests/"


def index_key(flow: str, request_id: str, created: float) -> str:
    """Where a request is listed; keys sort the newest first."""
    return f"{index_prefix(flow)}{10**13 - int(created * 1000):014d}-{escape(request_id)}"
