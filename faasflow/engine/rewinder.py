"""Removes what a retry has to remove, in steps that may be interrupted anywhere.

A retry first puts the request into a new run, in one small transaction that also records what is to be removed
(`RequestRecord.rewinds`). Messages and outcomes of the run before are refused from then on, and messages of the new run
are sent only when nothing is left to remove: nobody ever works on what is half removed. Each step requires the request
to be as it was read, so whoever is late removes nothing of the new run. If the caller of the retry dies, the clock
finishes for it: what is left to remove follows from the definition and from the keys that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import msgspec

from faasflow import graph
from faasflow.engine import rewind, split
from faasflow.engine.attempts import attempt_key, counts
from faasflow.engine.ledger import Ledger, StoredRequest
from faasflow.engine.position import Phase, Position, Step
from faasflow.engine.records import AttemptRecord, NodeRecord, Rewind, dump, load
from faasflow.errors import BranchesFailedError

_OPERATIONS = 40  # Consul 1.8 takes 64 in a transaction, etcd 128
_BYTES = 128 * 1024
_READ_AT_ONCE = 60


@dataclass(frozen=True, slots=True)
class Removal:
    """Keys that go together, and the records that take their place."""

    delete: tuple[str, ...]
    put: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def operations(self) -> int:
        return len(self.delete) + len(self.put)

    @property
    def size(self) -> int:
        return sum(map(len, self.put.values()))


class Rewinder:
    """Carries out the recorded rewinds of one request."""

    def __init__(self, ledger: Ledger, definition: graph.Definition, *, now: float) -> None:
        self._ledger = ledger
        self._definition = definition
        self._now = now
        self._numbers: Mapping[str, int] = {}
        self._options: Callable[[Step], Sequence[str]] = cache(split.options_reader(ledger))

    def finish(self, request: StoredRequest) -> StoredRequest | None:
        """The request once everything is removed. `None` if somebody else finished, who then sends the messages of the
        new run, or the request has ended meanwhile."""
        current: StoredRequest | None = request
        while current is not None and current.record.rewinds:
            is_done = False
            if self._remove(current):
                change = msgspec.structs.replace(current.record, rewinds=())
                is_done = self._ledger.commit(current, create={}, change=change).is_done
            current = self._fresh(request)
            if is_done:
                return current
        return None

    def _remove(self, request: StoredRequest) -> bool:
        for rewound in request.record.rewinds:
            # What one of them removes or writes, the next one must know of.
            keys = set(self._ledger.keys())
            self._numbers = counts(keys)
            for some in _packed(self._removals(rewound, keys, request.record.run - 1)):
                put = {key: value for one in some for key, value in one.put.items()}
                delete = dict.fromkeys(key for one in some for key in one.delete)
                if not self._ledger.commit(request, create={}, put=put, delete=delete).is_done:
                    return False
        return True

    def _fresh(self, request: StoredRequest) -> StoredRequest | None:
        fresh = self._ledger.read().request
        if fresh is None or fresh.record.life != request.record.life or fresh.record.state.has_ended:
            return None
        return fresh

    def _removals(self, rewound: Rewind, keys: set[str], run: int) -> Iterator[Removal]:
        if rewound.is_partial:
            position = rewind.position_of(self._definition, rewound.node, self._options)
            if position is not None:
                yield from self._failed_branches(position, keys, run, rewound.branch)
            return
        behind = rewind.keys_behind(self._definition, rewound.node, keys, self._options) - set(rewound.kept)
        # Who reads what is left must find each record of branches complete.
        for key in sorted(behind, key=lambda key: (key.startswith("branches/"), split.is_chunk(key), key)):
            yield Removal((key,))

    def _failed_branches(
        self, position: Position, keys: set[str], run: int, branch: str | None = None
    ) -> Iterator[Removal]:
        """What goes for the failed branches of a foreach to run again, each from where it failed."""
        found = rewind.branches(self._definition, position, keys, self._options)
        wanted = [one for one in found if branch is None or one.frame.option == branch]
        for first in range(0, len(wanted), _READ_AT_ONCE):
            some = wanted[first : first + _READ_AT_ONCE]
            ends = self._records(one.end for one in some)
            failed = [one for one in some if one.end in ends and ends[one.end].has_failed]
            records = self._records(key for one in failed for key in one.nodes)
            for one in failed:
                yield from self._failed_branch(one, records, keys, run)

    def _failed_branch(
        self, branch: rewind.Branch, records: Mapping[str, NodeRecord], keys: set[str], run: int
    ) -> Iterator[Removal]:
        """Its end goes last: as long as that is there, the rest is found again."""
        yield Removal(tuple(branch.arrivals & keys))
        last = []
        for key, position in branch.nodes.items():
            record = records.get(key)
            if record is None or not record.has_failed:
                continue
            if is_over_tolerance(record, keys):
                yield from self._failed_branches(position, keys, run)
            removal = Removal((key,))
            if record.failure is not None and record.failure.node == position.path:
                step = failed_step(self._definition, position, keys)
                number = self._numbers.get(step.attempts, 0) + 1
                removal = Removal((key,), {attempt_key(step, number): as_attempt(record, self._now, run)})
            if key == branch.end:
                last.append(removal)
            else:
                yield removal
        yield from last

    def _records(self, keys: Iterable[str]) -> dict[str, NodeRecord]:
        wanted = list(keys)
        found: dict[str, NodeRecord] = {}
        for first in range(0, len(wanted), _READ_AT_ONCE):
            entries = self._ledger.read(wanted[first : first + _READ_AT_ONCE]).entries
            found |= {key: load(value, NodeRecord, key) for key, value in entries.items()}
        return found


def failed_step(definition: graph.Definition, position: Position, keys: set[str]) -> Step:
    """The step whose failure is recorded as the outcome of a node."""
    if not rewind.node_of(definition, position).is_dynamic:
        return Step(position, Phase.NODE)
    opened = Step(position, Phase.SPLIT)
    return Step(position, Phase.JOIN) if opened.key in keys else opened


def is_over_tolerance(record: NodeRecord, keys: set[str]) -> bool:
    """Whether a node has failed because too many of its branches did."""
    failure = record.failure
    if failure is None or failure.error_type != BranchesFailedError.__name__:
        return False
    return f"branches/{failure.node}" in keys


def as_attempt(outcome: NodeRecord, now: float, run: int) -> bytes:
    """The record of a step that failed, as that of an attempt."""
    assert outcome.failure is not None
    return dump(AttemptRecord(outcome.started, outcome.ended, outcome.failure, now, run))


def _packed(removals: Iterable[Removal]) -> Iterator[list[Removal]]:
    """As many at a time as fit into a transaction of any store."""
    some: list[Removal] = []
    for removal in removals:
        if some and (
            sum(one.operations for one in some) + removal.operations > _OPERATIONS
            or sum(one.size for one in some) + removal.size > _BYTES
        ):
            yield some
            some = []
        some.append(removal)
    if some:
        yield some
