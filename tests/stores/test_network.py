"""What holds for every store that is a server: away, hanging, restarted, encrypted, forked, and shared by processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from faasflow.errors import StoreError, StoreUnavailableError
from faasflow.ports import Check, Create, ListPrefix, Put, StateStore
from faasflow.stores import open_state_store
from faasflow.testing.contracts import together
from tests.servers.certificates import Certificates
from tests.servers.fixtures import Run
from tests.servers.relay import Relay
from tests.stores.network import KINDS, Kind, NetworkServer, NetworkStore, hanging_server, start_process
from tests.support import free_port, wait_until


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def server(kind: Kind, request: pytest.FixtureRequest) -> NetworkServer:
    """The server that tests share."""
    server: NetworkServer = request.getfixturevalue(f"{kind.name.lower()}_server")
    return server


@pytest.fixture
def store(kind: Kind, server: NetworkServer) -> Iterator[NetworkStore]:
    store = kind.store.from_url(server.url)
    yield store
    store.cleanup()
    store.close()


EVERY_CALL = {
    "init": lambda store: store.init(),
    "get": lambda store: store.get("key"),
    "read": lambda store: store.read(["key"], ["n/"]),
    "list": lambda store: store.list("n/", limit=3),
    "keys": lambda store: store.keys("n/"),
    "set": lambda store: store.set("key", b"value"),
    "update": lambda store: store.update("key", None, b"value"),
    "delete": lambda store: store.delete("key"),
    "transact": lambda store: store.transact([Create("key", b""), ListPrefix("n/")]),
    "cleanup": lambda store: store.configure("flow", "1").cleanup(),
}


@pytest.mark.parametrize("call", EVERY_CALL)
def test_a_server_that_is_away_is_told_by_name(kind: Kind, call: str) -> None:
    port = free_port()
    store = kind.store(port=port)

    with pytest.raises(StoreUnavailableError, match=f"{kind.name} at 127.0.0.1:{port} cannot be reached") as caught:
        EVERY_CALL[call](store)

    assert "Check that it runs" in caught.value.hint
    store.close()


@pytest.mark.parametrize("call", ["init", "read", "transact", "cleanup"])
def test_a_server_that_does_not_answer_is_not_waited_for(kind: Kind, call: str) -> None:
    with hanging_server() as port:
        store = kind.store(port=port, connect_timeout=0.3, timeout=0.3)
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            EVERY_CALL[call](store)

        assert time.monotonic() - began < 2
        store.close()


def test_a_write_whose_answer_is_lost_is_not_made_again(kind: Kind, server: NetworkServer, store: NetworkStore) -> None:
    with Relay(server.port) as relay:
        relayed = kind.store(port=relay.port)
        relayed.set("other", b"")  # Redis learns its script
        for number, write in enumerate((lambda: relayed.update("key", None, b"1"), lambda: relayed.set("key", b"2"))):
            relayed.get("other")  # connected, so that the next answer is the one to the write
            relay.lost_answers = 1
            with pytest.raises(StoreUnavailableError):
                write()

            assert store.get("key") == b"%d" % (number + 1)
        assert relayed.get("key") == b"2"
        relayed.close()


def test_a_read_whose_answer_is_lost_is_made_once_more(kind: Kind, server: NetworkServer, store: NetworkStore) -> None:
    store.set("key", b"value")
    with Relay(server.port) as relay:
        relayed = kind.store(port=relay.port)
        relayed.init()
        for read in (
            lambda: relayed.get("key"),
            lambda: relayed.list("k", limit=5)["key"],
            lambda: b"value" if relayed.keys("k") == ["key"] else b"",
            lambda: relayed.transact([Check("other", None), ListPrefix("")]).entries["key"].value,
        ):
            relay.lost_answers = 1

            assert read() == b"value"
        relay.lost_answers = 2
        with pytest.raises(StoreUnavailableError):
            relayed.get("key")
        relayed.close()


def test_a_page_of_a_list_reads_the_values_of_that_page_only(
    kind: Kind, server: NetworkServer, store: NetworkStore
) -> None:
    with _twenty_large_values(kind, server, store) as (relayed, relay):
        assert list(relayed.list("item/", after="item/04", limit=2)) == ["item/05", "item/06"]

        assert relay.answered_bytes < 400_000


def test_keys_are_listed_without_their_values(kind: Kind, server: NetworkServer, store: NetworkStore) -> None:
    with _twenty_large_values(kind, server, store) as (relayed, relay):
        assert relayed.keys("item/") == [f"item/{number:02}" for number in range(20)]
        assert relayed.keys("item/", after="item/04", limit=2) == ["item/05", "item/06"]

        assert relay.answered_bytes < 10_000


@contextmanager
def _twenty_large_values(
    kind: Kind, server: NetworkServer, store: NetworkStore
) -> Iterator[tuple[NetworkStore, Relay]]:
    for number in range(20):
        store.set(f"item/{number:02}", bytes(100_000))
    with Relay(server.port) as relay:
        relayed = kind.store(port=relay.port)
        yield relayed, relay
        relayed.close()


def test_a_host_that_has_no_address_is_told(kind: Kind) -> None:
    store = kind.store("no-such-host.invalid", connect_timeout=2)

    with pytest.raises(StoreUnavailableError, match=r"no-such-host\.invalid"):
        store.get("key")


def test_a_store_goes_on_after_its_server_was_restarted(
    kind: Kind, tmp_path: Path, run_server: Run[NetworkServer]
) -> None:
    server = run_server(kind.make_durable(tmp_path / "server"))
    store = kind.store.from_url(server.url)
    store.set("key", b"before")
    entry = store.read(["key"])["key"]
    server.kill()
    with pytest.raises(StoreUnavailableError):
        store.set("key", b"lost")
    server.start()

    assert store.read(["key"]) == {"key": entry}
    assert store.transact([Check("key", entry.version), Put("key", b"after")]).committed
    assert store.get("key") == b"after"
    store.close()


def test_idle_connections_that_the_server_closed_cost_no_error(
    kind: Kind, tmp_path: Path, run_server: Run[NetworkServer]
) -> None:
    server = run_server(kind.make_durable(tmp_path / "server"))
    store = kind.store.from_url(server.url)
    together(lambda number: store.set(f"key/{number}", b""), range(6))
    server.stop()
    server.start()

    for number in range(6):
        store.set(f"key/{number}", b"again")
    assert set(store.list("key/").values()) == {b"again"}
    store.close()


def test_a_closed_store_can_be_used_again(store: NetworkStore) -> None:
    store.set("key", b"value")
    store.close()

    assert store.get("key") == b"value"


def test_an_encrypted_connection_proves_both_sides(
    kind: Kind, tmp_path: Path, run_server: Run[NetworkServer], certificates: Certificates
) -> None:
    server = run_server(kind.make_encrypted(tmp_path / "server", certificates))
    trusting = f"{server.url}?ca_file={certificates.authority}"
    store = open_state_store(f"{trusting}&cert_file={certificates.certificate}&key_file={certificates.key}")
    store.init()
    store.set("key", b"value")

    assert store.get("key") == b"value"
    for url in (server.url, trusting, server.url.replace("s://", "://")):
        with pytest.raises(StoreError):
            open_state_store(url).get("key")
    store.close()


def test_more_threads_than_connections_wait_for_their_turn(kind: Kind, server: NetworkServer) -> None:
    # Consul resets the 201st connection from one address.
    store = kind.store.from_url(server.url)
    view = store.configure("flow", "threads")
    together(lambda number: view.set(f"key/{number}", b"%d" % number), range(250))

    assert len(view.list("key/")) == 250
    view.cleanup()
    store.close()


def test_values_of_the_largest_size_fit(store: NetworkStore) -> None:
    value = os.urandom(512 * 1024)
    store.set("a", value)

    assert store.update("b", None, value)
    assert not store.update("b", None, value)
    assert store.update("b", value, value[::-1])
    assert store.read(["a", "b"])["b"].value == value[::-1]
    assert store.get("a") == value


def test_a_read_of_many_keys_is_still_one_moment(kind: Kind, server: NetworkServer, store: NetworkStore) -> None:
    writer = kind.store.from_url(server.url)
    stop = Event()
    keys = [f"many/{number}" for number in range(300)]
    # What is written together lies in different parts of the read.
    ends = [keys[0], keys[-1]]
    together(lambda key: store.set(key, b"0"), keys[::7] + ends)

    def write() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            writer.transact([Put(key, b"%d" % number) for key in ends])

    thread = Thread(target=write)
    thread.start()
    try:
        for _ in range(10):
            found = store.read(keys)

            assert found[ends[0]].value == found[ends[1]].value
            assert len(found) == len({*keys[::7], *ends})
    finally:
        stop.set()
        thread.join()
        writer.close()


def test_a_fork_shares_no_connection(store: NetworkStore) -> None:
    store.set("key", b"of the parent")
    children = [_fork(partial(_use, store.configure("flow", str(number)))) for number in range(4)]
    _use(store.configure("flow", "parent"))

    assert [_exit_code(child) for child in children] == [0] * 4
    assert store.get("key") == b"of the parent"


def test_a_fork_while_other_threads_use_the_store_leaves_no_lock_behind(store: NetworkStore) -> None:
    stop = Event()

    def use(name: int) -> None:
        while not stop.is_set():
            store.set(f"thread/{name}", b"value" * 100)

    threads = [Thread(target=use, args=[name]) for name in range(3)]
    for thread in threads:
        thread.start()
    try:
        codes = [_exit_code(_fork(partial(store.set, f"child/{number}", b""))) for number in range(20)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert codes == [0] * 20
    assert len(store.list("child/")) == 20


def test_a_counter_that_processes_share_is_exact(server: NetworkServer, store: NetworkStore) -> None:
    view = store.configure("flow", "processes")
    view.set("counter", b"0")
    processes = [start_process("count", server, "50") for _ in range(2)]
    _finished(processes)

    assert view.get("counter") == b"100"


def test_of_two_processes_that_create_the_same_keys_one_wins_each(server: NetworkServer, store: NetworkStore) -> None:
    processes = [start_process("create", server, "200") for _ in range(2)]
    won = [set(text.split()) for text in _finished(processes)]
    found = store.configure("flow", "processes").list("key/")

    assert won[0] | won[1] == {str(number) for number in range(200)}
    assert won[0] & won[1] == set()
    for process, numbers in zip(processes, won, strict=True):
        assert {found[f"key/{number}"] for number in numbers} <= {b"%d" % process.pid}


def _finished(processes: list) -> list[str]:  # type: ignore[type-arg]
    """What processes say that are told to begin at the same moment."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return said


def _use(view: StateStore) -> None:
    for number in range(50):
        view.set("key", b"%d" % number)
        assert view.get("key") == b"%d" % number


def _fork(child: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        child()
        code = 0
    finally:
        os._exit(code)


def _exit_code(pid: int) -> int:
    def status_if_ended() -> tuple[int, int] | None:
        status = os.waitpid(pid, os.WNOHANG)
        return status if status[0] == pid else None

    return os.waitstatus_to_exitcode(wait_until(status_if_ended, f"the end of process {pid}")[1])
