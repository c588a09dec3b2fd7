"""What slow, half-open, very many and very large requests do to a server: nothing to the others."""

from __future__ import annotations

import http.client
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from faasflow.http import connections
from faasflow.testing import FlowTester
from tests.http.support import Client, front, served, signature
from tests.support import wait_until

HALF = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def opened() -> Iterator[Callable[..., socket.socket]]:
    """Opens connections that send something and then nothing."""
    with ExitStack() as stack:

        def open_one(port: int, sent: bytes = HALF) -> socket.socket:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            connection.sendall(sent)
            return connection

        yield open_one


def echo(environ: Any, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def answer_of(connection: socket.socket) -> bytes:
    """The body of an answer that is two bytes long."""
    read = b""
    while len(read.partition(b"\r\n\r\n")[2]) < 2:
        received = connection.recv(1000)
        assert received, "the connection was closed"
        read += received
    return read.partition(b"\r\n\r\n")[2]


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def is_established(port: int, peer: int) -> bool:
    """Whether the side of a port has not closed its connection to a port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any((row[1][-5:], row[2][-5:], row[3]) == (f":{port:04X}", f":{peer:04X}", "01") for row in rows)


@pytest.mark.parametrize("sent", [b"", HALF], ids=["nothing", "half a header"])
def test_more_half_open_connections_than_a_peer_may_have_do_not_keep_others_out(
    sent: bytes, opened: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_OF_A_PEER", 50)
    with served(echo) as client:
        held = [opened(client.port, sent) for _ in range(120)]
        reply = client.post("/", b"order")

        assert (reply.status, reply.body) == (200, b"order")
        wait_until(lambda: sum(map(is_closed, held)) >= 70, "the oldest make room")


def test_a_connection_with_a_request_at_work_is_not_closed_to_make_room(
    opened: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, began = threading.Event(), threading.Event()

    def slow(environ: Any, start_response: Any) -> Iterable[bytes]:
        began.set()
        go_on.wait(30)
        return echo(environ, start_response)

    monkeypatch.setattr(connections, "MOST_OF_A_PEER", 10)
    with served(slow, threads=1) as client:
        working = opened(client.port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
        began.wait(10)
        held = [opened(client.port) for _ in range(30)]
        wait_until(lambda: sum(map(is_closed, held)) >= 20, "the oldest make room")
        go_on.set()
        working.settimeout(30)

        assert working.recv(100).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        (HALF, "HEADER_TIMEOUT"),
        (HALF + b"Content-Length: 9\r\n\r\nslow", "BODY_TIMEOUT"),
        (HALF + b"Content-Length: 9\r\n\r\nslow", "BODY_IDLE_TIMEOUT"),
    ],
)
def test_a_request_that_arrives_too_slowly_is_closed(
    sent: bytes, limit: str, opened: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, limit, 0.5)
    with served(echo) as client:
        connection = opened(client.port, sent)

        wait_until(lambda: is_closed(connection), "the connection to be closed")


def test_an_idle_connection_that_was_used_stays_open(
    opened: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("HEADER_TIMEOUT", "BODY_TIMEOUT", "BODY_IDLE_TIMEOUT"):
        monkeypatch.setattr(connections, limit, 0.2)
    with served(echo) as client:
        kept = opened(client.port, HALF + b"Content-Length: 2\r\n\r\nhi")
        first = answer_of(kept)
        slow = opened(client.port)
        wait_until(lambda: is_closed(slow), "the limits to be enforced")
        kept.sendall(HALF + b"Content-Length: 2\r\n\r\nho")

        assert (first, answer_of(kept)) == (b"hi", b"ho")


@pytest.mark.parametrize("path", ["/_/health", "/healthz"])
def test_health_is_answered_while_all_threads_are_busy(path: str) -> None:
    go_on = threading.Event()
    busy = threading.Semaphore(0)

    def slow(environ: Any, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != path:
            busy.release()
            go_on.wait(30)
        return echo(environ, start_response)

    with served(slow, threads=2) as client:
        callers = [threading.Thread(target=client.post, args=("/",)) for _ in range(6)]
        for caller in callers:
            caller.start()
        assert busy.acquire(timeout=10)
        assert busy.acquire(timeout=10)
        status = client.get(path).status
        go_on.set()
        for caller in callers:
            caller.join()

    assert status == 200


def test_without_descriptors_the_log_gets_one_line_and_the_server_recovers(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with served(echo) as client, ExitStack() as stack:
        waiting = [socket.socket() for _ in range(10)]
        for connection in waiting:
            stack.enter_context(connection)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(name) for name in os.listdir("/proc/self/fd")) + 1, hard))
        try:
            spare = [*_rest_of_descriptors()]
            for connection in waiting:
                connection.connect(("127.0.0.1", client.port))
            wait_until(lambda: "no file descriptors left" in caplog.text, "the fault to be reported")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in spare:
                os.close(descriptor)

        assert client.post("/", b"again").body == b"again"
        assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_body_over_the_limit_is_413_by_name_and_one_at_the_limit_is_taken() -> None:
    with served(echo, max_body=1000) as client:
        replies = [client.post("/", b"x" * size) for size in (999, 1000, 1001)]
        chunked = [client.send("POST", "/", iter([b"x"] * size)) for size in (999, 1000, 1001)]

    assert [reply.status for reply in replies + chunked] == [200, 200, 413] * 2
    assert [len(reply.body) for reply in chunked[:2]] == [999, 1000]
    for refused in (replies[2], chunked[2]):
        assert b"The body exceeds max_body of 1000 bytes." in refused.body


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_is_sent(
    opened: Callable[..., socket.socket],
) -> None:
    with served(echo, max_body=1000) as client:
        connection = opened(client.port, HALF + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")

        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("sent", [b"1;" + b"a" * 100_000, b"0\r\n" + b"A: " + b"a" * 100_000], ids=["chunk", "trailer"])
def test_what_stands_between_the_chunks_of_a_body_is_bounded(sent: bytes, opened: Callable[..., socket.socket]) -> None:
    with served(echo, max_body=1_000_000) as client:
        connection = opened(client.port, HALF + b"Transfer-Encoding: chunked\r\n\r\n" + sent)

        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("size", [14_000_000, 100_000_000], ids=["answered", "still answering"])
def test_a_client_that_never_reads_its_answer_is_closed(
    size: int, opened: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SEND_IDLE_TIMEOUT", 0.5)
    ended = threading.Event()

    def large(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", str(size))])
        try:
            yield from [b"x" * 1_000_000] * (size // 1_000_000)
        finally:
            ended.set()

    with served(large, threads=1) as client:
        deaf = opened(client.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(ended.is_set, "the thread to be free again")
        wait_until(lambda: not is_established(client.port, deaf.getsockname()[1]), "the connection to be closed")

        assert len(client.get("/").body) == size


def test_clients_that_never_read_their_answers_make_room_for_others(
    opened: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_OF_A_PEER", 4)
    monkeypatch.setattr(connections, "DEAF_AFTER", 0.5)

    def large(environ: Any, start_response: Any) -> Iterable[bytes]:
        size = 14_000_000 if environ["PATH_INFO"] == "/large" else 2
        start_response("200 OK", [("Content-Length", str(size))])
        return [b"x" * size]

    def is_served(client: Client) -> bool:
        try:
            return client.get("/").status == 200
        except http.client.HTTPException:
            return False

    with served(large) as client:
        for _ in range(4):
            opened(client.port, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")

        wait_until(lambda: is_served(client), "another client to be served")


def test_a_client_that_reads_slowly_gets_its_whole_answer(
    opened: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SEND_IDLE_TIMEOUT", 2)
    size = 20_000_000

    def large(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", str(size))])
        return [b"x" * size]

    with served(large) as client:
        slow = opened(client.port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        until, read = time.monotonic(), 0
        while received := slow.recv(1_000_000):
            read += len(received)
            until += 4 * len(received) / size
            wait_until(lambda until=until: time.monotonic() > until, "the time that this much takes")

    assert read > size


def test_a_large_body_without_a_signature_is_refused_before_it_is_read(chain: FlowTester) -> None:
    app = front(chain, authenticate_request=True)
    with served(app, max_body=100_000, max_unsigned_body=1000) as client:
        unsigned = [client.post("/", b"x" * 1001), client.send("POST", "/", iter([b"x" * 600] * 2))]
        signed = client.post("/", b"x" * 90_000, {"X-Hub-Signature": signature(b"x" * 90_000)})

    assert [reply.status for reply in (*unsigned, signed)] == [413, 413, 202]
    assert all(b"A body without a signature may have 1000 bytes." in reply.body for reply in unsigned)


def _rest_of_descriptors() -> Iterator[int]:
    while True:
        try:
            yield os.dup(0)
        except OSError:
            return
