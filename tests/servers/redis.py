"""Redis as one server."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.servers.certificates import Certificates
from tests.servers.install import program
from tests.servers.process import Server
from tests.support import free_port


class RedisServer(Server):
    """A server that keeps what it holds if it is `durable`, with `options` beside its own. With `certificates` it
    serves TLS alone, and only who has one of them."""

    name = "Redis"

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = False,
        options: dict[str, str] | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.url = f"{'rediss' if certificates else 'redis'}://127.0.0.1:{self.port}/0"
        self._options = options or {}
        self._durable = durable
        self._certificates = certificates

    def command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": "0" if self._certificates else str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "always",
            **self._tls(),
            **self._options,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [program("redis-server"), *words]

    def is_ready(self) -> bool:
        # Who may not ask is told so, which is an answer as well.
        with self._connection() as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))

    def _connection(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        if self._certificates is None:
            return connection
        return self._certificates.client_context().wrap_socket(connection, server_hostname="127.0.0.1")

    def _tls(self) -> dict[str, str]:
        if self._certificates is None:
            return {}
        return {
            "tls-port": str(self.port),
            "tls-ca-cert-file": str(self._certificates.authority),
            "tls-cert-file": str(self._certificates.certificate),
            "tls-key-file": str(self._certificates.key),
        }
