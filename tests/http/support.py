"""A flow behind a real server, and a client that sends paths and headers exactly as they are given."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from faasflow.config import Settings
from faasflow.http import create_app
from faasflow.http.server import Server
from faasflow.ports import StateStore
from faasflow.testing import FlowTester
from tests.support import free_port

KEY = b"the secret of these tests"
STARTED = "X-Faas-Flow-Reqid"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; `headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Client:
    """Sends requests to a port of this machine."""

    port: int

    def send(
        self,
        method: str,
        target: str,
        body: Any = b"",
        headers: Mapping[str, str | bytes] | None = None,
        **options: Any,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, target, body, headers or {}, **options)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, target: str, **headers: str) -> Reply:
        return self.send("GET", target, headers=headers)

    def post(self, target: str, body: bytes = b"", headers: Mapping[str, str | bytes] | None = None) -> Reply:
        return self.send("POST", target, body, headers)

    def start(self, body: bytes = b"", *, id: str = "", query: str = "") -> Reply:
        headers = {STARTED: id.encode()} if id else {}
        return self.post(f"/?{query}" if query else "/", body, headers)


def settings(**changes: Any) -> Settings:
    """Settings with stores that nobody opens."""
    return Settings(**{"state_store": "memory:", "data_store": "memory:", "flow": "flow", "key": KEY} | changes)


def signature(body: bytes = b"", *, key: bytes = KEY, method: str = "sha256") -> str:
    """What a caller sends as `X-Hub-Signature`."""
    return f"{method}={hmac.new(key, body, getattr(hashlib, method)).hexdigest()}"


def signed(
    method: str = "POST",
    target: str = "/",
    body: bytes = b"",
    *,
    key: bytes = KEY,
    flow: str = "flow",
    age: float = 0,
) -> dict[str, str]:
    """The header of a request that is signed as a whole, `age` seconds ago."""
    now = int(time.time() - age)
    path, _, query = target.partition("?")
    text = f"{now}\n{flow}\n{method}\n{path}\n{query}\n".encode() + body
    own_key = hmac.new(key, b"faasflow request", hashlib.sha256).hexdigest().encode()
    return {"X-Faas-Flow-Signature": f"t={now},v1={hmac.new(own_key, text, hashlib.sha256).hexdigest()}"}


@contextmanager
def served(app: Any, *, threads: int = 8, **limits: int) -> Iterator[Client]:
    """An application behind waitress, on a port of its own."""
    server = Server(app, host="127.0.0.1", port=free_port(), threads=threads, **limits)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield Client(server.port)
    finally:
        server.close()
        thread.join()


def front(tester: FlowTester, **changes: Any) -> Any:
    """The application of a tester's flow."""
    return create_app(tester.engine, settings=settings(**changes))


def deliver_all(tester: FlowTester, client: Client) -> list[Reply]:
    """Deliver every message that waits, and those that follow, over HTTP, as a gateway does."""
    replies = []
    while tester.transport.pending:
        message = tester.transport.pending.popleft()
        replies.append(client.post(f"/flow/{segment(message.request_id)}/forward", message.body))
    return replies


def segment(request_id: str) -> str:
    """An id as a client writes it into a path."""
    return quote(request_id, safe="").replace(".", "%2E")


def contents(store: StateStore) -> dict[str, bytes]:
    """Everything in a store."""
    return dict(store.list(""))
