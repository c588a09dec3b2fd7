"""The record of one request in the state store: its keys, what is read together, what is written together.

Keys, below `faasflow/<flow>/<request>/`: `request`, `incarnation`, `input`, `node/<path>`, `branches/<path>`,
`arrived/<path>#<group>/<who>`, `attempt/<step>/<n>`, `lease/<step>`, `start/<step>`, `again/<run>/<step>/<claim>`,
`trouble/<run>/<step>`, `override/<step>`, `parked/<step>`, `data/<name>`. Beside the requests,
`faasflow/<flow>/$requests/<newest first>` lists them, and `timers` names the rest. Nothing else decides anything, and
what has arrived or ended is not counted. The lists follow the requests: each change of a request's state is in one
transaction with the entries that it adds and removes.

A request id may be used again after its request was removed. `incarnation` is written at the start and again when a
removal begins, so its version identifies one incarnation: every write requires either that version or the version of
the request's own record. A delivery that outlives its request therefore writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from faasflow.engine.lifecycle import RequestState
from faasflow.engine.records import RECORD_VERSION, IncarnationRecord, RequestRecord, dump, load
from faasflow.engine.timers import Timer, ended_key, failed_key, look_timer, newest_first
from faasflow.errors import KeyNotFoundError, RequestNotFoundError, StoreCorruptError, TryAgainError
from faasflow.naming import escape, request_prefix
from faasflow.ports import Check, Create, Delete, Entry, ListPrefix, Op, Outcome, Put, StateStore, Version

REQUEST = "request"
INCARNATION = "incarnation"
INPUT = "input"

_UNREAD: Version = object()


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request's record and the version at which it was read."""

    record: RequestRecord
    version: Version


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A request whose record this version cannot read."""

    why: str
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
    """The ledger of one incarnation of a request: that which was there at the first read. Every method but `take` is
    one round trip to the store. `RequestNotFoundError` for a write after the incarnation was removed; `is_gone` says
    whether that was noticed."""

    def __init__(self, store: StateStore, flow: str, request_id: str) -> None:
        self._store = store
        self._flow = flow
        self._request_id = request_id
        self._prefix = request_prefix(flow, request_id)
        self._incarnation: Version | None = _UNREAD
        self.is_gone = False
        self._start: Timer | None = None
        self._reserved: Check | None = None

    @property
    def request_id(self) -> str:
        return self._request_id

    def read(self, keys: Sequence[str] = (), prefixes: Sequence[str] = ()) -> Snapshot:
        """The request's record and what stands under `keys` and `prefixes`, from one moment. A request that is being
        removed is not there."""
        entries = self._store.read(
            [self._prefix + key for key in (REQUEST, INCARNATION, *keys)],
            [self._prefix + prefix for prefix in prefixes],
        )
        request = entries.pop(self._prefix + REQUEST, None)
        if self._seen(entries.pop(self._prefix + INCARNATION, None)) != self._incarnation or request is None:
            self.is_gone = True
            return Snapshot(None, {})
        stored = _stored(self._prefix + REQUEST, request)
        self.is_gone = stored.record.is_removed
        return Snapshot(None, {}) if self.is_gone else Snapshot(stored, self._relative(entries))

    def stored(self) -> StoredRequest | None:
        """The request's record, also while it is being removed."""
        found = read_requests(self._store, self._flow, [self._request_id]).get(self._request_id)
        if isinstance(found, Unreadable):
            raise StoreCorruptError(found.why)
        return found

    def expect_start(self, timer: Timer) -> None:
        """The request is about to be recorded for the first time. `timer` removes what was written until then, if it
        never is."""
        self._start = timer

    def reserve(self) -> None:
        """Set the timer of a start before the first write. The request's record then requires and deletes it: once the
        timer has fired, an answer that comes late records nothing."""
        if self._start is None or self._reserved is not None:
            return
        key = self._start.key(self._flow)
        outcome = self._store.transact([Put(key, dump(self._start)), ListPrefix(key)])
        self._reserved = Check(key, outcome.entries[key].version)

    def cancel_start(self) -> bool:
        """Let the start never be recorded; whether it has written anything that is now to be removed."""
        if self._start is None or self._reserved is None:
            return False
        cancelled = dump(msgspec.structs.replace(self._start, tries=self._start.tries + 1))
        return self._store.transact([self._reserved, Put(self._reserved.key, cancelled)]).committed

    def forget_start(self) -> None:
        """What a start has written is removed, or belongs to a request."""
        if self._reserved is not None:
            self._store.delete(self._reserved.key)
        self._start = self._reserved = None

    def start(self, record: RequestRecord, creates: Mapping[str, bytes]) -> bool:
        """Record a new request; False if it exists. `TryAgainError` if the timer of the start has fired."""
        ops: list[Op] = [Create(self._prefix + REQUEST, dump(record)), *self._begun(record)]
        ops += [Create(self._prefix + key, value) for key, value in creates.items()]
        return self._recorded(self._store.transact([*ops, self._listed(record), *self._watched(record)]))

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
        if request.version is None:
            ops += self._begun(request.record)
        if is_alive:
            ops.append(Delete(failed_key(self._flow, self._request_id, request.record.ended or 0.0)))
        if change is not None:
            ops.append(Put(self._prefix + REQUEST, dump(change)))
            ops += self._lists(request, change)
        return self._commit(ops, listing)

    def arrive(self, put: Mapping[str, bytes], listing: Iterable[str]) -> Commit:
        """Put arrivals, which is harmless to repeat, and read who has arrived."""
        return self._commit([*self._alive(), *(Put(self._prefix + key, value) for key, value in put.items())], listing)

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
        ops: list[Op] = [*self._alive(), Create(self._prefix + key, value)]
        ops += [Delete(self._prefix + old) for old in delete]
        ops += [Put(timer.key(self._flow), dump(timer)) for timer in timers]
        if dead is not None:
            ops.append(self._dead(dead))
        return self._commit(ops).is_done

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

    def claim(self, keys: Sequence[str]) -> set[str]:
        """Create empty records, together or not at all; those that somebody else has created, none if all were."""
        return set(self._commit([*self._alive(), *(Create(self._prefix + key, b"") for key in keys)]).conflicts)

    def set_timers(self, timers: Iterable[Timer]) -> None:
        """Set timers."""
        self._store.transact([Put(timer.key(self._flow), dump(timer)) for timer in timers])

    def delete(self, key: str) -> None:
        """Remove one key."""
        self._commit([*self._alive(), Delete(self._prefix + key)])

    def set(self, key: str, value: bytes) -> None:
        """Write one key, whatever was there."""
        self.reserve()
        self._commit([*self._alive(), Put(self._prefix + key, value)])

    def get(self, key: str) -> bytes:
        """One value; `KeyNotFoundError` if there is none, `RequestNotFoundError` after the incarnation was removed."""
        place, guard = self._prefix + key, self._prefix + INCARNATION
        entries = self._store.read([place, guard])
        if self._seen(entries.get(guard)) != self._incarnation:
            raise self._gone()
        if place not in entries:
            raise KeyNotFoundError(f"Nothing is stored under {place!r}.")
        return entries[place].value

    def _commit(self, ops: list[Op], listing: Iterable[str] = ()) -> Commit:
        outcome: Outcome = self._store.transact([*ops, *(ListPrefix(self._prefix + prefix) for prefix in listing)])
        if self._reserved in ops:
            self._recorded(outcome)
        cut = len(self._prefix)
        commit = Commit(frozenset(key[cut:] for key in outcome.conflicts), self._relative(outcome.entries))
        if INCARNATION in commit.conflicts and REQUEST not in commit.conflicts:
            raise self._gone()
        return commit

    def _gone(self) -> RequestNotFoundError:
        self.is_gone = True
        return RequestNotFoundError(f"Request {self._request_id!r} was removed meanwhile.")

    def _begun(self, record: RequestRecord) -> list[Op]:
        """What stands for a new incarnation."""
        self._incarnation = _UNREAD
        ops: list[Op] = [Create(self._prefix + INCARNATION, dump(IncarnationRecord(record.incarnation)))]
        return ops if self._reserved is None else [*ops, self._reserved, Delete(self._reserved.key)]

    def _recorded(self, outcome: Outcome) -> bool:
        if self._reserved is not None and self._reserved.key in outcome.conflicts and len(outcome.conflicts) == 1:
            raise TryAgainError(f"The start of request {self._request_id!r} took too long.")
        if outcome.committed:
            self._start = self._reserved = None
        return outcome.committed

    def _seen(self, incarnation: Entry | None) -> Version | None:
        """The version of the incarnation that was read; the first one is this ledger's own."""
        version = incarnation.version if incarnation is not None else None
        if self._incarnation is _UNREAD:
            self._incarnation = version
        return version

    def _alive(self) -> list[Op]:
        """Requires that the incarnation is still there."""
        if self._incarnation is _UNREAD:
            self.read()
        return [Check(self._prefix + INCARNATION, self._incarnation)]

    def _listed(self, record: RequestRecord) -> Op:
        return Put(index_key(self._flow, self._request_id, record.created), self._id)

    def _watched(self, record: RequestRecord) -> list[Op]:
        """The first look of the clock at a request."""
        if record.look is None:
            return []
        timer = look_timer(self._request_id, record.look, record.created, record.life)
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
                ops.append(Delete(look_timer(self._request_id, before.look, 0.0, before.life).key(self._flow)))
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


def read_requests(store: StateStore, flow: str, ids: Iterable[str]) -> dict[str, StoredRequest | Unreadable]:
    """Several requests by their ids, in one round trip; those that do not exist are left out."""
    keys = {request_prefix(flow, id) + REQUEST: id for id in ids}
    entries = store.read(list(keys)) if keys else {}
    found: dict[str, StoredRequest | Unreadable] = {}
    for key, entry in entries.items():
        try:
            found[keys[key]] = _stored(key, entry)
        except StoreCorruptError as error:
            found[keys[key]] = Unreadable(str(error), entry.version)
    return found


def load_id(value: bytes, key: str) -> str:
    """The request id in an entry of a list; `StoreCorruptError`, which names its `key`, if it is none."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise StoreCorruptError(f"The record {key!r} names no request: {error}") from error


def _stored(key: str, entry: Entry) -> StoredRequest:
    record = load(entry.value, RequestRecord, key)
    if record.version > RECORD_VERSION:
        raise StoreCorruptError(f"The record {key!r} cannot be read: it was written by a newer version.")
    return StoredRequest(record, entry.version)


def index_prefix(flow: str) -> str:
    """What the keys that list a flow's requests start with."""
    return f"faasflow/{escape(flow)}/$requests/"


def index_key(flow: str, request_id: str, created: float) -> str:
    """Where a request is listed; keys sort the newest first."""
    return f"{index_prefix(flow)}{newest_first(created)}-{escape(request_id)}"
