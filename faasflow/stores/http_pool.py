"""Connections to one HTTP server, for the stores that speak HTTP: kept alive, bounded in number and in time.

`requests` costs several times as much per call, most of it for what a store never uses.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPSConnection
from threading import BoundedSemaphore

from faasflow.errors import StoreUnavailableError
from faasflow.sockets import is_silence, watch
from faasflow.stores.address import LONGEST_IDLE, LONGEST_SILENCE, Tls

# Consul refuses the 201st connection from one address.
_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer of any status."""

    status: int
    headers: HTTPMessage
    body: bytes


class HttpPool:
    """Calls one server, which errors call `name`. Thread-safe; after a fork each process has connections of its own.

    Proxies of the environment are not used and redirects not followed. Closing it releases the connections, and the
    next call makes new ones.
    """

    def __init__(
        self, name: str, host: str, port: int, *, tls: Tls | None, connect_timeout: float, timeout: float
    ) -> None:
        self.server = f"{name} at {host}:{port}"
        self._host = host
        self._port = port
        self._tls = tls.context() if tls is not None else None
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._kept: _Kept | None = None

    def request(
        self, method: str, target: str, *, body: bytes = b"", headers: Mapping[str, str], repeatable: bool
    ) -> Answer:
        """What the server answers. If the connection breaks, a call that is `repeatable` is made once more; any other
        is a `StoreUnavailableError` at once, as it may have been carried out. A server that is only slow is not asked
        twice."""
        try:
            return self._call(method, target, body, headers)
        except TimeoutError as exc:
            if not (repeatable and is_silence(exc)):
                raise self._too_slow() from exc
        except ConnectionRefusedError as exc:
            raise self._away(exc) from exc
        except (OSError, HTTPException) as exc:
            if not repeatable:
                raise self._away(exc) from exc
        return self.request(method, target, body=body, headers=headers, repeatable=False)

    def close(self) -> None:
        """Release the connections. Calling it again is fine."""
        kept, self._kept = self._kept, None
        if kept is not None and kept.pid == os.getpid():
            kept.close()

    def _call(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        kept = self._of_this_process()
        with self._turn(kept):
            connection = kept.take() or self._connect()
            try:
                connection.request(method, target, body or None, dict(headers))
                response = connection.getresponse()
                answer = Answer(response.status, response.headers, response.read())
            except BaseException:
                connection.close()
                raise
            kept.keep(connection)
            return answer

    def _of_this_process(self) -> _Kept:
        # Two threads may each make one: what the one that is dropped holds is closed with it.
        kept = self._kept
        if kept is None or kept.pid != os.getpid():
            kept = self._kept = _Kept()
        return kept

    @contextmanager
    def _turn(self, kept: _Kept) -> Iterator[None]:
        if not kept.turns.acquire(timeout=self._timeout):
            raise TimeoutError
        try:
            yield
        finally:
            kept.turns.release()

    def _connect(self) -> HTTPConnection:
        if self._tls is None:
            connection = HTTPConnection(self._host, self._port, timeout=self._connect_timeout)
        else:
            connection = HTTPSConnection(self._host, self._port, timeout=self._connect_timeout, context=self._tls)
        connection.connect()
        watch(connection.sock, LONGEST_SILENCE)
        connection.sock.settimeout(self._timeout)
        return connection

    def _too_slow(self) -> StoreUnavailableError:
        limits = f"{self._connect_timeout:g} s to connect, {self._timeout:g} s to answer"
        return StoreUnavailableError(
            f"{self.server} did not answer in time ({limits}).", hint="Look at its load and at the network between."
        )

    def _away(self, exc: Exception) -> StoreUnavailableError:
        reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        return StoreUnavailableError(
            f"{self.server} cannot be reached: {reason}.", hint="Check that it runs and that its address is right."
        )


class _Kept:
    """The connections that one process keeps open between calls."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.turns = BoundedSemaphore(_CONNECTIONS)
        self._idle: deque[tuple[HTTPConnection, float]] = deque()
        self._is_closed = False

    def take(self) -> HTTPConnection | None:
        """The connection that was used last and is still open."""
        while (last := self._last()) is not None:
            connection, since = last
            if time.monotonic() - since < LONGEST_IDLE and _is_open(connection):
                return connection
            connection.close()
        return None

    def keep(self, connection: HTTPConnection) -> None:
        if self._is_closed or connection.sock is None:
            connection.close()
        else:
            self._idle.append((connection, time.monotonic()))

    def close(self) -> None:
        self._is_closed = True
        while (last := self._last()) is not None:
            last[0].close()

    def _last(self) -> tuple[HTTPConnection, float] | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None


def _is_open(connection: HTTPConnection) -> bool:
    # Nobody has asked for anything, so whatever there is to read is the end.
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)
