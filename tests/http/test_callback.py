"""The end of a request is told to a callback, over real HTTP."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from faasflow.config import Settings
from faasflow.http import create_app
from faasflow.runtime import Handler, build_engine
from tests.http.support import KEY, Client, served, settings, signature
from tests.support import wait_until


def define(flow: Any, context: Any) -> None:
    flow.sync_node().modify(lambda data: data.upper() if data else 1 / 0)


@pytest.fixture
def client(httpserver: HTTPServer) -> Iterator[Client]:
    own: Settings = settings(gateway=httpserver.url_for("/"))
    with served(create_app(build_engine(Handler(define=define), own), settings=own)) as client:
        yield client


def test_a_callback_is_told_the_result_and_signed(client: Client, httpserver: HTTPServer) -> None:
    httpserver.expect_oneshot_request("/done", method="POST", query_string="order=17").respond_with_data("thanks")
    url = httpserver.url_for("/done?order=17")
    reply = client.post("/", b"hello", {"X-Faas-Flow-Callback-Url": url, "X-Faas-Flow-Reqid": "r1"})
    told, _ = httpserver.log[0]

    assert (reply.status, reply.headers["x-faas-flow-callback-url"]) == (200, url)
    assert told.get_data() == b"HELLO"
    assert (told.headers["X-Faas-Flow-Reqid"], told.headers["X-Faas-Flow-State"]) == ("r1", "FINISHED")
    key = hmac.new(KEY, b"faasflow callback", "sha256").hexdigest().encode()
    signed = b"\n".join([told.headers["X-Faas-Flow-Event-Id"].encode(), b"r1", b"FINISHED", b"HELLO"])
    assert told.headers["X-Hub-Signature"] == signature(signed, key=key)


def test_a_callback_is_told_of_a_failure(client: Client, httpserver: HTTPServer) -> None:
    httpserver.expect_oneshot_request("/done").respond_with_data("thanks")
    headers = {"X-Faas-Flow-Callback-Url": httpserver.url_for("/done"), "X-Faas-Flow-Reqid": "r1"}
    reply = client.post("/", b"", headers)
    told, _ = httpserver.log[0]

    assert reply.status == 500
    assert told.headers["X-Faas-Flow-State"] == "FAILED"
    assert json.loads(told.get_data()) == reply.json


def test_a_callback_that_is_not_taken_is_left_to_the_clock(client: Client, httpserver: HTTPServer) -> None:
    queued = []

    def queue(request: Any) -> Response:
        queued.append((request.path, request.get_data()))
        return Response(status=202)

    httpserver.expect_oneshot_request("/done").respond_with_data("busy", status=500)
    httpserver.expect_request("/async-function/flow/flow/r1/forward").respond_with_handler(queue)
    headers = {"X-Faas-Flow-Callback-Url": httpserver.url_for("/done"), "X-Faas-Flow-Reqid": "r1"}
    reply = client.post("/", b"hello", headers)
    at_once = [*queued]
    wait_until(lambda: client.post("/flow/tick").json["repaired"], "the clock forwards the callback again")
    [(path, message)] = queued
    httpserver.expect_oneshot_request("/done").respond_with_data("thanks")
    delivered = client.post("/flow/r1/forward", message)

    assert at_once == []
    assert (reply.status, reply.body, path) == (200, b"HELLO", "/async-function/flow/flow/r1/forward")
    assert delivered.status == 200
    assert [request.get_data() for request, _ in httpserver.log if request.path == "/done"] == [b"HELLO"] * 2


def test_what_a_callback_is_signed_with_opens_nothing(httpserver: HTTPServer) -> None:
    own = settings(gateway=httpserver.url_for("/"), authenticate_request=True)
    app = create_app(build_engine(Handler(define=define_empty), own), settings=own)
    httpserver.expect_request("/done").respond_with_data("thanks")
    with served(app) as client:
        headers = {"X-Faas-Flow-Callback-Url": httpserver.url_for("/done"), "X-Hub-Signature": signature(b"x")}
        started = client.post("/", b"x", headers)
        [(told, _)] = httpserver.log
        replies = [client.get("/flow", **{"X-Hub-Signature": told.headers["X-Hub-Signature"]}) for _ in range(2)]

    assert (started.status, told.get_data()) == (200, b"")
    assert [reply.status for reply in replies] == [401, 401]


def define_empty(flow: Any, context: Any) -> None:
    flow.sync_node().modify(lambda data: None)


def test_a_callback_is_not_told_where_a_target_redirects_to(client: Client, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/done").respond_with_data("", 307, {"Location": "http://127.0.0.1:1/elsewhere"})
    httpserver.expect_request("/async-function/flow/flow/r1/forward").respond_with_data(status=202)
    headers = {"X-Faas-Flow-Callback-Url": httpserver.url_for("/done"), "X-Faas-Flow-Reqid": "r1"}
    client.post("/", b"hello", headers)
    wait_until(lambda: client.post("/flow/tick").json["repaired"], "the clock forwards the callback again")

    assert [request.path for request, _ in httpserver.log] == ["/done", "/async-function/flow/flow/r1/forward"]
