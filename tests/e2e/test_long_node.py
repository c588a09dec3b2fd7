"""A node that works for longer than its lease, with real processes and real seconds, behind a queue that delivers its
message again and again to another process. LONG_NODE_SECONDS=90 makes it as long as in a cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.http.support import Client
from tests.support import free_port, wait_until

SECONDS = float(os.environ.get("LONG_NODE_SECONDS", "7"))
LEASE = min(20.0, max(5.0, SECONDS / 4))
HANDLER = """
def define(flow, context):
    dag = flow.dag()
    dag.node("long").apply("slow", timeout=600)
    dag.node("last").modify(lambda data: data + b" and recorded")
    dag.edge("long", "last")
"""
SERVE = (
    "import sys; from pathlib import Path; from faasflow.runtime import serve; serve(Path(sys.argv[1]), name='flow')"
)


class Gateway:
    """The function `slow`, which answers when it is let go, and a queue that delivers when it is told to."""

    def __init__(self) -> None:
        self.calls: list[dict[str, str]] = []
        self.messages: list[bytes] = []
        self.let_go = threading.Event()
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                status, answer = gateway.answer(self.path, dict(self.headers), body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if path.startswith("/async-function/"):
            self.messages.append(body)
            return 202, b""
        self.calls.append(headers)
        self.let_go.wait(2 * SECONDS + 60)
        return 200, b"done"


class Replica:
    """A process of the flow."""

    def __init__(self, folder: Path, gateway: Gateway) -> None:
        self.port = free_port()
        settings = {
            "gateway": f"127.0.0.1:{gateway.server.server_port}",
            "state_dir": str(folder / "state"),
            "validate_request": "false",
            "port": str(self.port),
            "lease": f"{LEASE:g}",
            "tick_interval": "0",
            "exec_timeout": "0",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(folder)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])} | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.client = Client(self.port)
        wait_until(lambda: self.client.get("/_/ready").status == 200, "the replica to be ready")

    def deliver(self, message: bytes) -> int:
        return self.client.post("/flow/r/forward", message).status

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    found = Gateway()
    yield found
    found.let_go.set()
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def replicas(tmp_path: Path, gateway: Gateway) -> Iterator[list[Replica]]:
    (tmp_path / "handler.py").write_text(HANDLER)
    found = [Replica(tmp_path, gateway) for _ in range(2)]
    yield found
    for replica in found:
        replica.end()


def delivered_again(replica: Replica, message: bytes, *, until: float) -> list[int]:
    """What a queue is answered that delivers a message each half second until then."""
    answers = []
    while time.monotonic() < until:
        answers.append(replica.deliver(message))
        time.sleep(0.5)
    return answers


def begin(replicas: list[Replica], gateway: Gateway, pool: ThreadPoolExecutor) -> bytes:
    """Start a request whose first node the first replica works on, under a lease."""
    first, second = replicas
    first.client.start(b"", id="r")
    [message] = gateway.messages
    gateway.messages.clear()
    pool.submit(first.deliver, message)
    wait_until(lambda: gateway.calls, "the function to be called")
    wait_until(lambda: _has_lease(second), "the lease to be there")
    return message


def _has_lease(replica: Replica) -> bool:
    nodes = replica.client.get("/flow/r").json["nodes"]
    return any(node["path"] == "long" and node["state"] == "RUNNING" for node in nodes)


def finish(replica: Replica, gateway: Gateway) -> bytes:
    [message] = gateway.messages
    assert replica.deliver(message) == 200
    return replica.client.get("/flow/r/result").body


def test_a_node_that_outlasts_its_lease_is_called_once(replicas: list[Replica], gateway: Gateway) -> None:
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        message = begin(replicas, gateway, pool)
        answers = delivered_again(replicas[1], message, until=began + SECONDS)
        gateway.let_go.set()
    wait_until(lambda: gateway.messages, "the next node to be forwarded")

    assert set(answers) == {503}
    assert len(gateway.calls) == 1
    assert finish(replicas[1], gateway) == b"done and recorded"


def test_a_node_whose_process_is_killed_is_called_once_more_when_its_lease_is_over(
    replicas: list[Replica], gateway: Gateway
) -> None:
    with ThreadPoolExecutor(2) as pool:
        message = begin(replicas, gateway, pool)
        delivered_again(replicas[1], message, until=time.monotonic() + SECONDS / 3)
        replicas[0].end()
        again = pool.submit(delivered_until_taken, replicas[1], message)
        wait_until(lambda: len(gateway.calls) == 2, "the function to be called again", timeout=LEASE + 20)
        gateway.let_go.set()
        last = again.result(30)
    wait_until(lambda: gateway.messages, "the next node to be forwarded")
    keys = {call["Idempotency-Key"] for call in gateway.calls}

    assert last == 200
    assert len(keys) == 1
    assert finish(replicas[1], gateway) == b"done and recorded"


def delivered_until_taken(replica: Replica, message: bytes) -> int:
    while (answer := replica.deliver(message)) == 503:
        time.sleep(0.5)
    return answer
