"""The Consul store, on a real Consul."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faasflow.ports import StateStore
from faasflow.stores.consul import ConsulStateStore
from faasflow.testing.contracts import StateStoreContract
from faasflow.testing.state_machine import run_state_machine
from tests.servers.consul import ConsulServer


class TestContract(StateStoreContract):
    @pytest.fixture
    def store(self, consul_server: ConsulServer) -> Iterator[StateStore]:
        store = ConsulStateStore.from_url(consul_server.url)
        store.init()
        yield store
        store.cleanup()
        store.close()

    @pytest.fixture
    def peer(self, consul_server: ConsulServer) -> Iterator[StateStore]:
        peer = ConsulStateStore.from_url(consul_server.url)
        yield peer
        peer.close()


def test_it_behaves_like_a_dict(consul_server: ConsulServer) -> None:
    run_state_machine(lambda: ConsulStateStore.from_url(consul_server.url), max_examples=20, steps=30)
