"""Servers of this machine for the transport to call."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from pytest_httpserver import HTTPServer

from faasflow.transport.openfaas import OpenFaasTransport
from tests.support import free_port

Script = Callable[[socket.socket], None]

LARGE = 20_000_000  # more than the buffers of two sockets hold


def take_late(connection: socket.socket, *, after: float) -> None:
    """Read `LARGE` bytes, but not before `after` seconds, and answer."""
    time.sleep(after)
    left = LARGE - 65536
    while left > 0 and (chunk := connection.recv(1 << 20)):
        left -= len(chunk)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return "127.0.0.1", free_port()


@pytest.fixture
def transport(httpserver: HTTPServer) -> Iterator[OpenFaasTransport]:
    transport = OpenFaasTransport(httpserver.url_for("/"))
    yield transport
    transport.close()


class RawServer:
    """Answers each connection as a script says; `connections` and `closed` count them."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", free_port()))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = self.closed = 0

    def answer(self, script: Script) -> None:
        threading.Thread(target=self._serve, args=(script,), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self, script: Script) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                threading.Thread(target=self._speak, args=(connection, script), daemon=True).start()

    def _speak(self, connection: socket.socket, script: Script) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            script(connection)
        self.closed += 1


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    server = RawServer()
    yield server
    server.close()
