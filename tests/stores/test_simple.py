"""A store of five plain methods becomes one with transactions, which neither a death nor a delay anywhere breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import Lock

import pytest

from faasflow.errors import KeyNotFoundError
from faasflow.ports import StateStore
from faasflow.stores.simple import SimpleStateStore
from faasflow.testing.contracts import StateStoreContract
from faasflow.testing.state_machine import run_state_machine


class DictStore:
    """The least that a store can be."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self._lock = Lock()

    def init(self) -> None:
        pass

    def get(self, key: str) -> bytes:
        try:
            return self.values[key]
        except KeyError:
            raise KeyNotFoundError(key) from None

    def update(self, key: str, old: bytes | None, new: bytes) -> bool:
        with self._lock:
            is_expected = self.values.get(key) == old
            if is_expected:
                self.values[key] = new
            return is_expected

    def delete(self, key: str) -> None:
        with self._lock:
            self.values.pop(key, None)

    def list(self, prefix: str) -> Mapping[str, bytes]:
        with self._lock:
            return {key: value for key, value in self.values.items() if key.startswith(prefix)}


class TestContract(StateStoreContract):
    @pytest.fixture
    def plain(self) -> DictStore:
        return DictStore()

    @pytest.fixture
    def store(self, plain: DictStore) -> Iterator[StateStore]:
        store = SimpleStateStore(plain)
        store.init()
        yield store
        store.cleanup()
        store.close()

    @pytest.fixture
    def peer(self, plain: DictStore) -> StateStore:
        return SimpleStateStore(plain)


def test_it_behaves_like_a_dict() -> None:
    run_state_machine(lambda: SimpleStateStore(DictStore()))
