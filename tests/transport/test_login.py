"""The login of the gateway, and who is sent it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from faasflow.errors import ForwardError
from faasflow.ports import Forward, OutgoingCall
from faasflow.transport.openfaas import OpenFaasTransport
from tests.support import free_port

LOGIN = "Basic YWRtaW46aHVudGVyMg=="


@pytest.fixture
def gateway(httpserver: HTTPServer) -> HTTPServer:
    """Answers everything."""
    httpserver.expect_request("/function/moved").respond_with_data("", 307, {"Location": "/system/functions"})
    httpserver.expect_request("/function/cleaned").respond_with_data("", 307, {"Location": "/function/other"})
    httpserver.expect_request("/async-function/flow/flow/r1/forward").respond_with_data(status=202)
    return httpserver


@pytest.fixture
def transport(gateway: HTTPServer) -> Iterator[OpenFaasTransport]:
    transport = OpenFaasTransport(gateway.url_for("/"), login=LOGIN)
    yield transport
    transport.close()


def call(url: str, function: str | None = None, **headers: str) -> OutgoingCall:
    return OutgoingCall("POST", url, headers, [], b"x", 5.0, function)


def logins(gateway: HTTPServer) -> list[Any]:
    return [(request.path, request.headers.get("Authorization")) for request, _ in gateway.log]


def test_functions_and_the_queue_are_called_with_the_login(transport: OpenFaasTransport, gateway: HTTPServer) -> None:
    transport.call(call(transport.function_url("f.team"), "f.team"))
    transport.forward([Forward("flow", "r1", b"{}")])

    assert logins(gateway) == [("/function/f.team", LOGIN), ("/async-function/flow/flow/r1/forward", LOGIN)]


def test_no_url_is_sent_the_login_be_it_one_of_the_gateway(transport: OpenFaasTransport, gateway: HTTPServer) -> None:
    for path in ("/function/f", "/system/functions", "/"):
        transport.call(call(gateway.url_for(path)))

    assert [login for _, login in logins(gateway)] == [None] * 3


@pytest.mark.parametrize(
    "path", ["/system/functions", "/function/../system/functions", "/function/%2e%2e/system", "/function/a/%2E%2e/b"]
)
def test_a_function_call_that_left_the_functions_is_sent_no_login(
    transport: OpenFaasTransport, gateway: HTTPServer, path: str
) -> None:
    transport.call(call(gateway.url_for("/")[:-1] + path, "f"))

    assert [login for _, login in logins(gateway)] == [None]


def test_a_call_that_was_sent_to_another_host_is_sent_no_login(gateway: HTTPServer) -> None:
    transport = OpenFaasTransport("http://127.0.0.1", login=LOGIN)
    transport.call(call(gateway.url_for("/function/f"), "f"))

    assert logins(gateway) == [("/function/f", None)]


def test_a_login_of_its_own_is_left_to_a_call(transport: OpenFaasTransport, gateway: HTTPServer) -> None:
    transport.call(call(transport.function_url("f"), "f", authorization="Bearer own"))

    assert logins(gateway) == [("/function/f", "Bearer own")]


@pytest.mark.parametrize(("name", "target"), [("moved", "/system/functions"), ("cleaned", "/function/other")])
def test_a_function_cannot_send_the_login_elsewhere(
    transport: OpenFaasTransport, gateway: HTTPServer, name: str, target: str
) -> None:
    transport.call(call(transport.function_url(name), name))

    assert logins(gateway) == [(f"/function/{name}", LOGIN), (target, None)]


def test_a_gateway_that_wants_a_login_says_so() -> None:
    with HTTPServer("127.0.0.1", free_port()) as gateway:
        gateway.expect_request("/async-function/flow/flow/r1/forward").respond_with_response(Response(status=401))
        with pytest.raises(ForwardError, match="the gateway answered 401") as raised:
            OpenFaasTransport(gateway.url_for("/"), login=LOGIN).forward([Forward("flow", "r1", b"{}")])

    assert "gateway_auth" in raised.value.hint
    assert LOGIN not in f"{raised.value!r} {raised.value.hint}"


def test_the_login_is_not_shown(transport: OpenFaasTransport) -> None:
    assert LOGIN not in repr(transport)
