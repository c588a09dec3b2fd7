"""A gateway that says what was delivered through it, and a worker as a process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from werkzeug import Request, Response

from faasflow.ports import Forward
from faasflow.transport.jetstream import Address, JetStreamTransport
from faasflow.transport.openfaas import OpenFaasTransport
from faasflow.transport.retry import DELIVERY_HEADER
from faasflow.transport.worker import Limits, Worker
from tests.http.support import served
from tests.servers.nats import NatsServer
from tests.support import wait_until

Answer = Callable[[str, bytes], Any]


@dataclass
class Gateway:
    """Answers every delivery with what `answer(path, body)` returns: a status, or a whole response."""

    answer: Answer = lambda path, body: 200
    url: str = ""
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    numbers: list[str | None] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.seen]

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        path, body = request.full_path.rstrip("?"), request.get_data()
        with self._lock:
            self.seen.append((path, body))
            self.numbers.append(request.headers.get(DELIVERY_HEADER))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            answer = self.answer(path, body)
        finally:
            with self._lock:
                self._now -= 1
        response = Response(status=answer) if isinstance(answer, int) else answer
        return response(environ, start_response)


class WorkerProcess:
    """`faasflow worker` as an operator runs it; it ends when told so, or is killed."""

    def __init__(self, folder: Path, nats: str, gateway: str, *options: str, name: str = "worker") -> None:
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-m", "faasflow.cli", "worker", "--nats", nats, "--gateway", gateway]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--ack-wait", "1s", *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=20)

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=40)


def held(release: threading.Event, seconds: float = 30.0, *, unless: bytes | None = None) -> Answer:
    """Answers 200 when it may, after `seconds` at the latest; at once where the body is `unless`."""

    def answer(path: str, body: bytes) -> int:
        if body != unless:
            release.wait(seconds)
        return 200

    return answer


@contextmanager
def gateway(answer: Answer = lambda path, body: 200) -> Iterator[Gateway]:
    """A gateway on a port of its own, with room for 64 deliveries at a time."""
    made = Gateway(answer)
    with served(made, threads=64) as client:
        made.url = f"http://127.0.0.1:{client.port}"
        yield made


@dataclass(frozen=True)
class Stream:
    """A stream of the test's own on a server."""

    server: NatsServer
    name: str

    @property
    def url(self) -> str:
        return f"{self.server.url}?stream={self.name}"

    @property
    def address(self) -> Address:
        return Address.from_url(self.url)

    @contextmanager
    def transport(self, *, timeout: float = 5.0) -> Iterator[JetStreamTransport]:
        """The transport of a flow function that forwards through this stream."""
        made = JetStreamTransport(OpenFaasTransport("http://127.0.0.1:1"), self.address, timeout=timeout)
        try:
            yield made
        finally:
            made.close()

    def put(self, *bodies: bytes, flow: str = "flow", request_id: str = "r1") -> None:
        with self.transport() as transport:
            transport.forward([Forward(flow, request_id, body) for body in bodies])

    def is_empty(self) -> bool:
        return self.server.messages(self.name) == 0

    def wait_for_empty(self) -> None:
        wait_until(self.is_empty, "every message to be acknowledged", timeout=60)

    @contextmanager
    def worker(self, gateway: Gateway, *flows: str, url: str = "", **limits: Any) -> Iterator[Worker]:
        """A worker in a thread of this process, which reaches the server at `url`."""
        address = Address.from_url(url) if url else self.address
        made = Worker(address, OpenFaasTransport(gateway.url), flows=flows, limits=Limits(**{"ack_wait": 1.0} | limits))
        thread = threading.Thread(target=made.run)
        thread.start()
        try:
            yield made
        finally:
            made.stop()
            thread.join(timeout=40)
            assert not thread.is_alive()
