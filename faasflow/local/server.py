"""The server of the gateway: one that runs beside other work and notices a client that went away."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from faasflow.errors import ConfigError, GatewayError
from faasflow.http.server import Server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class GatewayServer(Server):
    """Serves in a thread. The port is taken when this is made: `GatewayError` if it cannot be."""

    def __init__(self, app: WSGIApplication, *, host: str, port: int, threads: int) -> None:
        try:
            super().__init__(app, host=host, port=port, threads=threads)
        except ConfigError as exc:
            reason = getattr(exc.__cause__, "strerror", None) or exc.__cause__
            raise GatewayError(f"Port {port} on {host} cannot be used: {reason}. Choose another with --port.") from exc
        # Else nothing is read from a connection while it is answered, and its end goes unnoticed.
        self._server.adj.channel_request_lookahead = 1
        self._thread = threading.Thread(target=self.run, name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_idle(self, *, until: float) -> bool:
        """Wait until no request is in flight and every answer is sent; False if that is not so at `until` (monotonic).

        It accepts meanwhile: what is in flight may need to call back."""
        while self._is_busy():
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
        return True

    def close(self) -> None:
        """Close every connection. Calling it again is fine."""
        if not self._map:
            return
        if self._thread.ident is None:
            self._close_all()
            return
        super().close()
        self._thread.join(timeout=2)
