"""The etcd store, on a real etcd. What it has in common with other servers stands in `test_network`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from faasflow.errors import StoreError, StoreUnavailableError, ValueTooLargeError
from faasflow.ports import Op, Put
from faasflow.stores.etcd import EtcdStateStore
from faasflow.testing.contracts import StateStoreContract
from faasflow.testing.state_machine import run_state_machine
from tests.servers.etcd import EtcdServer


@pytest.fixture
def store(etcd_server: EtcdServer) -> Iterator[EtcdStateStore]:
    store = EtcdStateStore.from_url(etcd_server.url)
    store.init()
    yield store
    store.cleanup()
    store.close()


class TestContract(StateStoreContract):
    @pytest.fixture
    def peer(self, etcd_server: EtcdServer) -> Iterator[EtcdStateStore]:
        peer = EtcdStateStore.from_url(etcd_server.url)
        yield peer
        peer.close()


def test_it_behaves_like_a_dict(etcd_server: EtcdServer) -> None:
    run_state_machine(lambda: EtcdStateStore.from_url(etcd_server.url), max_examples=30)


def test_keys_are_readable_in_etcd(etcd_server: EtcdServer, store: EtcdStateStore) -> None:
    store.configure("weather report", "1/2").set("node/fetch", b"value")
    key = b64encode(b"faasflow/weather%20report/1%2F2/node/fetch").decode()

    assert etcd_server.call("/v3/kv/range", {"key": key})["kvs"][0]["value"] == b64encode(b"value").decode()


def test_a_transaction_of_too_many_writes_is_refused_and_writes_nothing(store: EtcdStateStore) -> None:
    ops: list[Op] = [Put(f"key/{number}", b"") for number in range(129)]

    with pytest.raises(StoreError, match="too many operations"):
        store.transact(ops)
    assert store.list("") == {}
    assert store.transact(ops[:128]).committed


def test_a_transaction_of_too_many_bytes_is_refused_and_writes_nothing(store: EtcdStateStore) -> None:
    for count in (4, 8):
        with pytest.raises(ValueTooLargeError):
            store.transact([Put(f"key/{number}", bytes(500_000)) for number in range(count)])

    assert store.list("") == {}


def test_what_is_no_etcd_is_told(store: EtcdStateStore, consul_server: object) -> None:
    elsewhere = EtcdStateStore(port=consul_server.port)  # type: ignore[attr-defined]

    with pytest.raises(StoreError, match="answered 404"):
        elsewhere.init()


class TestUsers:
    def test_a_user_opens_the_store(self, guarded_server: EtcdServer, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("p@ss:word\n")
        for url in (
            guarded_server.url.replace("//", "//flow:p%40ss%3Aword@"),
            guarded_server.url.replace("//", "//flow@") + f"?password_file={file}",
        ):
            store = EtcdStateStore.from_url(url)
            store.init()
            store.configure("flow", "1").set("key", b"value")

            assert store.configure("flow", "1").get("key") == b"value"
            store.configure("flow", "1").cleanup()
            store.close()

    @pytest.mark.parametrize("user", ["", "flow", "nobody"])
    def test_without_the_right_password_the_store_does_not_open(self, guarded_server: EtcdServer, user: str) -> None:
        store = EtcdStateStore(port=guarded_server.port, user=user, password="wrong-password")

        for call in (store.init, lambda: store.read(["faasflow/a"]), lambda: store.set("faasflow/a", b"")):
            with pytest.raises(StoreError) as caught:
                call()
            assert not isinstance(caught.value, StoreUnavailableError)
            assert "user" in caught.value.hint
            assert "wrong-password" not in str(caught.value)

    def test_what_the_role_does_not_allow_is_refused(self, guarded_server: EtcdServer) -> None:
        store = EtcdStateStore(port=guarded_server.port, user="flow", password="p@ss:word")

        with pytest.raises(StoreError, match="permission denied"):
            store.set("elsewhere", b"")

    def test_a_store_logs_in_again_when_the_server_has_forgotten_it(self, guarded_server: EtcdServer) -> None:
        store = EtcdStateStore(port=guarded_server.port, user="flow", password="p@ss:word")
        view = store.configure("flow", "1")
        view.set("key", b"before")
        guarded_server.stop()
        guarded_server.start()

        assert view.get("key") == b"before"
        view.set("key", b"after")
        _change_a_role(guarded_server)
        assert view.update("key", b"after", b"last")
        view.cleanup()
        store.close()


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """An etcd that asks for a user and a password."""
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    server.start()
    for path, body in (
        ("user/add", {"name": "root", "password": "root"}),
        ("user/grant", {"user": "root", "role": "root"}),
        ("role/add", {"name": "flows"}),
        ("role/grant", {"name": "flows", "perm": _permission("faasflow/")}),
        ("user/add", {"name": "flow", "password": "p@ss:word"}),
        ("user/grant", {"user": "flow", "role": "flows"}),
        ("enable", {}),
    ):
        server.call(f"/v3/auth/{path}", body)
    yield server
    server.stop()


def _permission(prefix: str) -> dict[str, object]:
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return {
        "permType": "READWRITE",
        "key": b64encode(prefix.encode()).decode(),
        "range_end": b64encode(end.encode()).decode(),
    }


def _change_a_role(server: EtcdServer) -> None:
    token = server.call("/v3/auth/authenticate", {"name": "root", "password": "root"})["token"]
    server.call("/v3/auth/role/grant", {"name": "flows", "perm": _permission("other/")}, token=token)
