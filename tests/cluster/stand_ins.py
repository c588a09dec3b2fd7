"""Functions that live in the process of the test, and are called over HTTP."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from urllib.parse import parse_qsl

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request
from werkzeug.wrappers import Response as Answer

from tests.fundamentals.running import NO_ANSWER, Call, StandIn, answered
from tests.support import free_port


class StandIns:
    """Serves stand-ins by name, and remembers their calls."""

    def __init__(self) -> None:
        self.port = free_port()
        self._functions: dict[str, StandIn] = {}
        self._calls: dict[str, list[Call]] = defaultdict(list)
        self._forgotten = threading.Event()
        self._server = make_server("127.0.0.1", self.port, self._serve, threaded=True, request_handler=_Quiet)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def replace(self, functions: Mapping[str, StandIn]) -> None:
        """Serve these and no others, as if none had been called."""
        self._forgotten.set()
        self._forgotten = threading.Event()
        self._functions = dict(functions)
        self._calls = defaultdict(list)

    def calls(self, name: str) -> list[Call]:
        return self._calls[name]

    def close(self) -> None:
        self._forgotten.set()
        self._server.shutdown()

    @Request.application
    def _serve(self, request: Request) -> Answer:
        name = request.path.strip("/")
        code, forgotten, calls = self._functions.get(name), self._forgotten, self._calls
        if code is None:
            return Answer(f"no stand-in {name!r}", 404)
        body = request.get_data()
        headers = {key.lower(): value for key, value in request.headers.items()}
        query = parse_qsl(request.query_string.decode(), keep_blank_values=True)
        calls[name].append(Call(request.method, query, headers, body))
        response = answered(code, body)
        if response is NO_ANSWER:
            forgotten.wait(60)
            return Answer(status=500)
        return Answer(response.body, response.status, dict(response.headers))


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        pass
