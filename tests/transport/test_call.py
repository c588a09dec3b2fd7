"""Calling functions and URLs."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from faasflow.errors import CallTimeoutError, NoAnswerError, TransportError, UnreachableError
from faasflow.ports import OutgoingCall
from faasflow.transport.openfaas import OpenFaasTransport
from tests.support import free_port, wait_until
from tests.transport.conftest import LARGE, RawServer, take_late

OK = b"HTTP/1.1 200 OK\r\n"


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def call(url: str, **changes: Any) -> OutgoingCall:
    given = {"method": "POST", "url": url, "headers": {}, "query": [], "body": b"", "timeout": 5.0}
    return OutgoingCall(**given | changes)


def test_a_call_sends_method_headers_query_and_body_and_gives_the_answer(
    transport: OpenFaasTransport, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/function/f").respond_with_data(b"\x00answer", 203, {"X-Kind": "test"})
    given = call(
        transport.function_url("f"), method="PUT", headers={"X-A": "1"}, query=[("a", "1"), ("a", "2")], body=b"\xff\n"
    )
    response = transport.call(given)
    sent, _ = httpserver.log[0]

    assert (response.status, response.body, response.header("x-kind")) == (203, b"\x00answer", "test")
    assert (sent.method, sent.query_string, sent.get_data()) == ("PUT", b"a=1&a=2", b"\xff\n")
    assert sent.headers["X-A"] == "1"


@pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 429, 500, 503])
def test_an_answer_of_any_status_is_an_answer(
    transport: OpenFaasTransport, httpserver: HTTPServer, status: int
) -> None:
    httpserver.expect_request("/").respond_with_response(Response(status=status))

    assert transport.call(call(httpserver.url_for("/"))).status == status
    assert len(httpserver.log) == 1


@pytest.mark.parametrize(
    ("target", "query", "sent"),
    [
        ("/x", [], b""),
        ("/x?a=1", [], b"a=1"),
        ("/x?a=1", [("b", "2")], b"a=1&b=2"),
        ("/x?a=%20+&a", [("a", "3")], b"a=%20+&a&a=3"),
        ("/x?", [("b", "2")], b"b=2"),
        ("/x#part", [("b", "2")], b"b=2"),
        ("/x", [("key one", "a&b=c"), ("ü", "😀/?")], b"key+one=a%26b%3Dc&%C3%BC=%F0%9F%98%80%2F%3F"),
    ],
)
def test_a_query_joins_the_one_that_is_in_the_url(
    transport: OpenFaasTransport, httpserver: HTTPServer, target: str, query: list[tuple[str, str]], sent: bytes
) -> None:
    httpserver.expect_request("/x").respond_with_data()
    transport.call(call(httpserver.url_for("/")[:-1] + target, query=query))

    assert httpserver.log[0][0].query_string == sent


@pytest.mark.parametrize(
    ("name", "path"),
    [("f", "f"), ("f.team", "f.team"), ("f/sub/path", "f/sub/path"), ("a b?c#d", "a%20b%3Fc%23d")],
)
def test_a_function_is_called_through_the_gateway(name: str, path: str) -> None:
    assert OpenFaasTransport("http://gateway:8080/").function_url(name) == f"http://gateway:8080/function/{path}"


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("plain; v=1", "plain; v=1"),
        ("état", "%C3%A9tat"),
        ("😀", "%F0%9F%98%80"),
        ("a\r\nX-Evil: 1", "a%0D%0AX-Evil: 1"),
        (" spaces ", "%20spaces%20"),
        ("", ""),
    ],
)
def test_a_header_carries_any_text_safely(
    transport: OpenFaasTransport, httpserver: HTTPServer, value: str, sent: str
) -> None:
    httpserver.expect_request("/").respond_with_data()
    transport.call(call(httpserver.url_for("/"), headers={"X-Given": value}))
    headers = httpserver.log[0][0].headers

    assert (headers["X-Given"], headers.get("X-Evil")) == (sent, None)


def test_a_compressed_answer_arrives_unpacked(transport: OpenFaasTransport, httpserver: HTTPServer) -> None:
    body = b"long answer " * 10_000
    httpserver.expect_request("/").respond_with_data(gzip.compress(body), headers={"Content-Encoding": "gzip"})

    assert transport.call(call(httpserver.url_for("/"))).body == body


def test_a_large_body_travels_both_ways(transport: OpenFaasTransport, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_handler(lambda request: Response(request.get_data()[::-1]))
    body = os.urandom(3_000_000)

    assert transport.call(call(httpserver.url_for("/"), body=body)).body == body[::-1]


def test_a_slow_answer_is_a_timeout(transport: OpenFaasTransport, raw_server: RawServer) -> None:
    raw_server.answer(lambda connection: time.sleep(10))
    started = time.monotonic()
    with pytest.raises(CallTimeoutError, match=r"Function 'f' did not answer within 0\.2 s"):
        transport.call(call(raw_server.url, timeout=0.2, function="f"))

    assert time.monotonic() - started < 2


def test_a_body_may_take_as_long_as_its_call(
    transport: OpenFaasTransport, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faasflow.transport.openfaas._CONNECT_TIMEOUT", 0.2)
    body = bytes(LARGE)
    raw_server.answer(lambda connection: take_late(connection, after=0.6))

    assert transport.call(call(raw_server.url, body=body, timeout=20)).status == 200


def test_a_body_that_is_not_taken_in_time_is_a_timeout(transport: OpenFaasTransport, raw_server: RawServer) -> None:
    raw_server.answer(lambda connection: time.sleep(10))

    with pytest.raises(CallTimeoutError, match=r"within 0\.4 s"):
        transport.call(call(raw_server.url, body=bytes(LARGE), timeout=0.4))


def test_an_answer_that_trickles_is_a_timeout(transport: OpenFaasTransport, raw_server: RawServer) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.sendall(OK + b"Content-Length: 1000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b".")
            time.sleep(0.05)

    raw_server.answer(trickle)
    with pytest.raises(CallTimeoutError, match=r"within 0\.3 s"):
        transport.call(call(raw_server.url, timeout=0.3))


def test_an_answer_that_stops_halfway_is_a_timeout(transport: OpenFaasTransport, raw_server: RawServer) -> None:
    def stop(connection: socket.socket) -> None:
        connection.sendall(OK + b"Content-Length: 1000\r\n\r\nhalf")
        time.sleep(10)

    raw_server.answer(stop)
    with pytest.raises(CallTimeoutError):
        transport.call(call(raw_server.url, timeout=0.2))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no http\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        OK + b"Content-Length: 10\r\n\r\nhalf",
        OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf",
    ],
)
@pytest.mark.parametrize("end", [lambda connection: None, reset], ids=["closed", "reset"])
def test_an_answer_that_was_cut_is_lost_and_asked_for_once(
    transport: OpenFaasTransport, raw_server: RawServer, answer: bytes, end: Callable[[socket.socket], None]
) -> None:
    def cut(connection: socket.socket) -> None:
        connection.sendall(answer)
        end(connection)

    raw_server.answer(cut)
    with pytest.raises(NoAnswerError, match="gave no answer") as raised:
        transport.call(call(raw_server.url, body=b"x"))

    assert not isinstance(raised.value, UnreachableError)
    assert raw_server.connections == 1


def test_an_address_where_nobody_listens_is_told_by_name(transport: OpenFaasTransport) -> None:
    url = f"http://user:password@127.0.0.1:{free_port()}/path?token=secret"
    with pytest.raises(TransportError) as raised:
        transport.call(call(url, query=[("key", "secret")], body=b"secret"))
    text = f"{raised.value} {raised.value.hint}"

    assert "/path' cannot be connected to: Connection refused." in text
    assert isinstance(raised.value, UnreachableError)
    assert "secret" not in text
    assert "password" not in text


def test_a_host_that_does_not_exist_is_unreachable(transport: OpenFaasTransport) -> None:
    with pytest.raises(UnreachableError, match="cannot be connected to"):
        transport.call(call("http://no-such-host.invalid/"))


@pytest.mark.parametrize(
    "url", ["", "func1", "ftp://host/x", "http://", "http://a b/", "http://[::1", "http://" + "x" * 70 + ".com"]
)
@pytest.mark.parametrize("query", [[], [("a", "1")]])
def test_a_url_that_cannot_be_called_is_a_transport_error(
    transport: OpenFaasTransport, url: str, query: list[tuple[str, str]]
) -> None:
    with pytest.raises(TransportError, match=r"URL .* (cannot be called|cannot be connected to)"):
        transport.call(call(url, query=query))


def test_a_method_or_header_that_is_none_is_a_transport_error(transport: OpenFaasTransport) -> None:
    for changes in ({"method": "GE T\r\n"}, {"headers": {"X-A\r\nX-B": "1"}}, {"headers": {"ü": "1"}}):
        with pytest.raises(TransportError, match="cannot be called"):
            transport.call(call("http://127.0.0.1:1/", **changes))


def test_a_redirect_on_the_same_host_is_followed(transport: OpenFaasTransport, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/old").respond_with_data("", 307, {"Location": "/new"})
    httpserver.expect_request("/new").respond_with_handler(lambda request: Response(request.get_data()))

    assert transport.call(call(httpserver.url_for("/old"), body=b"x")).body == b"x"


def test_a_redirect_to_another_host_is_not_followed(
    transport: OpenFaasTransport, httpserver: HTTPServer, raw_server: RawServer
) -> None:
    raw_server.answer(lambda connection: connection.sendall(OK + b"Content-Length: 0\r\n\r\n"))
    httpserver.expect_request("/old").respond_with_data("moved", 302, {"Location": raw_server.url})
    response = transport.call(call(httpserver.url_for("/old"), headers={"Authorization": "secret"}, body=b"x"))

    assert (response.status, response.body) == (302, b"moved")
    assert raw_server.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_drop_the_body_is_the_answer(
    transport: OpenFaasTransport, httpserver: HTTPServer, status: int
) -> None:
    httpserver.expect_request("/old").respond_with_data("moved", status, {"Location": "/new"})
    response = transport.call(call(httpserver.url_for("/old"), body=b"x"))

    assert (response.status, response.header("Location")) == (status, "/new")
    assert [request.path for request, _ in httpserver.log] == ["/old"]


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_that_keeps_the_body_is_followed_with_it(
    transport: OpenFaasTransport, httpserver: HTTPServer, status: int
) -> None:
    httpserver.expect_request("/old").respond_with_data("", status, {"Location": "/new"})
    httpserver.expect_request("/new").respond_with_data("done")
    response = transport.call(call(httpserver.url_for("/old"), method="PUT", headers={"X-A": "1"}, body=b"x"))

    sent, _ = httpserver.log[-1]
    assert response.body == b"done"
    assert (sent.path, sent.method, sent.headers["X-A"], sent.get_data()) == ("/new", "PUT", "1", b"x")


def test_redirects_without_end_are_an_error(transport: OpenFaasTransport, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/loop").respond_with_data("", 307, {"Location": "/loop"})
    with pytest.raises(TransportError, match="redirects in a circle"):
        transport.call(call(httpserver.url_for("/loop")))

    assert len(httpserver.log) == 11


def test_cookies_are_not_kept(transport: OpenFaasTransport, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data("", headers={"Set-Cookie": "who=one; Path=/"})
    for _ in range(2):
        transport.call(call(httpserver.url_for("/")))

    assert "Cookie" not in httpserver.log[1][0].headers


def test_proxies_of_the_environment_are_not_used(
    transport: OpenFaasTransport, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    httpserver.expect_request("/").respond_with_data("direct")

    assert transport.call(call(httpserver.url_for("/"))).body == b"direct"


def test_connections_are_kept_for_many_threads(raw_server: RawServer) -> None:
    barrier = threading.Barrier(20)

    def answer(connection: socket.socket) -> None:
        barrier.wait(10)
        connection.sendall(OK + b"Content-Length: 0\r\n\r\n")
        while connection.recv(65536):
            connection.sendall(OK + b"Content-Length: 0\r\n\r\n")

    raw_server.answer(answer)
    transport = OpenFaasTransport(raw_server.url, threads=20)
    with ThreadPoolExecutor(20) as pool:
        for _ in range(5):
            assert {response.status for response in pool.map(transport.call, [call(raw_server.url)] * 20)} == {200}
    transport.close()

    assert raw_server.connections == 20


def test_a_connection_that_the_server_has_closed_is_opened_anew(raw_server: RawServer) -> None:
    raw_server.answer(lambda connection: connection.sendall(OK + b"Content-Length: 2\r\n\r\nok"))
    transport = OpenFaasTransport(raw_server.url)
    for number in range(1, 6):
        response = transport.call(call(raw_server.url, body=b"x"))
        wait_until(lambda: raw_server.closed == number, "the server to close the connection")  # noqa: B023

        assert response.body == b"ok"
    transport.close()


def test_a_forked_process_has_connections_of_its_own(transport: OpenFaasTransport, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_handler(_port)
    parent = transport.call(call(httpserver.url_for("/"))).body
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, transport.call(call(httpserver.url_for("/"))).body)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        of_child = pipe.read()
    os.waitpid(child, 0)

    assert parent.isdigit()
    assert of_child.isdigit()
    assert parent != of_child


def _port(request: Request) -> Response:
    return Response(str(request.environ["REMOTE_PORT"]))
