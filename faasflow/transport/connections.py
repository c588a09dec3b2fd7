"""The pooled connections of the HTTP transport: what is kept, for how long, and whether a request has left at all.

A connection that was idle for `LONGEST_IDLE` seconds is closed and opened again, to an address that is resolved anew.
A peer that vanished is noticed after `LONGEST_SILENCE` seconds. If it acknowledged no byte of a request by then, the
request did not reach it, and the error is that of a connection that could not be made.
"""

from __future__ import annotations

import http.client
import socket
import struct
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, ReadTimeoutError
from urllib3.response import BaseHTTPResponse, HTTPResponse

from faasflow.sockets import LONGEST_IDLE, SOCKET_OPTIONS

_SURE_AFTER = 1.0
"""Seconds after which what was received is acknowledged, by a kernel that delays it to save packets."""

_BYTES_ACKED = 120  # where `struct tcp_info` of Linux has `tcpi_bytes_acked`
_INFO_SIZE = _BYTES_ACKED + 8


class NothingTakenError(ConnectTimeoutError):
    """The peer acknowledged no byte of the request."""


class Adapter(HTTPAdapter):
    """An adapter whose connections notice that their peer vanished."""

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, socket_options=SOCKET_OPTIONS, **options)
        self.poolmanager.pool_classes_by_scheme = POOL_CLASSES


class _Head:
    """What a response is read from, with the line of its head that was read last."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.line = b""

    def readline(self, *limit: int) -> bytes:
        self.line = self.stream.readline(*limit)
        return self.line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _WholeResponse(http.client.HTTPResponse):
    """A response whose head has an end: the library takes one that was cut for one with fewer headers and no length."""

    def begin(self) -> None:
        head = _Head(self.fp)
        self.fp: Any = head
        super().begin()
        if head.line not in (b"\r\n", b"\n"):
            raise http.client.RemoteDisconnected("The connection ended within the headers.")
        if self.fp is head:
            self.fp = head.stream


class _Watched(HTTPConnection):
    """A connection that knows since when it is idle and whether its peer has taken something of the request. What is
    sent may take `send_timeout` seconds; the library allows it the time for connecting."""

    response_class = _WholeResponse
    idle_since = 0.0
    send_timeout: float | None = None
    _acked: int | None = None
    _sent_at = 0.0

    def connect(self) -> None:
        super().connect()
        self._begin()

    def request(self, method: str, url: str, *args: Any, **options: Any) -> None:
        self._begin()
        try:
            super().request(method, url, *args, **options)
        except TimeoutError as error:
            self._check_taken(error)
            if error.errno is None:
                raise ReadTimeoutError(self, url, "The request was not taken in time.") from error  # type: ignore[arg-type]
            raise

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 does
        try:
            return super().getresponse()
        except TimeoutError as error:  # nothing came in time, or ETIMEDOUT
            self._check_taken(error)
            raise

    def _begin(self) -> None:
        if self.sock is not None:
            self.sock.settimeout(self.send_timeout)
        self._acked, self._sent_at = _bytes_acked(self.sock), time.monotonic()

    def _check_taken(self, error: TimeoutError) -> None:
        if self._acked is None or time.monotonic() - self._sent_at < _SURE_AFTER:
            return
        if _bytes_acked(self.sock) == self._acked:
            raise NothingTakenError(self, "nothing of the request was acknowledged") from error


class _SecureWatched(_Watched, HTTPSConnection):
    """The same over TLS."""


class _Kept(HTTPConnectionPool):
    """A pool that uses no connection that was idle for long, and lets a request take the time of its answer."""

    def _make_request(self, conn: Any, method: str, url: str, **options: Any) -> BaseHTTPResponse:  # type: ignore[override]
        conn.send_timeout = self._get_timeout(options["timeout"]).read_timeout
        return super()._make_request(conn, method, url, **options)

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        if time.monotonic() - connection.idle_since > LONGEST_IDLE:
            connection.close()  # it connects again when it is used
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


class _Pool(_Kept):
    ConnectionCls = _Watched


class _SecurePool(_Kept, HTTPSConnectionPool):
    ConnectionCls = _SecureWatched


POOL_CLASSES: dict[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _SecurePool}
"""What a `PoolManager` uses for each scheme."""


def _bytes_acked(connection: socket.socket | None) -> int | None:
    """How many bytes the peer has acknowledged; `None` where that is not known."""
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
    except OSError:
        return None
    return int(struct.unpack_from("=Q", info, _BYTES_ACKED)[0]) if len(info) == _INFO_SIZE else None
