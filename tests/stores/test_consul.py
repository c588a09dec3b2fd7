"""The Consul store, on a real Consul. What it has in common with other servers stands in `test_network`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from faasflow.errors import StoreError, StoreUnavailableError, ValueTooLargeError
from faasflow.ports import Create, ListPrefix, Op, Put
from faasflow.stores.consul import ConsulStateStore
from faasflow.testing.contracts import StateStoreContract
from faasflow.testing.state_machine import run_state_machine
from tests.servers.consul import ConsulServer
from tests.servers.relay import Relay

TOKEN = "root-token"


@pytest.fixture
def store(consul_server: ConsulServer) -> Iterator[ConsulStateStore]:
    store = ConsulStateStore.from_url(consul_server.url)
    store.init()
    yield store
    store.cleanup()
    store.close()


class TestContract(StateStoreContract):
    @pytest.fixture
    def peer(self, consul_server: ConsulServer) -> Iterator[ConsulStateStore]:
        peer = ConsulStateStore.from_url(consul_server.url)
        yield peer
        peer.close()


def test_it_behaves_like_a_dict(consul_server: ConsulServer) -> None:
    run_state_machine(lambda: ConsulStateStore.from_url(consul_server.url), max_examples=40)


def test_keys_are_readable_in_consul(consul_server: ConsulServer, store: ConsulStateStore) -> None:
    store.configure("weather report", "1/2").set("node/fetch", b"value")
    store.set("of no request", b"")

    assert _names(consul_server) == ["faasflow/$/of no request;", "faasflow/weather%20report/1%2F2/node/fetch;"]


def test_keys_of_others_are_neither_seen_nor_removed(consul_server: ConsulServer, store: ConsulStateStore) -> None:
    others = ["faasflow", "faasflowers/a;", "other/a", "a;"]
    for key in others:
        requests.put(_kv(consul_server, key), b"theirs", timeout=5)
    requests.put(_kv(consul_server, "faasflow/a folder made by hand/"), b"", timeout=5)
    store.set("a", b"ours")

    assert store.list("") == {"a": b"ours"}
    store.cleanup()
    assert _names(consul_server) == sorted(others)
    for key in others:
        requests.delete(_kv(consul_server, key), timeout=5)


def test_reading_a_key_does_not_read_those_that_its_name_begins(
    consul_server: ConsulServer, store: ConsulStateStore
) -> None:
    for number in range(20):
        store.set(f"node/a{number}", bytes(100_000))
    store.set("node/a", b"value")
    with Relay(consul_server.port) as relay:
        assert ConsulStateStore(port=relay.port).get("node/a") == b"value"

        assert relay.answered_bytes < 10_000


def test_a_transaction_of_too_many_writes_is_refused_and_writes_nothing(store: ConsulStateStore) -> None:
    ops: list[Op] = [Put(f"key/{number}", b"") for number in range(65)]

    with pytest.raises(StoreError, match="65 operations is more than Consul takes, which is 64"):
        store.transact(ops)
    assert store.list("") == {}
    assert store.transact(ops[:64]).committed


def test_lists_that_do_not_fit_beside_the_writes_are_read_together(store: ConsulStateStore) -> None:
    for number in range(100):
        store.set(f"join/{number}/before", b"")
    store.set("join/other", b"")
    store.set("elsewhere", b"")
    arrivals = [Create(f"join/{number}/now", b"") for number in range(40)]
    outcome = store.transact([*arrivals, *(ListPrefix(f"join/{number}/") for number in range(40))])

    assert set(outcome.entries) == {f"join/{number}/{when}" for number in range(40) for when in ("before", "now")}


def test_a_transaction_of_too_many_bytes_is_refused_and_writes_nothing(store: ConsulStateStore) -> None:
    with pytest.raises(ValueTooLargeError, match="413"):
        store.transact([Put(f"key/{number}", bytes(150_000)) for number in range(4)])

    assert store.list("") == {}


def test_the_environment_overrides_nothing(consul_server: ConsulServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "of somebody else")
    monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    store = ConsulStateStore.from_url(consul_server.url)
    store.set("key", b"value")

    assert store.get("key") == b"value"
    store.cleanup()
    store.close()


def test_an_unknown_data_centre_is_told(consul_server: ConsulServer) -> None:
    store = ConsulStateStore.from_url(f"{consul_server.url}?dc=elsewhere")

    for call in (store.init, lambda: store.read(["key"]), lambda: store.set("key", b"")):
        with pytest.raises(StoreUnavailableError, match="No path to datacenter"):
            call()
    assert ConsulStateStore.from_url(f"{consul_server.url}?dc=dc1").read(["key"]) == {}


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    """A Consul that asks for a token."""
    server = ConsulServer(tmp_path_factory.mktemp("consul"), token=TOKEN)
    server.start()
    yield server
    server.stop()


class TestTokens:
    def test_a_token_opens_the_store(self, guarded_server: ConsulServer, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text(f"{TOKEN}\n")
        for url in (guarded_server.url.replace("//", f"//{TOKEN}@"), f"{guarded_server.url}?token_file={file}"):
            store = ConsulStateStore.from_url(url)
            store.init()
            store.set("key", b"value")

            assert store.get("key") == b"value"
            store.cleanup()
            store.close()

    @pytest.mark.parametrize("token", ["", "wrong-token"])
    def test_without_the_right_one_the_store_does_not_open(self, guarded_server: ConsulServer, token: str) -> None:
        store = ConsulStateStore(port=guarded_server.port, token=token)

        for call in (store.init, lambda: store.set("key", b""), lambda: store.configure("flow", "1").cleanup()):
            with pytest.raises(StoreError, match=r"403|Permission denied") as caught:
                call()
            assert not isinstance(caught.value, StoreUnavailableError)
            assert "'faasflow/'" in caught.value.hint
            assert token == "" or token not in str(caught.value)

    def test_a_token_for_our_keys_is_enough(self, guarded_server: ConsulServer) -> None:
        token = _make_token(guarded_server, 'key_prefix "faasflow/" { policy = "write" }')
        store = ConsulStateStore(port=guarded_server.port, token=token)
        store.init()

        assert store.transact([Create("key", b"value"), ListPrefix("")]).committed
        assert store.get("key") == b"value"
        store.cleanup()

    def test_a_token_that_may_not_write_is_no_conflict(self, guarded_server: ConsulServer) -> None:
        token = _make_token(guarded_server, 'key_prefix "faasflow/" { policy = "read" }')
        store = ConsulStateStore(port=guarded_server.port, token=token)
        store.init()

        assert store.read(["key"]) == {}
        for call in (lambda: store.transact([Create("key", b"")]), lambda: store.set("key", bytes(500_000))):
            with pytest.raises(StoreError, match="Permission denied"):
                call()


def _names(server: ConsulServer) -> list[str]:
    answer = requests.get(_kv(server, ""), params={"keys": "", "consistent": ""}, timeout=5)
    return sorted(json.loads(answer.text)) if answer.ok else []


def _kv(server: ConsulServer, key: str) -> str:
    return f"http://127.0.0.1:{server.port}/v1/kv/{key}"


def _make_token(server: ConsulServer, rules: str) -> str:
    for what, body in (
        ("policy", {"Name": f"test-{abs(hash(rules))}", "Rules": rules}),
        ("token", {"Policies": [{"Name": f"test-{abs(hash(rules))}"}]}),
    ):
        answer = requests.put(
            f"http://127.0.0.1:{server.port}/v1/acl/{what}",
            json=body,
            headers={"X-Consul-Token": TOKEN},
            timeout=5,
        )
        answer.raise_for_status()
    secret: str = answer.json()["SecretID"]
    return secret
