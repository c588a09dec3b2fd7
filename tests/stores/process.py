"""What a second process does to the file of a SQLite store: `python -m tests.stores.process <what> <path> ...`. It says
what it has done on stdout, one line each, after the store acknowledged it.
"""

from __future__ import annotations

import os
import sys
from threading import Thread

from faasflow.ports import Create, Put
from faasflow.stores.sqlite import Durability, SqliteDataStore, SqliteStateStore


def write_for_ever(path: str, name: str, durability: Durability) -> None:
    """Two threads, each writing keys, and a value of two pages twice, until the process is killed."""
    state = SqliteStateStore(path, durability=durability)
    data = SqliteDataStore(path, durability=durability)

    def write(thread: int) -> None:
        number = 0
        while True:
            key = f"{name}/{thread}/{number}"
            state.transact([Create(f"a/{key}", b"%d" % number), Put(f"b/{key}", b"%d" % number)])
            data.set(key, b"%d" % number * 2000)
            _say(key)
            number += 1

    for thread in range(2):
        Thread(target=write, args=[thread]).start()


def create(path: str, name: str, count: str) -> None:
    """Try to create every key first; says which ones it did."""
    store = SqliteStateStore(path)
    _say("ready")
    sys.stdin.readline()
    for number in range(int(count)):
        if store.update(f"key/{number}", None, name.encode()):
            _say(str(number))


def count(path: str, times: str) -> None:
    """Add to a counter by compare-and-set; says every version that it wrote."""
    store = SqliteStateStore(path)
    done = 0
    while done < int(times):
        old = store.get("counter")
        if store.update("counter", old, b"%d" % (int(old) + 1)):
            store.set(f"own/{os.getpid()}", b"")
            _say(str(store.read([f"own/{os.getpid()}"])[f"own/{os.getpid()}"].version))
            done += 1


def fill_the_disk(path: str, limit: str) -> None:
    """Write until the file may not grow any more; says what became of it."""
    import resource
    import signal

    from faasflow.errors import StoreUnavailableError

    store = SqliteDataStore(path)
    store.set("first", b"kept")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    written = 0
    try:
        while True:
            store.set(f"key/{written}", bytes(10_000))
            written += 1
    except StoreUnavailableError as exc:
        _say(exc.message)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.set("last", b"works again")
    _say(str(written))


def _say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    {act.__name__: act for act in (write_for_ever, create, count, fill_the_disk)}[sys.argv[1]](*sys.argv[2:])
