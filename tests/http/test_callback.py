"""The end of a request is told to a callback, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from faasflow.config import Settings
from faasflow.http import create_app
from faasflow.runtime import Handler, build_engine
from tests.http.support import Client, served, settings, signature


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
    assert told.headers["X-Hub-Signature"] == signature(b"HELLO")


def test_a_callback_is_told_of_a_failure(client: Client, httpserver: HTTPServer) -> None:
    httpserver.expect_oneshot_request("/done").respond_with_data("thanks")
    headers = {"X-Faas-Flow-Callback-Url": httpserver.url_for("/done"), "X-Faas-Flow-Reqid": "r1"}
    reply = client.post("/", b"", headers)
    told, _ = httpserver.log[0]

    assert reply.status == 500
    assert told.headers["X-Faas-Flow-State"] == "FAILED"
    assert json.loads(told.get_data()) == reply.json


def test_a_callback_that_is_not_taken_is_left_to_the_queue(client: Client, httpserver: HTTPServer) -> None:
    queued = []

    def queue(request: Any) -> Response:
        queued.append((request.path, request.get_data()))
        return Response(status=202)

    httpserver.expect_oneshot_request("/done").respond_with_data("busy", status=500)
    httpserver.expect_request("/async-function/flow/flow/r1/forward").respond_with_handler(queue)
    headers = {"X-Faas-Flow-Callback-Url": httpserver.url_for("/done"), "X-Faas-Flow-Reqid": "r1"}
    reply = client.post("/", b"hello", headers)
    [(path, message)] = queued
    httpserver.expect_oneshot_request("/done").respond_with_data("thanks")
    delivered = client.post("/flow/r1/forward", message)

    assert (reply.status, reply.body, path) == (200, b"HELLO", "/async-function/flow/flow/r1/forward")
    assert delivered.status == 200
    assert [request.get_data() for request, _ in httpserver.log if request.path == "/done"] == [b"HELLO"] * 2
