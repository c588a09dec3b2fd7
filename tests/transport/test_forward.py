"""Handing messages to the queue of the gateway."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from faasflow.errors import ForwardError
from faasflow.ports import Forward
from faasflow.transport.openfaas import OpenFaasTransport
from tests.support import free_port
from tests.transport.conftest import RawServer

ANY = "/async-function/flow/flow/r1/forward"


@pytest.mark.parametrize("status", [200, 202])
def test_a_message_is_queued_as_a_call_of_the_flow_itself(
    transport: OpenFaasTransport, httpserver: HTTPServer, status: int
) -> None:
    httpserver.expect_request(ANY, method="POST").respond_with_data(status=status)
    transport.forward([Forward("flow", "r1", b'{"signed": 1}')])
    sent, _ = httpserver.log[0]

    assert sent.get_data() == b'{"signed": 1}'
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.headers["X-Faas-Flow-Reqid"] == "r1"


@pytest.mark.parametrize(
    ("flow", "id", "target"),
    [
        ("flow.team", "r1", "/async-function/flow.team/flow/r1/forward"),
        ("flow", "a.b-c_D9", "/async-function/flow/flow/a.b-c_D9/forward"),
        ("flow", "..", "/async-function/flow/flow/-/forward?id=.."),
        ("flow", ".hidden", "/async-function/flow/flow/-/forward?id=.hidden"),
        ("flow", "a/b", "/async-function/flow/flow/-/forward?id=a%2Fb"),
        ("flow", "%2f", "/async-function/flow/flow/-/forward?id=%252f"),
        ("flow", "a b&id=c", "/async-function/flow/flow/-/forward?id=a%20b%26id%3Dc"),
        ("flow", "😀", "/async-function/flow/flow/-/forward?id=%F0%9F%98%80"),
        ("flow", "x" * 200, f"/async-function/flow/flow/{'x' * 200}/forward"),
    ],
)
def test_an_id_is_in_the_path_where_no_gateway_could_change_it(
    transport: OpenFaasTransport, httpserver: HTTPServer, flow: str, id: str, target: str
) -> None:
    httpserver.expect_request(target.partition("?")[0]).respond_with_data(status=202)
    transport.forward([Forward(flow, id, b"{}")])

    assert httpserver.log[0][0].environ["REQUEST_URI"] == target


def test_the_id_in_the_header_is_plain_ascii(transport: OpenFaasTransport, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/async-function/flow/flow/-/forward").respond_with_data(status=202)
    transport.forward([Forward("flow", "😀\n", b"{}")])

    assert httpserver.log[0][0].headers["X-Faas-Flow-Reqid"] == "%F0%9F%98%80%0A"


@pytest.mark.parametrize("status", [201, 204, 302, 400, 404, 413, 500, 503])
def test_any_other_answer_means_that_it_was_not_queued(
    transport: OpenFaasTransport, httpserver: HTTPServer, status: int
) -> None:
    httpserver.expect_request(ANY).respond_with_data("the body says secret things", status)
    with pytest.raises(ForwardError, match=rf"'r1' was not queued: the gateway answered {status}") as raised:
        transport.forward([Forward("flow", "r1", b"{}")])

    assert len(httpserver.log) == 1
    assert "secret" not in f"{raised.value} {raised.value.hint}"


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_message_that_is_redirected_without_its_body_is_not_queued(
    transport: OpenFaasTransport, httpserver: HTTPServer, status: int
) -> None:
    new = f"http://user:password@127.0.0.1:{free_port()}/new?token=secret"
    httpserver.expect_request(ANY).respond_with_data("", status, {"Location": new})
    httpserver.expect_request("/new").respond_with_data("", 200)
    with pytest.raises(ForwardError, match=rf"answered {status} and points to 'http://…@127.0.0.1:\d+/new'") as raised:
        transport.forward([Forward("flow", "r1", b"{}")])

    assert "password" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_threads_that_forward_many_at_once_share_the_connections(
    raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            if not connection.recv(65536):
                return

    raw_server.answer(answer)
    transport = OpenFaasTransport(raw_server.url, threads=4)
    messages = [Forward("flow", "r1", b"")] * 40
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: transport.forward(messages), range(8)))
    transport.close()

    assert "Connection pool is full" not in caplog.text
    assert raw_server.connections <= 16


def test_a_gateway_that_is_away_is_a_forward_error() -> None:
    transport = OpenFaasTransport(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ForwardError, match="Connection refused"):
        transport.forward([Forward("flow", "r1", b"{}")])


def test_nothing_to_forward_is_no_call(transport: OpenFaasTransport, httpserver: HTTPServer) -> None:
    transport.forward([])

    assert httpserver.log == []


def test_many_messages_are_queued_a_few_at_a_time() -> None:
    gauge, messages = _Gauge(), [Forward("flow", "r1", b"%d" % number) for number in range(100)]
    with HTTPServer("127.0.0.1", free_port(), threaded=True) as gateway:
        gateway.expect_request(ANY).respond_with_handler(gauge)
        OpenFaasTransport(gateway.url_for("/")).forward(messages)

    assert sorted(request.get_data() for request, _ in gateway.log) == sorted(message.body for message in messages)
    assert 1 < gauge.most <= 16


def test_one_message_that_is_refused_fails_them_all_and_spares_the_rest(
    transport: OpenFaasTransport, httpserver: HTTPServer
) -> None:
    httpserver.expect_request(ANY).respond_with_data(status=503)
    with pytest.raises(ForwardError, match="503"):
        transport.forward([Forward("flow", "r1", b"{}")] * 500)

    assert len(httpserver.log) < 100


class _Gauge:
    """Counts how many calls are under way at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __call__(self, request: Any) -> Response:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.005)
        with self._lock:
            self._now -= 1
        return Response(status=202)
