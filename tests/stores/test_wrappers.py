"""The stores for tests: they are stores in every respect, and count or fail exactly as they were told."""

from __future__ import annotations

import pytest

from faasflow.errors import StoreUnavailableError
from faasflow.ports import Check, Create, DataStore, ListPrefix, Put, StateStore
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing.contracts import DataStoreContract, StateStoreContract, together
from faasflow.testing.counting import CountingDataStore, CountingStore
from faasflow.testing.faults import FlakyDataStore, FlakyStore, Operation, sometimes


class TestCountingStore(StateStoreContract):
    @pytest.fixture
    def store(self) -> StateStore:
        return CountingStore(MemoryStateStore())


class TestCountingDataStore(DataStoreContract):
    @pytest.fixture
    def store(self) -> DataStore:
        return CountingDataStore(MemoryDataStore())


class TestFlakyStoreWithoutFaults(StateStoreContract):
    @pytest.fixture
    def store(self) -> StateStore:
        return FlakyStore(MemoryStateStore())


class TestFlakyDataStoreWithoutFaults(DataStoreContract):
    @pytest.fixture
    def store(self) -> DataStore:
        return FlakyDataStore(MemoryDataStore())


def test_every_state_operation_counts_as_one_read_or_one_write() -> None:
    store = CountingStore(MemoryStateStore())
    view = store.configure("flow", "1")
    view.set("a", b"1")
    view.update("a", b"1", b"2")
    view.delete("a")
    view.transact([Create("a", b""), Put("b", b""), ListPrefix("")])
    view.cleanup()

    assert (store.reads, store.writes) == (0, 5)

    view.set("a", b"1")
    store.reset()
    view.get("a")
    view.list("")
    view.keys("")
    view.read(["a", "b"], ["c/"])
    view.transact([Check("a", None), ListPrefix("")])

    assert (store.reads, store.writes) == (view.reads, view.writes) == (5, 0)


def test_init_close_and_configure_are_not_counted() -> None:
    state, data = CountingStore(MemoryStateStore()), CountingDataStore(MemoryDataStore())
    for store in (state, data):
        store.init()
        store.configure("flow", "1").close()

    assert (state.reads, state.writes) == (0, 0)
    assert (data.gets, data.sets, data.others) == (0, 0, 0)


def test_data_operations_are_counted_by_kind() -> None:
    store = CountingDataStore(MemoryDataStore())
    view = store.configure("flow", "1")
    view.set("a", b"")
    view.get("a")
    view.get("a")
    view.list("")
    view.delete("a")
    view.cleanup()

    assert (store.gets, store.sets, store.others) == (2, 1, 3)
    store.reset()
    assert (store.gets, store.sets, store.others) == (0, 0, 0)


def test_threads_lose_no_count() -> None:
    store = CountingStore(MemoryStateStore())
    together(lambda name: [store.set(f"{name}/{number}", b"") for number in range(500)], range(8))

    assert store.writes == 4000


def test_a_fault_before_an_operation_leaves_it_undone() -> None:
    inner = MemoryStateStore()
    store = FlakyStore(inner, before=lambda operation: operation.is_write)
    with pytest.raises(StoreUnavailableError, match="before operation 1"):
        store.configure("flow", "1").set("a", b"")

    assert inner.list("") == {}
    assert store.list("") == {}


def test_a_fault_after_an_operation_leaves_it_done() -> None:
    inner = MemoryStateStore()
    store = FlakyStore(inner, after=lambda operation: operation.name == "transact")
    with pytest.raises(StoreUnavailableError, match="after operation 1"):
        store.transact([Create("a", b"1")])

    assert inner.list("") == {"a": b"1"}


def test_data_stores_fail_in_the_same_ways() -> None:
    inner = MemoryDataStore()
    store = FlakyDataStore(
        inner, before=lambda operation: operation.number == 1, after=lambda operation: operation.number == 2
    )
    for value in (b"undone", b"done"):
        with pytest.raises(StoreUnavailableError):
            store.set("a", value)

    assert store.get("a") == b"done"


def test_a_list_of_keys_fails_as_every_read_does() -> None:
    store = FlakyStore(MemoryStateStore(), before=lambda operation: not operation.is_write)

    with pytest.raises(StoreUnavailableError, match="'keys'"):
        store.configure("flow", "1").keys("")


def test_operations_are_numbered_across_views() -> None:
    seen: list[Operation] = []
    store = FlakyStore(MemoryStateStore(), before=lambda operation: bool(seen.append(operation)))
    store.configure("flow", "1").set("a", b"")
    store.configure("flow", "2").list("")

    assert seen == [Operation("set", 1, is_write=True), Operation("list", 2, is_write=False)]


def test_a_seed_fails_the_same_operations_again() -> None:
    def failures(seed: int) -> list[int]:
        fails = sometimes(0.3, seed=seed)
        return [number for number in range(1000) if fails(Operation("get", number, is_write=False))]

    assert failures(7) == failures(7) != failures(8)
    assert 200 < len(failures(7)) < 400
