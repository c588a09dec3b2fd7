"""The stores that are servers, one kind each, for claims that hold for all of them; and what a second process does to
one: `python -m tests.stores.network <what> <url> ...`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from faasflow.ports import StateStore
from faasflow.stores import open_state_store
from faasflow.stores.consul import ConsulStateStore
from faasflow.stores.etcd import EtcdStateStore
from faasflow.stores.redis import RedisStateStore
from tests.servers.certificates import Certificates
from tests.servers.consul import ConsulServer
from tests.servers.etcd import EtcdServer
from tests.servers.process import Server
from tests.servers.redis import RedisServer

NetworkStore = ConsulStateStore | EtcdStateStore | RedisStateStore
NetworkServer = ConsulServer | EtcdServer | RedisServer


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of server: how one is made that keeps its data, or that speaks TLS, and the store on it."""

    name: str
    store: type[ConsulStateStore] | type[EtcdStateStore] | type[RedisStateStore]
    make_durable: Callable[[Path], NetworkServer]
    make_encrypted: Callable[[Path, Certificates], NetworkServer]


KINDS = {
    "consul": Kind(
        "Consul",
        ConsulStateStore,
        lambda folder: ConsulServer(folder, durable=True),
        lambda folder, certificates: ConsulServer(folder, certificates=certificates),
    ),
    "etcd": Kind(
        "etcd",
        EtcdStateStore,
        EtcdServer,
        lambda folder, certificates: EtcdServer(folder, certificates=certificates),
    ),
    "redis": Kind(
        "Redis",
        RedisStateStore,
        lambda folder: RedisServer(folder, durable=True),
        lambda folder, certificates: RedisServer(folder, certificates=certificates),
    ),
}


@contextmanager
def hanging_server() -> Iterator[int]:
    """The port of a server that takes every connection and never says anything."""
    taken: list[socket.socket] = []

    def take(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                taken.append(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=take, args=[listener])
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in taken:
                connection.close()


def start_process(what: str, server: Server | str, *arguments: str) -> subprocess.Popen[str]:
    """One of the functions below in a process of its own, to be told through its stdin when to begin."""
    url = server if isinstance(server, str) else server.url  # type: ignore[attr-defined]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.stores.network", what, url, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def count(store: StateStore, times: str) -> None:
    """Add to a counter by compare-and-set."""
    done = 0
    while done < int(times):
        old = store.get("counter")
        done += store.update("counter", old, b"%d" % (int(old) + 1))
    print(done)


def create(store: StateStore, keys: str) -> None:
    """Try to create every key first; says which ones it did."""
    for number in range(int(keys)):
        if store.update(f"key/{number}", None, b"%d" % os.getpid()):
            print(number)


if __name__ == "__main__":
    opened = open_state_store(sys.argv[2]).configure("flow", "processes")
    opened.init()
    print("ready", flush=True)
    sys.stdin.readline()
    {act.__name__: act for act in (count, create)}[sys.argv[1]](opened, *sys.argv[3:])
