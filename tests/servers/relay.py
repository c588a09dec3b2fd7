"""A connection's way between a client and a server on 127.0.0.1, on which answers are counted and get lost."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Lock, Thread
from types import TracebackType


class Relay:
    """Passes on what goes to and comes from the server at `target`. The next `lost_answers` answers are not passed on:
    the server has carried out what it was asked, and the client's connection breaks. It listens on 127.0.0.1 unless it
    is given a `listener`."""

    def __init__(self, target: int, listener: socket.socket | None = None) -> None:
        self.answered_bytes = 0
        self.lost_answers = 0
        self._target = target
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self._threads = [Thread(target=self._accept)]
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Relay:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end(self._listener)
        self._threads[0].join()
        self.forget()
        for thread in self._threads:
            thread.join()

    def forget(self) -> None:
        """End every connection, as a process that is killed does."""
        for connection in list(self._open):
            self._end(connection)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {client, server}
                for task, ends in ((self._ask, (client, server)), (self._answer, (server, client))):
                    self._threads.append(Thread(target=task, args=ends))
                    self._threads[-1].start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        self._end(server)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while (data := server.recv(65536)) and not self._is_lost():
                self.answered_bytes += len(data)
                client.sendall(data)
        self._end(client)

    def _is_lost(self) -> bool:
        with self._lock:
            self.lost_answers -= 1
            return self.lost_answers >= 0

    def _end(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
