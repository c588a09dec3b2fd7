"""Every store behaves like a dict, whatever is done to it; and the machine that says so finds the faults it should."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from faasflow.ports import Check, Create, Delete, Entry, ListPrefix, Op, Outcome, Put
from faasflow.stores.memory import MemoryStateStore
from faasflow.stores.sqlite import SqliteStateStore
from faasflow.testing.state_machine import StateStoreMachine, run_state_machine


def test_the_memory_store_behaves_like_a_dict() -> None:
    run_state_machine(MemoryStateStore, max_examples=60)


def test_the_sqlite_store_behaves_like_a_dict(tmp_path: Path) -> None:
    numbers = itertools.count()
    run_state_machine(lambda: SqliteStateStore(tmp_path / f"{next(numbers)}.db"))


class ReusesVersions(MemoryStateStore):
    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        return {key: Entry(entry.value, len(entry.value)) for key, entry in super().read(keys, prefixes).items()}


class WritesBeforeItChecks(MemoryStateStore):
    def transact(self, ops: Sequence[Op]) -> Outcome:
        super().transact([op for op in ops if isinstance(op, Put | Delete)])
        return super().transact(ops)


class ListsBeforeItWrites(MemoryStateStore):
    def transact(self, ops: Sequence[Op]) -> Outcome:
        before = super().transact([op for op in ops if isinstance(op, ListPrefix)])
        outcome = super().transact(ops)
        return Outcome(outcome.conflicts, {} if outcome.conflicts else before.entries)


class CreatesOverWhatIsThere(MemoryStateStore):
    def transact(self, ops: Sequence[Op]) -> Outcome:
        return super().transact([Put(op.key, op.value) if isinstance(op, Create) else op for op in ops])


class IgnoresChecks(MemoryStateStore):
    def transact(self, ops: Sequence[Op]) -> Outcome:
        return super().transact([op for op in ops if not isinstance(op, Check)])


class ClearsTooMuch(MemoryStateStore):
    def clear(self, prefix: str) -> None:
        super().clear(prefix.rstrip("/"))


class ListsFromAfterOn(MemoryStateStore):
    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> dict[str, bytes]:
        return super().list(prefix, after=after[:-1], limit=limit)


class GivesKeysBackwards(MemoryStateStore):
    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[str]:
        return super().keys(prefix, after=after, limit=limit)[::-1]


class TakesEmptyForMissing(MemoryStateStore):
    def update(self, key: str, old: bytes | None, new: bytes) -> bool:
        return super().update(key, old or None, new)


@pytest.mark.parametrize(
    "faulty",
    [
        *(ReusesVersions, WritesBeforeItChecks, ListsBeforeItWrites, CreatesOverWhatIsThere, IgnoresChecks),
        *(ClearsTooMuch, ListsFromAfterOn, GivesKeysBackwards, TakesEmptyForMissing),
    ],
)
def test_the_machine_finds_a_store_that(faulty: type[MemoryStateStore]) -> None:
    class Machine(StateStoreMachine):
        make_store = faulty

    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Machine, settings=settings(max_examples=300, phases=[Phase.generate], database=None, derandomize=True)
        )
