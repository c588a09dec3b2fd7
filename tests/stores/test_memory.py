"""The memory stores keep the contract."""

from __future__ import annotations

import pytest

from faasflow.ports import DataStore, StateStore
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing.contracts import DataStoreContract, StateStoreContract


class TestMemoryStateStore(StateStoreContract):
    @pytest.fixture
    def store(self) -> StateStore:
        return MemoryStateStore()


class TestMemoryDataStore(DataStoreContract):
    @pytest.fixture
    def store(self) -> DataStore:
        return MemoryDataStore()
