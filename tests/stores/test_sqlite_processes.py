"""What only a file shared by processes can be asked: kill -9, contention, forks, and a full disk."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from faasflow.stores.sqlite import SqliteDataStore, SqliteStateStore
from tests.support import wait_until

ROOT = Path(__file__).parents[2]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts another process; what is left of them at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(act: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.stores.process", act, str(path), *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_nothing_acknowledged_is_lost_by_kill_9(path: Path, start: Start, durability: str) -> None:
    delays = random.Random(durability)
    acknowledged = []
    for life in range(6):
        process = start("write_for_ever", path, str(life), durability)
        first = [process.stdout.readline().strip() for _ in range(delays.randrange(1, 120))]
        process.kill()
        acknowledged += first + process.stdout.read().split()
        assert process.wait() == -signal.SIGKILL

    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    state, data = SqliteStateStore(path), SqliteDataStore(path)
    for key in acknowledged:
        number = key.rpartition("/")[2].encode()
        assert (state.get(f"a/{key}"), state.get(f"b/{key}"), data.get(key)) == (number, number, number * 2000)
    assert [key[2:] for key in state.list("a/")] == [key[2:] for key in state.list("b/")]
    state.close()
    data.close()


def test_of_processes_that_create_the_same_keys_one_wins_each(path: Path, start: Start) -> None:
    processes = {name: start("create", path, name, "300") for name in ("one", "two", "three")}
    for process in processes.values():
        assert process.stdout.readline() == "ready\n"
    for process in processes.values():
        process.stdin.write("go\n")
        process.stdin.flush()
    won = {name: process.communicate(timeout=60)[0].split() for name, process in processes.items()}

    assert Counter(key for keys in won.values() for key in keys) == {str(number): 1 for number in range(300)}
    store = SqliteStateStore(path)
    for name, keys in won.items():
        assert {store.get(f"key/{key}") for key in keys} <= {name.encode()}
    store.close()


def test_a_counter_and_versions_are_exact_across_processes(path: Path, start: Start) -> None:
    store = SqliteStateStore(path)
    store.set("counter", b"0")
    processes = [start("count", path, "200") for _ in range(2)]
    versions = [version for process in processes for version in process.communicate(timeout=60)[0].split()]

    assert store.get("counter") == b"400"
    assert len(set(versions)) == 400
    store.close()


def test_a_write_of_another_process_is_seen_at_once(path: Path, start: Start) -> None:
    store = SqliteStateStore(path)
    store.init()
    process = start("write_for_ever", path, "other", "normal")
    for _ in range(300):
        key = process.stdout.readline().strip()

        assert store.get(f"a/{key}") == key.rpartition("/")[2].encode()
    store.close()


def test_a_full_disk_makes_the_store_unavailable_and_loses_nothing(path: Path, start: Start) -> None:
    said = start("fill_the_disk", path, "400000").communicate(timeout=60)[0].splitlines()

    store = SqliteDataStore(path)
    assert repr(str(path)) in said[0]
    assert int(said[1]) > 10
    assert len(store.list("key/")) == int(said[1])
    assert (store.get("first"), store.get("last")) == (b"kept", b"works again")
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store.close()


def test_a_forked_child_and_its_parent_both_go_on(path: Path) -> None:
    store = SqliteStateStore(path)
    view = store.configure("flow", "1")
    view.set("before", b"value")

    def child() -> None:
        assert view.get("before") == b"value"
        for number in range(50):
            view.set(f"child/{number}", b"")
        store.close()

    pid = _fork(child)
    for number in range(50):
        view.set(f"parent/{number}", b"")

    assert _exit_code(pid) == 0
    assert len(view.list("child/")) == len(view.list("parent/")) == 50
    store.close()
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_child_outlives_its_parent_and_loses_nothing(path: Path) -> None:
    script = f"""
import os
from faasflow.stores.sqlite import SqliteStateStore
store = SqliteStateStore({str(path)!r})
store.set("key", b"old")
if os.fork():
    store.set("key", b"newer")
    store.close()
    os._exit(0)
print(store.get("key"), flush=True)
input()
store.set("child", b"value")
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.wait(20) == 0
    assert "b'" in parent.stdout.readline()
    for number in range(20):
        store = SqliteStateStore(path)
        store.set("key", b"newest %d" % number)
        store.close()
    parent.communicate("end\n")

    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert SqliteStateStore(path).list("") == {"child": b"value", "key": b"newest 19"}


def test_a_fork_while_other_threads_write_leaves_no_lock_behind(path: Path) -> None:
    store, stop = SqliteStateStore(path), Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            store.set(f"thread/{number % 100}", b"value" * 100)
            number += 1

    threads = [Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = [_exit_code(_fork(partial(store.set, f"child/{number}", b""))) for number in range(20)]
    stop.set()
    for thread in threads:
        thread.join()

    assert codes == [0] * 20
    assert len(store.list("child/")) == 20
    store.close()


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
