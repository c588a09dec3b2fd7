"""The Redis store, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faasflow.ports import StateStore
from faasflow.stores.redis import RedisStateStore
from faasflow.testing.contracts import StateStoreContract
from faasflow.testing.state_machine import run_state_machine
from tests.servers.redis import RedisServer


class TestContract(StateStoreContract):
    @pytest.fixture
    def store(self, redis_server: RedisServer) -> Iterator[StateStore]:
        store = RedisStateStore.from_url(redis_server.url)
        store.init()
        yield store
        store.cleanup()
        store.close()

    @pytest.fixture
    def peer(self, redis_server: RedisServer) -> Iterator[StateStore]:
        peer = RedisStateStore.from_url(redis_server.url)
        yield peer
        peer.close()


def test_it_behaves_like_a_dict(redis_server: RedisServer) -> None:
    run_state_machine(lambda: RedisStateStore.from_url(redis_server.url), max_examples=20, steps=30)
