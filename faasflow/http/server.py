"""A waitress server that ends when what is in flight has been answered; waitress alone drops it."""

from __future__ import annotations

import errno
import logging
import threading
import time
from typing import TYPE_CHECKING

from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.adjustments import Adjustments  # type: ignore[import-untyped]

from faasflow.errors import ConfigError
from faasflow.http.connections import Listener

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

MAX_BODY = 1024 * 1024 * 1024

_DAY = 86_400
_CHUNK_OVERHEAD = 8
_KIBI_64 = 64 * 1024
_LOOK = 0.02
_LOOP = 1.0
_SETTINGS = {
    "ipv6": False,
    "connection_limit": 1_000_000,  # the listener makes room instead of waiting
    "cleanup_interval": 1,
    "channel_timeout": _DAY,  # a pooled connection that closes while it is being written to loses that request
    "clear_untrusted_proxy_headers": False,
    "ident": "faasflow",
}


class Server:
    """Serves one WSGI application. The port is taken when this is made (0: a free one): `ConfigError` if it cannot
    be. A body of more than `max_body` bytes is refused with 413, before it is read where its length is known; one
    without a signature if it has more than `max_unsigned_body`."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        host: str,
        port: int,
        threads: int,
        max_body: int = MAX_BODY,
        max_unsigned_body: int | None = None,
    ) -> None:
        # Threads wait for stores and functions, not for the processor: waitress' warnings about its queue mislead.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._map: dict[int, object] = {}
        self._lock = threading.Lock()
        self._is_closing = False
        try:
            # The parser bounds the body itself; this one is for chunked bodies as they come on the wire.
            on_wire = _CHUNK_OVERHEAD * max_body + _KIBI_64
            adjustments = Adjustments(host=host, port=port, threads=threads, max_request_body_size=on_wire, **_SETTINGS)
            adjustments.max_body, adjustments.max_unsigned_body = max_body, max_unsigned_body
            self._server = Listener(app, map=self._map, adj=adjustments, sockinfo=adjustments.listen[0])
        except (OSError, ValueError) as exc:
            raise _cannot_listen(exc, host=host, port=port) from exc

    @property
    def port(self) -> int:
        return int(self._server.effective_port)

    def run(self) -> None:
        """Serve until `close`, which closes every connection."""
        while not self._is_closing:
            wasyncore.loop(timeout=_LOOP, use_poll=True, map=self._map, count=1)
        self._server.task_dispatcher.shutdown(timeout=_LOOP)
        self._server.health_dispatcher.shutdown(timeout=_LOOP)
        with self._lock:
            self._close_all()

    def drain(self, *, grace: float, limit: float) -> bool:
        """Accept for `grace` seconds more, then wait until nothing is in flight and every answer is sent, for at most
        `limit` seconds; False if that was not enough."""
        time.sleep(grace)
        self._server.accepting = False
        until = time.monotonic() + limit
        while self._is_busy():
            if time.monotonic() > until:
                return False
            time.sleep(_LOOK)
        return True

    def close(self) -> None:
        """End `run`, from another thread. Calling it again is fine."""
        with self._lock:
            if not self._is_closing:
                self._is_closing = True
                self._server.pull_trigger()

    def _is_busy(self) -> bool:
        dispatcher = self._server.task_dispatcher
        if dispatcher.queue or dispatcher.active_count > 0:
            return True
        channels = [*self._server.active_channels.values()]
        return any(channel.request or channel.requests or channel.total_outbufs_len for channel in channels)

    def _close_all(self) -> None:
        # A thread that is still busy will wake the loop when it is done, through a descriptor that must be no other's.
        kept = self._server.trigger if self._server.task_dispatcher.threads else None
        for channel in [*self._map.values()]:
            if channel is not kept:
                channel.close()  # type: ignore[attr-defined]


def end_soon(server: Server, *, grace: float, limit: float) -> threading.Thread:
    """Drain in a thread of its own and end `run` then; to be called by a signal handler, which must not wait."""

    def end() -> None:
        server.drain(grace=grace, limit=limit)
        server.close()

    thread = threading.Thread(target=end, name="drain", daemon=True)
    thread.start()
    return thread


def _cannot_listen(exc: Exception, *, host: str, port: int) -> ConfigError:
    if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
        return ConfigError(f"Port {port} on {host} is in use. Stop what uses it, or set another 'port'.")
    reason = exc.strerror if isinstance(exc, OSError) else str(exc)
    return ConfigError(f"Port {port} on {host!r} cannot be used: {reason}. Set another 'host' or 'port'.")
