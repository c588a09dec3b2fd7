"""The Redis store, on a real Redis. What it has in common with other servers stands in `test_network`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from faasflow.errors import ConfigError, StoreError, StoreUnavailableError
from faasflow.ports import Check, Create, ListPrefix, Op, Put
from faasflow.stores import open_state_store
from faasflow.stores.redis import RedisStateStore
from faasflow.testing.contracts import StateStoreContract
from faasflow.testing.state_machine import run_state_machine
from tests.servers.fixtures import Run
from tests.servers.redis import RedisServer
from tests.support import wait_until


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStateStore]:
    store = RedisStateStore.from_url(redis_server.url)
    store.init()
    yield store
    store.cleanup()
    store.close()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """Somebody else's connection."""
    with redis.Redis(port=redis_server.port) as client:
        yield client


class TestContract(StateStoreContract):
    @pytest.fixture
    def peer(self, redis_server: RedisServer) -> Iterator[RedisStateStore]:
        peer = RedisStateStore.from_url(redis_server.url)
        yield peer
        peer.close()


def test_it_behaves_like_a_dict(redis_server: RedisServer) -> None:
    run_state_machine(lambda: RedisStateStore.from_url(redis_server.url), max_examples=60)


def test_keys_are_readable_in_redis(store: RedisStateStore, client: redis.Redis) -> None:
    store.configure("weather report", "1/2").set("node/fetch", b"value")

    assert client.hgetall("{faasflow}:values") == {b"faasflow/weather%20report/1%2F2/node/fetch": b"value"}


def test_nothing_is_left_behind_and_nothing_of_others_is_touched(store: RedisStateStore, client: redis.Redis) -> None:
    client.set("faasflow/a", b"theirs")
    store.set("faasflow/a", b"ours")
    store.configure("flow", "1").set("key", b"")
    store.cleanup()

    assert client.keys() == [b"faasflow/a"]
    client.delete("faasflow/a")


def test_databases_are_apart(redis_server: RedisServer, store: RedisStateStore) -> None:
    other = RedisStateStore.from_url(redis_server.url.replace("/0", "/1"))
    store.set("key", b"of 0")

    assert other.list("") == {}
    with pytest.raises(StoreError, match="DB index"):
        RedisStateStore.from_url(redis_server.url.replace("/0", "/999")).init()


def test_a_server_that_forgot_the_scripts_is_taught_again(store: RedisStateStore, client: redis.Redis) -> None:
    store.set("key", b"1")
    client.script_flush()

    assert store.update("key", b"1", b"2")
    assert store.get("key") == b"2"


def test_a_transaction_may_be_of_any_length(store: RedisStateStore) -> None:
    ops: list[Op] = [Create(f"key/{number}", b"%d" % number) for number in range(5000)]

    assert len(store.transact([*ops, ListPrefix("key/")]).entries) == 5000
    assert len(store.transact(ops).conflicts) == 5000


def test_a_server_that_drops_keys_is_refused(tmp_path: Path, run_server: Run[RedisServer]) -> None:
    server = run_server(RedisServer(tmp_path, options={"maxmemory-policy": "allkeys-lru"}))

    with pytest.raises(ConfigError, match="'allkeys-lru'") as caught:
        RedisStateStore.from_url(server.url).init()
    assert "noeviction" in caught.value.hint


@pytest.mark.parametrize(
    ("durable", "options", "risks"),
    [
        (
            False,
            {},
            [r"Redis at .* has no append-only file: a crash loses all since its last snapshot. Set appendonly"],
        ),
        (
            True,
            {"appendfsync": "everysec"},
            [r"Redis at .* writes to disk late \(appendfsync everysec\): a crash loses"],
        ),
        (True, {}, []),
    ],
)
def test_what_a_crash_of_the_server_may_lose_is_named(
    tmp_path: Path, run_server: Run[RedisServer], durable: bool, options: dict[str, str], risks: list[str]
) -> None:
    server = run_server(RedisServer(tmp_path, durable=durable, options=options))
    with closing(RedisStateStore.from_url(server.url)) as store:
        found = store.find_risks()

    assert len(found) == len(risks)
    assert all(re.match(risk, sentence) for risk, sentence in zip(risks, found, strict=True))


def test_a_server_that_does_not_say_how_it_is_set_has_no_known_risk(
    tmp_path: Path, run_server: Run[RedisServer]
) -> None:
    server = run_server(RedisServer(tmp_path))
    with redis.Redis.from_url(server.url) as client:
        client.acl_setuser(
            "guest", enabled=True, nopass=True, commands=["+@all", "-info", "-config"], keys=["{faasflow}:*"]
        )
    with closing(RedisStateStore.from_url(server.url.replace("//", "//guest:x@"))) as store:
        store.init()

        assert store.find_risks() == []


def test_a_server_that_is_full_writes_nothing(tmp_path: Path, run_server: Run[RedisServer]) -> None:
    server = run_server(RedisServer(tmp_path, options={"maxmemory": "8mb"}))
    store = RedisStateStore.from_url(server.url)
    store.init()

    def write_both() -> None:
        for number in range(100):
            store.transact([Put(f"a/{number}", bytes(100_000)), Put(f"b/{number}", bytes(100_000))])

    with pytest.raises(StoreUnavailableError, match="maxmemory"):
        write_both()

    written = [len(store.list(f"{half}/")) for half in "ab"]
    assert written[0] == written[1] > 10
    store.delete("a/0")
    store.close()


def test_a_replica_is_not_written_to(tmp_path: Path, run_server: Run[RedisServer]) -> None:
    primary = run_server(RedisServer(tmp_path / "primary", options={"repl-diskless-sync-delay": "0"}))
    replica = run_server(RedisServer(tmp_path / "replica", options={"replicaof": f"127.0.0.1 {primary.port}"}))
    store = RedisStateStore.from_url(replica.url)
    with redis.Redis(port=replica.port) as client:
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica to follow")

    with pytest.raises(StoreUnavailableError, match="read only replica"):
        store.set("key", b"")
    store.close()


def test_a_version_read_before_a_failover_never_holds_for_another_write(
    tmp_path: Path, run_server: Run[RedisServer]
) -> None:
    server = run_server(RedisServer(tmp_path))
    store = RedisStateStore.from_url(server.url)
    store.set("key", b"lost")
    version = store.read(["key"])["key"].version
    server.kill()
    server.start()
    store.set("key", b"another")

    assert store.transact([Check("key", version), Put("key", b"")]).conflicts == ("key",)
    store.close()


def test_without_the_package_its_pip_line_is_told() -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from faasflow.errors import ConfigError\n"
        "from faasflow.stores import open_state_store\n"
        "try: open_state_store('redis://localhost')\n"
        "except ConfigError as error: print(error, error.hint)"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert "needs the package 'redis'" in said
    assert "pip install 'faasflow[redis]'" in said


class TestUsers:
    def test_a_user_opens_the_store(self, guarded_server: RedisServer, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("p@ss\n")
        for url in (
            guarded_server.url.replace("//", "//flow:p%40ss@"),
            guarded_server.url.replace("//", "//flow@") + f"?password_file={file}",
        ):
            store = open_state_store(url)
            store.init()
            store.set("key", b"value")

            assert store.get("key") == b"value"
            store.cleanup()
            store.close()

    @pytest.mark.parametrize("user", ["", "flow", "nobody"])
    def test_without_the_right_password_the_store_does_not_open(self, guarded_server: RedisServer, user: str) -> None:
        store = RedisStateStore(port=guarded_server.port, user=user, password="wrong-password")

        for call in (store.init, lambda: store.read(["key"]), lambda: store.set("key", b"")):
            with pytest.raises(StoreError) as caught:
                call()
            assert not isinstance(caught.value, StoreUnavailableError)
            assert "user" in caught.value.hint
            assert "wrong-password" not in str(caught.value)

    def test_a_user_who_may_only_read_is_told(self, guarded_server: RedisServer) -> None:
        store = RedisStateStore(port=guarded_server.port, user="reader", password="reader")
        store.init()

        with pytest.raises(StoreError, match="run this command"):
            store.set("key", b"")
        assert store.list("") == {}
        store.close()


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that asks for a user and a password."""
    folder = tmp_path_factory.mktemp("redis")
    users = folder / "users"
    users.write_text(
        "user default off\n"
        "user flow on >p@ss ~{faasflow}:* +@all -@admin -@dangerous\n"
        "user reader on >reader ~{faasflow}:* +@read +@scripting +@connection -@admin -@dangerous\n"
    )
    server = RedisServer(folder, options={"aclfile": str(users)})
    server.start()
    yield server
    server.stop()
