from __future__ import annotations

import pytest
from werkzeug import Request, Response

from faasflow.local import Gateway
from tests.support import free_port, wait_until


@pytest.fixture
def gateway(httpserver, start_gateway) -> Gateway:
    gateway = start_gateway()
    gateway.add_upstream("fn", [httpserver.url_for("/fn")])
    return gateway


@pytest.fixture
def received(httpserver) -> list[Request]:
    """What the callback's receiver was sent."""
    received: list[Request] = []

    def take(request: Request) -> Response:
        request.get_data()
        received.append(request)
        return Response(status=202)

    httpserver.expect_request("/callback").respond_with_handler(take)
    return received


def answers(*statuses: int, **headers: str):
    """A handler that gives these statuses in turn, and keeps what it was sent."""
    left = [*statuses]
    seen: list[Request] = []

    def handle(request: Request) -> Response:
        request.get_data()
        seen.append(request)
        return Response(b"result", status=left.pop(0), headers=headers)

    return handle, seen


def test_an_async_call_is_answered_202_with_a_call_id_and_then_posted_to_the_function(gateway, httpserver, http):
    handle, seen = answers(200)
    httpserver.expect_request("/fn/a/b").respond_with_handler(handle)

    answer = http.post(f"{gateway.url}/async-function/fn/a/b?q=%2F1", data=b"\x00\xff", headers={"X-Mine": "yes"})
    wait_until(lambda: seen, "the function is called")

    (request,) = seen
    assert (answer.status_code, answer.content) == (202, b"")
    assert (request.method, request.get_data(), request.headers["X-Mine"]) == ("POST", b"\x00\xff", "yes")
    assert request.environ["QUERY_STRING"] == "q=%2F1"
    assert request.headers["X-Call-Id"] == answer.headers["X-Call-Id"]


def test_the_result_is_posted_to_the_callback(gateway, httpserver, received, http):
    handle, _ = answers(201, **{"X-Answer": "yes", "Content-Type": "text/x-mine"})
    httpserver.expect_request("/fn/").respond_with_handler(handle)

    http.post(
        f"{gateway.url}/async-function/fn",
        headers={"X-Callback-Url": httpserver.url_for("/callback"), "X-Call-Id": "call-7"},
    )
    wait_until(lambda: received, "the callback is posted")

    (callback,) = received
    assert (callback.method, callback.get_data()) == ("POST", b"result")
    assert callback.headers["X-Call-Id"] == "call-7"
    assert callback.headers["X-Function-Name"] == "fn"
    assert callback.headers["X-Function-Status"] == "201"
    assert float(callback.headers["X-Duration-Seconds"]) >= 0
    assert int(callback.headers["X-Start-Time"]) > 1e18
    assert (callback.headers["X-Answer"], callback.headers["Content-Type"]) == ("yes", "text/x-mine")


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_failure_of_the_function_is_reported_and_not_tried_again(gateway, httpserver, received, http, status):
    handle, seen = answers(status)
    httpserver.expect_request("/fn/").respond_with_handler(handle)

    http.post(f"{gateway.url}/async-function/fn", headers={"X-Callback-Url": httpserver.url_for("/callback")})
    wait_until(lambda: received, "the callback is posted")

    assert (received[0].headers["X-Function-Status"], len(seen)) == (str(status), 1)


def test_a_call_is_tried_again_until_the_function_has_time(gateway, httpserver, received, http):
    handle, seen = answers(503, 429, 502, 200)
    httpserver.expect_request("/fn/").respond_with_handler(handle)

    http.post(f"{gateway.url}/async-function/fn", headers={"X-Callback-Url": httpserver.url_for("/callback")})
    wait_until(lambda: received, "the callback is posted")

    assert [request.headers["X-Call-Id"] for request in seen] == [seen[0].headers["X-Call-Id"]] * 4
    assert received[0].headers["X-Function-Status"] == "200"
    assert len(gateway.queue) == 0


def test_a_callback_is_tried_again_without_calling_the_function_again(gateway, httpserver, http):
    function, called = answers(200)
    receiver, posted = answers(503, 503, 200)
    httpserver.expect_request("/fn/").respond_with_handler(function)
    httpserver.expect_request("/callback").respond_with_handler(receiver)

    http.post(f"{gateway.url}/async-function/fn", headers={"X-Callback-Url": httpserver.url_for("/callback")})
    wait_until(lambda: len(gateway.queue) == 0, "the queue is empty")

    assert (len(called), len(posted)) == (1, 3)


@pytest.mark.parametrize("status", [307, 308])
def test_a_callback_is_posted_as_it_is_to_where_it_moved(gateway, httpserver, received, http, status):
    handle, _ = answers(200)
    moved, posted = answers(status, Location="/callback?of=fn")
    httpserver.expect_request("/fn/").respond_with_handler(handle)
    httpserver.expect_request("/old").respond_with_handler(moved)

    http.post(f"{gateway.url}/async-function/fn", headers={"X-Callback-Url": httpserver.url_for("/old")})
    wait_until(lambda: received, "the callback is posted")

    (callback,) = received
    assert (callback.method, callback.get_data(), callback.query_string) == ("POST", b"result", b"of=fn")
    assert (callback.headers["X-Function-Name"], len(posted)) == ("fn", 1)
    wait_until(lambda: len(gateway.queue) == 0, "the queue is empty")


@pytest.mark.parametrize(
    ("status", "location", "named"),
    [
        (301, "/callback?token=hunter2", " and points to 'http://{host}/callback'"),
        (302, "/callback", " and points to 'http://{host}/callback'"),
        (303, "https://hooks.example/new", " and points to 'https://hooks.example/new'"),
        (307, "http://127.0.0.1:1/elsewhere", " and points to 'http://127.0.0.1:1/elsewhere'"),
        (308, "/old", " and points to 'http://{host}/…'"),
        (304, "", ""),
    ],
)
def test_a_callback_that_moved_was_not_delivered_and_the_new_address_is_named(
    start_gateway, httpserver, received, http, status, location, named
):
    said: list[str] = []
    gateway = start_gateway(on_line=lambda name, text: said.append(text))
    gateway.add_upstream("fn", [httpserver.url_for("/fn")])
    handle, called = answers(200)
    moved, posted = answers(*[status] * 10, Location=location)
    httpserver.expect_request("/fn/").respond_with_handler(handle)
    httpserver.expect_request("/old").respond_with_handler(moved)

    http.post(f"{gateway.url}/async-function/fn", headers={"X-Callback-Url": httpserver.url_for("/old")})
    (dead,) = wait_until(gateway.queue.dead, "the callback is given up")

    host = f"{httpserver.host}:{httpserver.port}"
    assert dead.reason == f"the callback answered {status}{named.format(host=host)}"
    assert said == [f"faasflow: a queued callback was given up after 1 deliveries: {dead.reason}"]
    assert (len(called), received, len(posted)) == (1, [], 6 if status == 308 else 1)


def test_retry_after_is_waited_for(gateway, httpserver, http):
    handle, seen = answers(503, 200, **{"Retry-After": "0"})
    httpserver.expect_request("/fn/").respond_with_handler(handle)

    http.post(f"{gateway.url}/async-function/fn")

    wait_until(lambda: len(seen) == 2, "the function is called again")


def test_a_call_that_never_comes_through_is_given_up_said_and_reported(
    start_gateway, httpserver, received, http, monkeypatch
):
    monkeypatch.setattr("faasflow.local.delivery.ATTEMPTS", 2)
    said: list[tuple[str, str]] = []
    gateway = start_gateway(on_line=lambda name, text: said.append((name, text)))
    gateway.add_upstream("gone", [f"http://127.0.0.1:{free_port()}"])

    http.post(f"{gateway.url}/async-function/gone", headers={"X-Callback-Url": httpserver.url_for("/callback")})
    wait_until(lambda: received, "the callback is posted")

    assert (received[0].headers["X-Function-Status"], received[0].get_data()) == ("503", b"")
    assert "cannot be reached" in gateway.queue.dead()[0].reason
    assert [name for name, text in said if "given up after 2 deliveries" in text] == ["gone"]


def test_an_async_call_is_a_post(gateway, http):
    answer = http.get(f"{gateway.url}/async-function/fn")

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("url", ["nowhere", "ftp://host/x", "http://", "http://host:x/"])
def test_a_callback_that_is_no_http_url_is_400(gateway, http, url):
    answer = http.post(f"{gateway.url}/async-function/fn", headers={"X-Callback-Url": url})

    assert (answer.status_code, "X-Callback-Url" in answer.text, len(gateway.queue)) == (400, True, 0)


def test_an_unknown_function_is_404(gateway, http):
    assert http.post(f"{gateway.url}/async-function/nope").status_code == 404


def test_a_body_past_the_limit_is_413_and_one_at_the_limit_is_taken(start_gateway, httpserver, http):
    gateway = start_gateway(body_limit=1000)
    gateway.add_upstream("fn", [httpserver.url_for("/fn")])
    handle, seen = answers(200)
    httpserver.expect_request("/fn/").respond_with_handler(handle)

    assert http.post(f"{gateway.url}/async-function/fn", data=b"x" * 1001).status_code == 413
    assert http.post(f"{gateway.url}/async-function/fn", data=b"x" * 1000).status_code == 202
    wait_until(lambda: seen, "the function is called")


def test_a_call_repeated_under_its_idempotency_key_is_queued_once(gateway, httpserver, http):
    handle, _ = answers(503, 200, **{"Retry-After": "1"})
    httpserver.expect_request("/fn/").respond_with_handler(handle)

    codes = [http.post(f"{gateway.url}/async-function/fn", headers={"Idempotency-Key": "k"}).status_code for _ in "ab"]

    assert (codes, len(gateway.queue)) == ([202, 202], 1)


def test_calls_of_a_function_that_left_the_stack_are_given_up_at_the_next_start(start_gateway, http):
    first = start_gateway()
    first.add_upstream("old", [f"http://127.0.0.1:{free_port()}"])
    http.post(f"{first.url}/async-function/old")
    first.stop()

    second = start_gateway()

    (dead,) = wait_until(second.queue.dead, "the call is given up")
    assert "no function 'old' is in the stack any more" in dead.reason
