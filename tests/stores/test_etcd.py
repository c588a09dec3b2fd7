"""The etcd store, on a real etcd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faasflow.ports import StateStore
from faasflow.stores.etcd import EtcdStateStore
from faasflow.testing.contracts import StateStoreContract
from faasflow.testing.state_machine import run_state_machine
from tests.servers.etcd import EtcdServer


class TestContract(StateStoreContract):
    @pytest.fixture
    def store(self, etcd_server: EtcdServer) -> Iterator[StateStore]:
        store = EtcdStateStore.from_url(etcd_server.url)
        store.init()
        yield store
        store.cleanup()
        store.close()

    @pytest.fixture
    def peer(self, etcd_server: EtcdServer) -> Iterator[StateStore]:
        peer = EtcdStateStore.from_url(etcd_server.url)
        yield peer
        peer.close()


def test_it_behaves_like_a_dict(etcd_server: EtcdServer) -> None:
    run_state_machine(lambda: EtcdStateStore.from_url(etcd_server.url), max_examples=20, steps=30)
