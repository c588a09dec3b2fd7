"""A waitress server that can be started beside other work, and that drains: waitress alone drops what is in flight."""

from __future__ import annotations

import errno
import logging
import threading
import time
from typing import TYPE_CHECKING

from waitress.server import create_server  # type: ignore[import-untyped]

from faasflow.errors import GatewayError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_DAY = 86_400


class Server:
    """Serves one WSGI application on one address. The port is taken when this is made: `GatewayError` if it is busy."""

    def __init__(self, app: WSGIApplication, *, host: str, port: int, threads: int) -> None:
        # Threads wait for functions, not for the processor, so waitress' warnings about its queue mean nothing here.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._map: dict[int, object] = {}
        self._thread: threading.Thread | None = None
        try:
            self._server = create_server(app, map=self._map, host=host, port=port, threads=threads, **_SETTINGS)
        except OSError as exc:
            raise _bind_error(exc, host=host, port=port) from exc

    @property
    def port(self) -> int:
        return int(self._server.effective_port)

    def start(self) -> None:
        """Serve in a thread."""
        self._thread = threading.Thread(target=self.run, name="http", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Serve until `close`."""
        self._server.run()

    def drain(self, *, until: float) -> bool:
        """Wait until no request is in flight and every answer is sent; False if that is not so at `until` (monotonic).

        It still accepts meanwhile: what is in flight may need to call back."""
        while self._is_busy():
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
        return True

    def close(self) -> None:
        """Close every connection and end `run`. Calling it again is fine."""
        if not self._map:
            return
        if self._thread is None:
            self._close_all()
        else:
            # The loop's sockets are the loop's to close.
            self._server.trigger.pull_trigger(self._close_all)
            self._thread.join(timeout=2)
        self._server.task_dispatcher.set_thread_count(0)

    def _is_busy(self) -> bool:
        dispatcher = self._server.task_dispatcher
        if dispatcher.queue or dispatcher.active_count > 0:
            return True
        return any(
            channel.requests or channel.total_outbufs_len for channel in [*self._server.active_channels.values()]
        )

    def _close_all(self) -> None:
        for channel in [*self._map.values()]:
            channel.close()  # type: ignore[attr-defined]
        self._map.clear()


_SETTINGS = {
    "ipv6": False,
    "connection_limit": 1000,
    "asyncore_use_poll": True,  # select() ends at 1024 file descriptors
    "channel_timeout": _DAY,  # a pooled connection that closes while it is being written to loses that request
    "channel_request_lookahead": 1,  # else a client that went away is not noticed
    "clear_untrusted_proxy_headers": False,
    "ident": "faasflow",
}


def _bind_error(exc: OSError, *, host: str, port: int) -> GatewayError:
    if exc.errno == errno.EADDRINUSE:
        return GatewayError(f"Port {port} on {host} is in use. Stop what uses it, or choose another with --port.")
    return GatewayError(f"Port {port} on {host} cannot be used: {exc.strerror or exc}. Choose another with --port.")
