"""How a flow does behind a queue like that of OpenFaaS CE: it acknowledges every message, has them in memory, delivers
one at a time, tries each once, refuses more than 256,000 bytes, and forgets all of them when it is restarted.

Usage: python bench/community_queue.py [--requests N] [--nodes N] [--seconds S] [--restart-after N]

The flow runs in a process of its own, on SQLite, with the settings of `faasflow up`. Prints how many messages were
needed, put and forgotten, how many requests finished, and how long it took. Ends with 1 unless all finished.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from serving import FLOW, serving

from faasflow.cli.remote import REQUEST_ID, Remote, result_path

LARGEST = 256_000
PROGRESS = 60.0
_HOP = {"host", "connection", "content-length", "transfer-encoding"}

HANDLER = '''
import os
import time


def work(data):
    time.sleep(float(os.environ["SECONDS"]))
    return data


def define(flow, context):
    """A first and a last node, and as many between them as are asked for, of which none waits for another."""
    dag = flow.dag()
    dag.node("first").modify(work)
    dag.node("last", aggregator=lambda results: b",".join(results.values())).modify(work)
    for number in range(int(os.environ["NODES"]) - 2):
        dag.node(f"n{number}").modify(work)
        dag.edge("first", f"n{number}")
        dag.edge(f"n{number}", "last")
'''


class CommunityQueue:
    """The queue, and the HTTP server in front of it. Calls that are not asynchronous go on to `gateway`."""

    def __init__(self) -> None:
        self.gateway = ""
        self.put = self.forgotten = self.delivered = 0
        self._messages: deque[tuple[str, dict[str, str], bytes]] = deque()
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        threading.Thread(target=self._deliver, daemon=True).start()

    def restart(self) -> None:
        """Forget every message that was not delivered yet."""
        with self._changed:
            self.forgotten += len(self._messages)
            self._messages.clear()

    def close(self) -> None:
        """Take nothing any more."""
        self._server.shutdown()
        self._server.server_close()

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        if len(body) > LARGEST:
            return 413
        with self._changed:
            self.put += 1
            self._messages.append((path.replace("/async-function/", "/function/", 1), headers, body))
            self._changed.notify()
        return 202

    def _deliver(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._messages)
                path, headers, body = self._messages.popleft()
            requests.post(self.gateway + path, data=body, headers=headers, timeout=600)
            self.delivered += 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        queue = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                if self.path.startswith("/async-function/"):
                    self._answer(queue._take(self.path, headers, body), b"")
                    return
                answer = requests.post(queue.gateway + self.path, data=body, headers=headers, timeout=600)
                self._answer(answer.status_code, answer.content)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@contextmanager
def installation(nodes: int, seconds: float) -> Iterator[tuple[CommunityQueue, Remote]]:
    """The queue, and how to call the flow behind it."""
    queue = CommunityQueue()
    environment = {"gateway": queue.url, "NODES": str(nodes), "SECONDS": str(seconds)}
    with serving({"handler.py": HANDLER}, environment=environment) as (gateway, remote):
        queue.gateway = gateway.url
        try:
            yield queue, remote
        finally:
            queue.close()


def main() -> int:
    """Start the requests, restart the queue when it is time, and wait for the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10, help="requests at once (default: 10)")
    parser.add_argument("--nodes", type=int, default=20, help="nodes of a request (default: 20)")
    parser.add_argument("--seconds", type=float, default=0.2, help="what a node takes (default: 0.2)")
    parser.add_argument(
        "--restart-after", type=int, default=0, help="deliveries until the queue forgets (default: never)"
    )
    parser.add_argument("--patience", type=float, default=2.0, help="times the shortest possible time (default: 2)")
    options = parser.parse_args()
    needed = options.requests * options.nodes
    with installation(options.nodes, options.seconds) as (queue, remote):
        began = time.monotonic()
        until = began + 60 + options.patience * needed * options.seconds
        left = [remote.call(FLOW, body=b"x").headers[REQUEST_ID] for _ in range(options.requests)]
        shown, is_due = began, options.restart_after > 0
        while left and time.monotonic() < until:
            if is_due and queue.delivered >= options.restart_after:
                queue.restart()
                is_due = False
            left = [id for id in left if remote.call(FLOW, result_path(id), method="GET").status_code != 200]
            if time.monotonic() > shown + PROGRESS:
                shown = time.monotonic()
                say(f"{shown - began:.0f} s: {queue.put} put, {queue.delivered} delivered, {len(left)} requests left")
            time.sleep(1.0)
        seconds = time.monotonic() - began
        say(f"needed {needed}, put {queue.put} ({queue.put / needed:.2f}), forgotten {queue.forgotten}")
        say(f"{options.requests - len(left)} of {options.requests} finished after {seconds:.0f} s")
    return 1 if left else 0


def say(text: str) -> None:
    """A line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
