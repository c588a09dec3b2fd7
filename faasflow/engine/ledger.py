"""The record of one request in the state store: its keys, what is read together, what is written together.

Keys, below `faasflow/<flow>/<request>/`: `request`, `input`, `node/<path>`, `branches/<path>`,
`arrived/<path>#<group>/<who>`, `attempt/<step>/<n>`, `lease/<step>`, `override/<step>`, `parked/<step>`,
`data/<name>`. Beside the requests, `faasflow/<flow>/$requests/<newest first>` lists them, and `timers` names the rest.
Nothing else decides anything, and there are no counters. The lists follow the requests: each change of a request's
state is in one transaction with the entries that it adds and removes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from faasflow.engine.lifecycle import RequestState
from faasflow.engine.records import RequestRecord, dump, load
from faasflow.engine.timers import Timer, ended_key, failed_key, newest_first
from faasflow.naming import escape, request_prefix
from faasflow.ports import Check, Create, Delete, Entry, ListPrefix, Op, Outcome, Put, StateStore, Version

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
    """The ledger of one request. Every method but `take` is one round trip to the store."""

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
        return Snapshot(_stored(self._prefix + REQUEST, request) if request else None, self._relative(entries))

    def start(self, record: RequestRecord, creates: Mapping[str, bytes]) -> bool:
        """Record a new request; False if it exists."""
        ops: list[Op] = [Create(self._prefix + REQUEST, dump(record))]
        ops += [Create(self._prefix + key, value) for key, value in creates.items()]
        return self._store.transact([*ops, self._listed(record), *self._watched(record)]).committed

    def commit(
        self,
        request: StoredRequest,
        *,
        create: Mapping[str, bytes],
        put: Mapping[str, bytes] | None = None,
        listing: Iterable[str] = (),
        change: RequestRecord | None = None,
        absent: Iterable[str] = (),
        delete: Iterable[str] = (),
        timers: Iterable[Timer] = (),
        is_alive: bool = False,
    ) -> Commit:
        """While the request is as it was read (for version `None`: not there) and nothing stands under `absent`: create
        records, put arrivals, change the request's own record, delete, set timers, take it off the dead
        letters if it `is_alive`, and read `listing` as it is then. All or nothing."""
        ops: list[Op] = [Check(self._prefix + REQUEST, request.version)]
        ops += [Check(self._prefix + key, None) for key in absent]
        ops += [Create(self._prefix + key, value) for key, value in create.items()]
        ops += [Put(self._prefix + key, value) for key, value in (put or {}).items()]
        ops += [Delete(self._prefix + key) for key in delete]
        ops += [Put(timer.key(self._flow), dump(timer)) for timer in timers]
        if is_alive:
            ops.append(Delete(failed_key(self._flow, self._request_id, request.record.ended or 0.0)))
        if change is not None:
            ops.append(Put(self._prefix + REQUEST, dump(change)))
            ops += self._lists(request, change)
        return self._commit(ops, listing)

    def arrive(self, put: Mapping[str, bytes], listing: Iterable[str]) -> Commit:
        """Put arrivals, which is harmless to repeat, and read who has arrived."""
        return self._commit([Put(self._prefix + key, value) for key, value in put.items()], listing)

    def write(self, values: Mapping[str, bytes]) -> None:
        """Write values that nothing refers to yet."""
        self._store.transact([Put(self._prefix + key, value) for key, value in values.items()])

    def create(
        self,
        key: str,
        value: bytes,
        *,
        delete: Iterable[str] = (),
        timers: Iterable[Timer] = (),
        dead: RequestRecord | None = None,
    ) -> bool:
        """Create one record, with what goes and comes because of it; False if it exists. With `dead` the request
        becomes a dead letter."""
        ops: list[Op] = [Create(self._prefix + key, value), *(Delete(self._prefix + old) for old in delete)]
        ops += [Put(timer.key(self._flow), dump(timer)) for timer in timers]
        if dead is not None:
            ops.append(self._dead(dead))
        return self._store.transact(ops).committed

    def replace(self, key: str, old: bytes, new: bytes) -> bool:
        """Replace a value by another; False if it is not the one that was read."""
        return self._store.update(self._prefix + key, old, new)

    def keys(self, prefix: str = "") -> list[str]:
        """The keys that start with `prefix`, without what stands under them."""
        cut = len(self._prefix)
        return [key[cut:] for key in self._store.keys(self._prefix + prefix)]

    def take(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Remove what stands under the keys that start with `prefix`, one at a time as it is asked for: what this call
        removed, and nobody else did."""
        for key, entry in self._store.read([], [self._prefix + prefix]).items():
            if self._store.transact([Check(key, entry.version), Delete(key)]).committed:
                yield key.removeprefix(self._prefix), entry.value

    def set_timers(self, timers: Iterable[Timer]) -> None:
        """Set timers."""
        self._store.transact([Put(timer.key(self._flow), dump(timer)) for timer in timers])

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
        return Put(index_key(self._flow, self._request_id, record.created), self._id)

    def _watched(self, record: RequestRecord) -> list[Op]:
        """The first look of the clock at a request."""
        if record.look is None:
            return []
        timer = Timer(self._request_id, record.look, since=record.created, run=record.run)
        return [Put(timer.key(self._flow), dump(timer))]

    def _dead(self, record: RequestRecord) -> Op:
        return Put(failed_key(self._flow, self._request_id, record.ended or 0.0), self._id)

    def _lists(self, request: StoredRequest, change: RequestRecord) -> list[Op]:
        """What a change of the request's state means for the lists."""
        before, is_new = request.record, request.version is None
        ops: list[Op] = [self._listed(change)] if is_new else []
        if change.state.has_ended and not before.state.has_ended:
            ops.append(Put(ended_key(self._flow, self._request_id, change.ended or 0.0), self._id))
            if change.state is RequestState.FAILED:
                ops.append(self._dead(change))
            if change.closing:
                ops += self._watched(change) if is_new else []
            elif before.look is not None and not is_new:
                ops.append(Delete(Timer(self._request_id, before.look).key(self._flow)))
        elif before.state.has_ended and not change.state.has_ended:
            ops.append(Delete(ended_key(self._flow, self._request_id, before.ended or 0.0)))
            ops.append(Delete(failed_key(self._flow, self._request_id, before.ended or 0.0)))
            ops += self._watched(change)
        elif is_new:
            ops += self._watched(change)
        return ops

    @property
    def _id(self) -> bytes:
        return self._request_id.encode()

    def _relative(self, entries: Mapping[str, Entry]) -> dict[str, bytes]:
        cut = len(self._prefix)
        return {key[cut:]: entry.value for key, entry in entries.items()}


def read_requests(store: StateStore, flow: str, ids: Iterable[str]) -> dict[str, StoredRequest]:
    """Several requests by their ids, in one round trip; those that do not exist are left out."""
    keys = {request_prefix(flow, id) + REQUEST: id for id in ids}
    entries = store.read(list(keys)) if keys else {}
    return {keys[key]: _stored(key, entry) for key, entry in entries.items()}


def _stored(key: str, entry: Entry) -> StoredRequest:
    return StoredRequest(load(entry.value, RequestRecord, key), entry.version)


def index_prefix(flow: str) -> str:
    """What the keys that list a flow's requests start with."""
    return f"faasflow/{escape(flow)}/$requests/"


def index_key(flow: str, request_id: str, created: float) -> str:
    """Where a request is listed; keys sort the newest first."""
    return f"{index_prefix(flow)}{newest_first(created)}-{escape(request_id)}"
