"""A waitress server that ends when what is in flight has been answered; waitress alone drops it."""

from __future__ import annotations

import errno
import logging
import threading
import time
from typing import TYPE_CHECKING

from waitress.server import create_server  # type: ignore[import-untyped]

from faasflow.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_DAY = 86_400
_LOOK = 0.02
_SETTINGS = {
    "connection_limit": 1000,
    "asyncore_use_poll": True,  # select() ends at 1024 file descriptors
    "channel_timeout": _DAY,  # a pooled connection that closes while it is being written to loses that request
    "clear_untrusted_proxy_headers": False,
    "ident": "faasflow",
}


class Server:
    """Serves one WSGI application. The port is taken when this is made (0: a free one): `ConfigError` if it cannot
    be."""

    def __init__(self, app: WSGIApplication, *, host: str, port: int, threads: int) -> None:
        # Threads wait for stores and functions, not for the processor: waitress' warnings about its queue mislead.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._map: dict[int, object] = {}
        try:
            self._server = create_server(app, map=self._map, host=host, port=port, threads=threads, **_SETTINGS)
        except (OSError, ValueError) as exc:
            raise _cannot_listen(exc, host=host, port=port) from exc

    @property
    def port(self) -> int:
        return int(self._server.effective_port)

    def run(self) -> None:
        """Serve until `close`, from another thread."""
        self._server.run()

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
        """Close every connection and end `run`."""
        self._server.trigger.pull_trigger(self._close_all)
        self._server.task_dispatcher.shutdown(cancel_pending=True, timeout=5)

    def _is_busy(self) -> bool:
        dispatcher = self._server.task_dispatcher
        if dispatcher.queue or dispatcher.active_count > 0:
            return True
        channels = [*self._server.active_channels.values()]
        return any(channel.request or channel.requests or channel.total_outbufs_len for channel in channels)

    def _close_all(self) -> None:
        for channel in [*self._map.values()]:
            channel.close()  # type: ignore[attr-defined]
        self._map.clear()


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
