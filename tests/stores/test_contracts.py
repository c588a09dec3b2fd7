"""The contract is worth its name: stores that are wrong only when threads meet do not pass it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from faasflow.ports import Check, Create, Entry, ListPrefix, Op, Outcome, Put
from faasflow.stores.memory import MemoryStateStore
from faasflow.testing.contracts import StateStoreContract


class UpdatesInTwoSteps(MemoryStateStore):
    def update(self, key: str, old: bytes | None, new: bytes) -> bool:
        entry = self.read([key]).get(key)
        if (entry.value if entry else None) != old:
            return False
        self.transact([Put(key, new)])
        return True


class ReadsOneByOne(MemoryStateStore):
    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for key in keys:
            found |= super().read([key])
        for prefix in prefixes:
            found |= super().read([], [prefix])
        return found


class ListsInAStepOfItsOwn(MemoryStateStore):
    def transact(self, ops: Sequence[Op]) -> Outcome:
        outcome = super().transact([op for op in ops if not isinstance(op, ListPrefix)])
        if not outcome.committed:
            return outcome
        return super().transact([op for op in ops if isinstance(op, ListPrefix)])


class ChecksInAStepOfItsOwn(MemoryStateStore):
    def transact(self, ops: Sequence[Op]) -> Outcome:
        guards: list[Op] = [
            Check(op.key, None) if isinstance(op, Create) else op for op in ops if not isinstance(op, Put)
        ]
        outcome = super().transact(guards)
        if not outcome.committed:
            return outcome
        return super().transact([Put(op.key, op.value) if isinstance(op, Create) else op for op in ops])


class MovesInTwoSteps(MemoryStateStore):
    def transact(self, ops: Sequence[Op]) -> Outcome:
        outcome = super().transact([op for op in ops if isinstance(op, Check)])
        if not outcome.committed:
            return outcome
        return super().transact([op for op in ops if not isinstance(op, Check)])


class ListsKeysInTwoPages(MemoryStateStore):
    def keys(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[str]:
        first = super().keys(prefix, after=after, limit=20)
        time.sleep(0.001)  # others write between the pages
        return [*first, *super().keys(prefix, after=first[-1])] if first else []


@pytest.mark.parametrize(
    ("faulty", "claim"),
    [
        (UpdatesInTwoSteps, "test_one_of_many_creates_wins"),
        (UpdatesInTwoSteps, "test_a_counter_of_compare_and_set_is_exact"),
        (ReadsOneByOne, "test_a_read_is_one_moment"),
        (ListsInAStepOfItsOwn, "test_of_many_arrivals_one_sees_them_all"),
        (MovesInTwoSteps, "test_of_many_that_move_a_key_one_does"),
        (ListsKeysInTwoPages, "test_keys_are_of_one_moment"),
        (ChecksInAStepOfItsOwn, "test_of_transactions_that_overlap_one_wins_whole"),
    ],
)
def test_the_contract_refuses_a_store_that(faulty: type[MemoryStateStore], claim: str) -> None:
    def check(store: MemoryStateStore) -> None:
        getattr(StateStoreContract(), claim)(store, store)

    # One round may go well by chance.
    with pytest.raises(AssertionError):
        _repeat(lambda: check(faulty()), 100)


def _repeat(act: Callable[[], None], times: int) -> None:
    for _ in range(times):
        act()
