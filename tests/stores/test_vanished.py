"""A server that vanishes without FIN and RST (F53): the next call notices it long before its own timeout, and goes to
where the server's name leads then."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pytest

from faasflow.errors import StoreUnavailableError
from faasflow.sockets import watch
from faasflow.stores.address import LONGEST_IDLE
from faasflow.stores.s3 import S3DataStore
from tests.servers.link import Link
from tests.servers.relay import Relay
from tests.servers.seaweed import SeaweedServer
from tests.stores.network import KINDS, NetworkServer
from tests.support import wait_until

T = TypeVar("T")

NAME = "store.test"
TIMEOUT = 120.0
"""What the stores here wait for an answer: who does not notice that the server vanished waits that long."""
SOON = 40.0


class Place:
    """A server behind a link, and where `NAME` leads."""

    def __init__(self, kind: str, server: NetworkServer | SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.link = Link()
        self._kind = kind
        self._server = server
        self._resolve = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    @contextmanager
    def store(self) -> Iterator[Any]:
        with self.link:
            self._address = self.link.appear(2)
            with Relay(self._server.port, self.link.listener()) as self._relay:
                store = self._open(self._relay.port)
                store.init()
                yield store
                store.cleanup()
                store.close()

    def move(self, last: int) -> None:
        """Let the server vanish, and be at the address that ends in `last`."""
        self.link.vanish()
        self._relay.forget()
        self._address = self.link.appear(last)

    def _open(self, port: int) -> Any:
        if isinstance(self._server, SeaweedServer):
            login = {"access_key": self._server.access_key, "secret_key": self._server.secret_key}
            return S3DataStore(NAME, port, timeout=TIMEOUT, **login)
        return KINDS[self._kind].store(NAME, port, timeout=TIMEOUT)

    def _look_up(self, host: Any, *arguments: Any, **options: Any) -> Any:
        return self._resolve(self._address if host == NAME else host, *arguments, **options)


@pytest.fixture(params=[*KINDS, "seaweed"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(request.param, request.getfixturevalue(f"{request.param}_server"), monkeypatch)


@pytest.mark.parametrize("last", [2, 3], ids=["same", "other"])
def test_a_read_goes_on_at_the_address_where_the_server_is_back(place: Place, last: int) -> None:
    with place.store() as store:
        store.set("key", b"value")
        place.move(last)

        assert _soon(lambda: store.get("key")) == b"value"


def test_a_write_ends_soon_and_the_next_one_is_made(place: Place) -> None:
    def write() -> None:
        with suppress(StoreUnavailableError):  # nobody knows whether this one was carried out
            store.set("key", b"1")
        store.set("key", b"2")

    with place.store() as store:
        store.list("")
        place.move(3)
        _soon(write)

        assert store.get("key") == b"2"


def test_a_write_after_a_pause_has_no_unknown_outcome(place: Place) -> None:
    with place.store() as store:
        store.list("")
        last_call = time.monotonic()
        place.move(3)
        wait_until(lambda: time.monotonic() - last_call > LONGEST_IDLE, "connections to be idle for too long")
        store.set("key", b"value")

        assert store.get("key") == b"value"


def test_a_server_that_vanished_for_good_is_unavailable_soon(place: Place) -> None:
    with place.store() as store:
        store.set("key", b"value")
        place.link.vanish()

        with pytest.raises(StoreUnavailableError):
            _soon(lambda: store.list(""))
        place.link.appear(2)


def test_an_answer_that_takes_long_is_waited_for_on_a_connection_that_is_watched() -> None:
    with Link() as link:
        address, listener = link.appear(2), link.listener()
        with socket.create_connection((address, listener.getsockname()[1]), timeout=TIMEOUT) as connection:
            watch(connection, 1.0)
            connection.sendall(b"?")
            server, _ = listener.accept()
            asked = time.monotonic()
            wait_until(lambda: time.monotonic() - asked > 8, "probes that the server's kernel answers")
            server.sendall(b"!")

            assert connection.recv(1) == b"!"
            server.close()
        listener.close()


def _soon(act: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(act).result(SOON)
