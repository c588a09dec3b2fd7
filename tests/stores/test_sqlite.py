"""The SQLite stores keep the contract, and share one connection in each process."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from faasflow.errors import ConfigError, StoreError, StoreUnavailableError, ValueTooLargeError
from faasflow.ports import Create, DataStore, ListPrefix, Put, StateStore
from faasflow.stores.sqlite import SqliteDataStore, SqliteStateStore
from faasflow.stores.sqlite_file import shared_file
from faasflow.testing.contracts import DataStoreContract, StateStoreContract
from tests.support import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


class TestSqliteStateStore(StateStoreContract):
    @pytest.fixture(params=["normal", "full"])
    def store(self, path: Path, request: pytest.FixtureRequest) -> Iterator[StateStore]:
        store = SqliteStateStore(path, durability=request.param)
        yield store
        store.close()

    @pytest.fixture
    def peer(self, store: StateStore, path: Path) -> Iterator[StateStore]:
        peer = SqliteStateStore(path)
        yield peer
        peer.close()


class TestSqliteDataStore(DataStoreContract):
    @pytest.fixture
    def store(self, path: Path) -> Iterator[DataStore]:
        store = SqliteDataStore(path)
        yield store
        store.close()


def test_nothing_is_opened_before_the_first_use(path: Path) -> None:
    store = SqliteStateStore(path)
    view = store.configure("flow", "1")

    assert not path.exists()
    view.init()
    assert path.exists()
    store.close()


def test_the_folder_of_the_file_is_made(tmp_path: Path) -> None:
    path = tmp_path / "some" / "new folder" / "store.db"
    SqliteStateStore(path).set("key", b"value")

    assert path.is_file()


def test_what_was_written_is_there_when_the_file_is_opened_again(path: Path) -> None:
    for number in range(3):
        store = SqliteStateStore(path)
        assert len(store.list("")) == number
        store.set(f"key/{number}", b"value")
        store.close()

    assert not path.with_name("store.db-wal").exists()


def test_versions_do_not_return_when_the_file_is_opened_again(path: Path) -> None:
    versions = []
    for _ in range(4):
        store = SqliteStateStore(path)
        versions.append(store.transact([Create("key", b"same"), ListPrefix("")]).entries["key"].version)
        store.delete("key")
        store.close()

    assert len(set(versions)) == 4


def test_versions_that_were_rolled_back_with_their_transaction_are_not_used(path: Path) -> None:
    store = SqliteStateStore(path)
    file = shared_file(str(path))

    def fail_as_on_a_full_disk(db: sqlite3.Connection) -> None:
        file.next_version(db)
        db.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(StoreError):
        file.write(fail_as_on_a_full_disk)
    here = file.write(file.next_version)
    elsewhere = sqlite3.connect(path).execute("SELECT unused FROM versions").fetchone()[0]

    assert here < elsewhere
    store.close()


def test_a_closed_store_says_so(path: Path) -> None:
    store = SqliteStateStore(path)
    view = store.configure("flow", "1")
    store.close()

    with pytest.raises(StoreError, match="closed"):
        view.set("key", b"value")


def test_closing_one_store_leaves_the_others_of_the_file_open(path: Path) -> None:
    state, data, other = SqliteStateStore(path), SqliteDataStore(path), SqliteStateStore(path)
    for store in (state, data, other):
        store.set("key", b"value")
    state.close()
    data.set("key", b"new")
    data.close()

    assert other.get("key") == b"value"
    assert _connections(path) == 1
    other.close()
    assert _connections(path) == 0


def test_stores_of_one_process_share_one_connection(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    stores = [SqliteStateStore(path), SqliteStateStore(os.path.relpath(path)), SqliteDataStore(link)]
    for store in stores:
        store.set("key", b"value")

    assert _connections(path) == 1
    for store in stores:
        store.close()


def test_a_store_that_nobody_holds_is_closed(path: Path) -> None:
    SqliteStateStore(path).set("key", b"value")

    assert _connections(path) == 0


def test_a_file_waits_for_the_disk_as_soon_as_one_of_its_stores_asks_for_it(path: Path) -> None:
    store = SqliteStateStore(path)
    store.init()
    assert _pragma(path, "synchronous") == 1

    full = SqliteDataStore(path, durability="full")
    assert _pragma(path, "synchronous") == 2
    store.close()
    full.close()


def test_an_unknown_durability_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="'fast'"):
        SqliteStateStore(path, durability="fast")  # type: ignore[arg-type]


def test_a_file_that_is_held_too_long_is_unavailable_and_then_works_again(path: Path) -> None:
    store = SqliteStateStore(path, busy_timeout=0.05)
    store.set("key", b"before")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailableError, match=r"store\.db"):
        store.set("key", b"meanwhile")
    assert store.get("key") == b"before"
    other.close()
    store.set("key", b"after")
    assert store.get("key") == b"after"


def test_a_value_that_is_too_large_for_sqlite_is_refused(path: Path) -> None:
    store = SqliteDataStore(path)
    store.set("key", b"before")

    with pytest.raises(ValueTooLargeError):
        store.set("key", bytes(1_000_000_001))
    assert store.get("key") == b"before"


def test_writes_that_wait_together_do_not_share_a_refusal(path: Path) -> None:
    store, too_large = SqliteDataStore(path), bytes(1_000_000_001)
    store.init()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(store.set, str(number), too_large if number == 5 else b"") for number in range(8)]
        wait_until(lambda: len(shared_file(str(path))._waiting) == 7, "all but the first to wait for their turn")
        other.execute("ROLLBACK")

    refused = [number for number, write in enumerate(writes) if write.exception()]
    assert refused == [5]
    assert isinstance(writes[5].exception(), ValueTooLargeError)
    assert store.list("") == [str(number) for number in range(8) if number != 5]
    other.close()


def test_threads_that_wait_together_are_committed_together(path: Path) -> None:
    store = SqliteStateStore(path)
    store.init()
    file, statements = shared_file(str(path)), []
    file.read(lambda db: db.set_trace_callback(statements.append))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(store.update, f"key/{number % 4}", None, b"") for number in range(8)]
        wait_until(lambda: len(file._waiting) == 7, "all but the first to wait for their turn")
        other.execute("ROLLBACK")

    assert sorted(write.result() for write in writes) == [False] * 4 + [True] * 4
    assert statements.count("COMMIT") == 2
    other.close()


@pytest.mark.parametrize("operation", ["get", "list", "read", "transact", "page", "data"])
def test_the_cost_of_an_operation_does_not_grow_with_what_is_stored(path: Path, operation: str) -> None:
    state, data = SqliteStateStore(path), SqliteDataStore(path)
    view = state.configure("flow", "5000")
    operations = {
        "get": lambda: view.get("node/1"),
        "list": lambda: view.list("node/"),
        "read": lambda: view.read(["request", "missing"], ["node/", "none/"]),
        "transact": lambda: view.transact([Put("request", b""), Create("new", b""), ListPrefix("node/")]),
        "page": lambda: state.list("faasflow/flow/", after="faasflow/flow/5000/", limit=2),
        "data": lambda: data.configure("flow", "5000").list(""),
    }
    steps = []
    for count in (1, 3000):
        _fill(state, data, count)
        view.delete("new")
        operations[operation]()
        view.delete("new")
        steps.append(_steps_of(path, operations[operation]))

    assert steps[1] <= steps[0] + 5
    state.close()
    data.close()


def _fill(state: StateStore, data: DataStore, count: int) -> None:
    for number in (*range(5000 - count, 5000), 5000, *range(5001, 5001 + count)):
        state.transact([Put(f"faasflow/flow/{number}/{name}", b"value") for name in ("request", "node/1", "node/2")])
    for number in (*range(5000 - count // 10, 5000), 5000):
        data.configure("flow", str(number)).set("key", b"value")


def _steps_of(path: Path, operation: Any) -> int:
    """How many instructions of SQLite's virtual machine an operation takes."""
    counted: list[None] = []
    file = shared_file(str(path))
    file.read(lambda db: db.set_progress_handler(lambda: counted.append(None), 1))
    operation()
    file.read(lambda db: db.set_progress_handler(None, 1))
    return len(counted)


def _pragma(path: Path, name: str) -> Any:
    return shared_file(str(path)).read(lambda db: db.execute(f"PRAGMA {name}").fetchone()[0])


def _connections(path: Path) -> int:
    folder = Path("/proc/self/fd")
    return sum(os.path.realpath(link) == str(path) for link in folder.iterdir())
