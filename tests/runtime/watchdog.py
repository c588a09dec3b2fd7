"""What stands around a flow function in a cluster: a proxy that treats SIGTERM as of-watchdog does, and a gateway whose
queue delivers through it."""

from __future__ import annotations

import http.client
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support import free_port


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Any) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, data = answer(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", free_port()), Handler)

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class Watchdog:
    """Proxies to the process of a function over connections that it keeps. `statuses` is what was answered."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._idle: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
        self._server = _Server(self._answer)
        self.port: int = self._server.server_address[1]
        self.statuses: list[int] = []

    def serving(self) -> Any:
        return self._server.serving()

    def terminate(self, process: subprocess.Popen[str]) -> None:
        """What it does on SIGTERM: pass it on at once. Requests are still taken, until `serving` ends."""
        process.send_signal(signal.SIGTERM)

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes]:
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=30)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            answer = reply.status, {"X-Faas-Flow-State": reply.getheader("X-Faas-Flow-State", "")}, reply.read()
        except (OSError, http.client.HTTPException):
            answer = 502, {}, b""
        else:
            self._idle.put(connection)
        self.statuses.append(answer[0])
        return answer


class Gateway:
    """Takes forwards and delivers each of them to a port, again and again until it is answered with 2xx."""

    def __init__(self) -> None:
        self._server = _Server(self._enqueue)
        self._queue: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def delivering(self, port: int) -> Iterator[None]:
        thread = threading.Thread(target=self._deliver, args=(port,))
        thread.start()
        try:
            with self._server.serving():
                yield
        finally:
            self._queue.put(None)
            thread.join()

    def _enqueue(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes]:
        self._queue.put(("/" + path.split("/", 3)[3], body))
        return 202, {}, b""

    def _deliver(self, port: int) -> None:
        while message := self._queue.get():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", *message)
            if not 200 <= connection.getresponse().status < 300:
                self._queue.put(message)
                time.sleep(0.05)
            connection.close()
