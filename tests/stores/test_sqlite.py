"""The SQLite stores keep the contract, and what only a file can be asked: other processes, kill -9, damage, forks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faasflow.ports import DataStore, StateStore
from faasflow.stores.sqlite import SqliteDataStore, SqliteStateStore
from faasflow.testing.contracts import DataStoreContract, StateStoreContract


class TestSqliteStateStore(StateStoreContract):
    @pytest.fixture(params=["normal", "full"])
    def store(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StateStore]:
        store = SqliteStateStore(tmp_path / "store.db", durability=request.param)
        yield store
        store.close()

    @pytest.fixture
    def peer(self, store: StateStore, tmp_path: Path) -> Iterator[StateStore]:
        peer = SqliteStateStore(tmp_path / "store.db")
        yield peer
        peer.close()


class TestSqliteDataStore(DataStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[DataStore]:
        store = SqliteDataStore(tmp_path / "store.db")
        yield store
        store.close()
