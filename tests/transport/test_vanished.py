"""A peer that vanishes without FIN and RST, while connections to it are kept: calls, messages, callbacks and NATS."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from faasflow.errors import UnreachableError
from faasflow.ports import Forward
from faasflow.transport.openfaas import OpenFaasTransport
from tests.servers.link import Link
from tests.support import wait_until
from tests.transport.test_call import call


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.bodies.append(body)  # type: ignore[attr-defined]
        self.send_response(202)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass


class Peer(http.server.ThreadingHTTPServer):
    """A gateway on the other side of a link."""

    daemon_threads = True

    def __init__(self, link: Link) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = link.listener()
        self.bodies: list[bytes] = []
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


@pytest.fixture
def link() -> Iterator[Link]:
    with Link() as made:
        yield made


@pytest.fixture
def peer(link: Link) -> Iterator[Peer]:
    made = Peer(link)
    yield made
    made.close()


def established(address: str) -> int:
    """How many connections to `address` the kernel keeps."""
    wanted = socket.inet_aton(address)[::-1].hex().upper()
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return sum(row[2].startswith(f"{wanted}:") and row[3] == "01" for row in rows)


def test_a_call_over_a_connection_whose_peer_vanished_was_not_sent(link: Link, peer: Peer) -> None:
    address = link.appear(2)
    transport = OpenFaasTransport(f"http://{address}:{peer.port}")
    url = transport.function_url("f")
    transport.call(call(url, body=b"before"))
    link.vanish()

    started = time.monotonic()
    with pytest.raises(UnreachableError, match="took nothing of the request"):
        transport.call(call(url, body=b"lost", timeout=60.0))
    assert time.monotonic() - started < 30

    link.appear(2)
    assert transport.call(call(url, body=b"after")).status == 202
    assert peer.bodies == [b"before", b"after"]


def test_a_message_over_a_connection_whose_peer_vanished_is_sent_on_a_new_one(link: Link, peer: Peer) -> None:
    address = link.appear(2)
    transport = OpenFaasTransport(f"http://{address}:{peer.port}")
    transport.forward([Forward("flow", "r1", b"before")])
    link.vanish()
    back = threading.Timer(1.0, link.appear, [2])
    forwarding = threading.Thread(target=transport.forward, args=([Forward("flow", "r1", b"lost")],))
    forwarding.start()
    back.start()
    forwarding.join(60)
    back.join()

    assert peer.bodies == [b"before", b"lost"]


def test_a_kept_connection_whose_peer_vanished_is_given_up_by_itself(link: Link, peer: Peer) -> None:
    address = link.appear(2)
    transport = OpenFaasTransport(f"http://{address}:{peer.port}")
    url = transport.function_url("f")
    transport.call(call(url, body=b"before"))
    assert established(address) == 1
    link.vanish()
    wait_until(lambda: established(address) == 0, "the kernel to give the connection up", timeout=30)
    link.appear(2)
    started = time.monotonic()
    transport.call(call(url, body=b"after"))

    assert time.monotonic() - started < 5
    assert peer.bodies == [b"before", b"after"]


def test_a_peer_that_works_for_long_is_waited_for(link: Link, peer: Peer) -> None:
    address = link.appear(2)
    listener = link.listener()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            wait_until(lambda: time.monotonic() - started > 12, "longer than a silence may last", timeout=30)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    started = time.monotonic()
    threading.Thread(target=serve, daemon=True).start()
    transport = OpenFaasTransport(f"http://{address}:{listener.getsockname()[1]}")

    assert transport.call(call(transport.function_url("f"), timeout=30.0)).body == b"late"
    listener.close()
