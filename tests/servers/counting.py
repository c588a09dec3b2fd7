"""A proxy between a store's client and its server, which counts what passes: from outside, not in our own code."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import urllib3
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.support import free_port

IsWrite = Callable[[str, str, bytes], bool]


class CountingProxy:
    """Passes HTTP requests on to `target` (host and port), and counts them as `reads` or `writes`."""

    def __init__(self, target: str, is_write: IsWrite) -> None:
        self.port = free_port()
        self.reads = 0
        self.writes = 0
        self._is_write = is_write
        self._lock = threading.Lock()
        self._pool = urllib3.HTTPConnectionPool(target.partition(":")[0], int(target.partition(":")[2]), maxsize=16)
        self._server = make_server("127.0.0.1", self.port, self._pass, threaded=True, request_handler=_KeepAlive)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        with self._lock:
            self.reads = self.writes = 0

    def close(self) -> None:
        self._server.shutdown()
        self._pool.close()

    @Request.application
    def _pass(self, request: Request) -> Response:
        body = request.get_data()
        path = request.full_path if request.query_string else request.path
        with self._lock:
            if self._is_write(request.method, request.path, body):
                self.writes += 1
            else:
                self.reads += 1
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        answer = self._pool.request(request.method, path, body=body, headers=headers, redirect=False)
        kept = [(key, value) for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP]
        return Response(answer.data, answer.status, kept)


def is_consul_write(method: str, path: str, body: bytes) -> bool:
    """A change of a key, or a transaction that has one."""
    if path != "/v1/txn":
        return method in ("PUT", "DELETE")
    return any(op["KV"]["Verb"] in ("set", "cas", "delete", "delete-cas", "delete-tree") for op in json.loads(body))


def is_etcd_write(method: str, path: str, body: bytes) -> bool:
    """A change of a key, or a transaction that has one."""
    if not path.endswith("/txn"):
        return path.endswith(("/put", "/deleterange"))
    done = json.loads(body)
    return any(
        "request_put" in op or "requestPut" in op or "request_delete_range" in op or "requestDeleteRange" in op
        for op in [*done.get("success", []), *done.get("failure", [])]
    )


_HOP_BY_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "host", "content-length", "accept-encoding"))


class _KeepAlive(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        pass
