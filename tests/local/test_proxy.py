from __future__ import annotations

import http.client
import json
import re
import threading
from urllib.parse import urlsplit

import pytest
from werkzeug import Request, Response

from tests.support import free_port, wait_until

BYTES = bytes(range(256)) * 100


@pytest.fixture
def upstream(httpserver, start_gateway):
    """A gateway with function `fn`, and the server behind it."""
    gateway = start_gateway()
    gateway.add_upstream("fn", [httpserver.url_for("/")])
    return gateway


def echo(request: Request) -> Response:
    seen = {"method": request.method, "raw": request.environ["REQUEST_URI"], "headers": dict(request.headers)}
    return Response(json.dumps(seen), headers={"X-Answer": "yes"})


def test_method_path_query_headers_and_body_reach_the_function_and_its_answer_the_caller(upstream, httpserver, http):
    httpserver.expect_request("/a/b").respond_with_handler(
        lambda request: Response(request.get_data(), status=207, headers={"X-Answer": request.headers["X-Mine"]})
    )

    answer = http.patch(f"{upstream.url}/function/fn/a/b", data=BYTES, headers={"X-Mine": "yes"})

    assert (answer.status_code, answer.content, answer.headers["X-Answer"]) == (207, BYTES, "yes")


def test_path_and_query_are_passed_as_they_came(upstream, httpserver):
    httpserver.expect_request(re.compile(".*")).respond_with_handler(echo)
    connection = http.client.HTTPConnection(urlsplit(upstream.url).netloc)
    connection.request("DELETE", "/function/fn.openfaas-fn/x//../a%2Fb/%C3%A4?b=2&a=%26&&c")
    seen = json.load(connection.getresponse())
    connection.close()

    assert (seen["method"], seen["raw"]) == ("DELETE", "/x//../a%2Fb/%C3%A4?b=2&a=%26&&c")


@pytest.mark.parametrize("path", ["fn", "fn/", "fn?x=1"])
def test_the_function_alone_is_its_root(upstream, httpserver, http, path):
    httpserver.expect_request("/").respond_with_data("root")

    assert http.get(f"{upstream.url}/function/{path}").text == "root"


def test_a_call_id_is_made_or_kept_and_shown_to_both_sides(upstream, httpserver, http):
    httpserver.expect_request("/").respond_with_handler(echo)

    made = http.get(f"{upstream.url}/function/fn")
    kept = http.get(f"{upstream.url}/function/fn", headers={"X-Call-Id": "mine"})

    assert made.headers["X-Call-Id"] == made.json()["headers"]["X-Call-Id"] != ""
    assert kept.headers["X-Call-Id"] == kept.json()["headers"]["X-Call-Id"] == "mine"
    assert kept.headers["X-Start-Time"] == kept.json()["headers"]["X-Start-Time"]


def test_headers_of_one_connection_stay_there_and_the_caller_is_named(upstream, httpserver, http):
    httpserver.expect_request("/").respond_with_handler(echo)
    given = {"Connection": "X-Private", "X-Private": "1", "Te": "trailers", "X-Forwarded-For": "10.0.0.9"}

    seen = http.get(f"{upstream.url}/function/fn", headers=given).json()["headers"]

    assert not {"X-Private", "Te", "Transfer-Encoding"} & set(seen)
    assert seen["X-Forwarded-For"] == "10.0.0.9, 127.0.0.1"
    assert seen["X-Forwarded-Host"] == urlsplit(upstream.url).netloc


def test_a_chunked_body_is_passed_whole(upstream, httpserver, http):
    httpserver.expect_request("/").respond_with_handler(lambda request: Response(request.get_data()))

    assert http.post(f"{upstream.url}/function/fn", data=iter([b"one", b"two"])).content == b"onetwo"


def test_compressed_answers_and_redirects_are_passed_untouched(upstream, httpserver, http):
    httpserver.expect_request("/gz").respond_with_data(b"\x1f\x8bnot really", headers={"Content-Encoding": "gzip"})
    httpserver.expect_request("/away").respond_with_data("", status=302, headers={"Location": "/elsewhere"})

    with http.get(f"{upstream.url}/function/fn/gz", stream=True) as answer:
        assert answer.raw.read(decode_content=False) == b"\x1f\x8bnot really"
    assert http.get(f"{upstream.url}/function/fn/away", allow_redirects=False).headers["Location"] == "/elsewhere"


def test_head_answers_the_length_without_the_body(upstream, httpserver, http):
    httpserver.expect_request("/").respond_with_data("12345")

    answer = http.head(f"{upstream.url}/function/fn")

    assert (answer.headers["Content-Length"], answer.content) == ("5", b"")


def test_upstreams_take_turns(start_gateway, httpserver, http):
    gateway = start_gateway()
    gateway.add_upstream("fn", [httpserver.url_for("/one"), httpserver.url_for("/two/")])
    httpserver.expect_request("/one/x").respond_with_data("1")
    httpserver.expect_request("/two/x").respond_with_data("2")

    assert [http.get(f"{gateway.url}/function/fn/x").text for _ in range(4)] == ["1", "2", "1", "2"]


@pytest.mark.parametrize("name", ["nope", "fn.other", "", "fn%2Fx"])
def test_an_unknown_function_is_404_by_name(upstream, http, name):
    answer = http.get(f"{upstream.url}/function/{name}")

    assert (answer.status_code, "There is no function" in answer.text) == (404, True)


def test_an_unreachable_function_is_502(start_gateway, http):
    gateway = start_gateway()
    gateway.add_upstream("fn", [f"http://127.0.0.1:{free_port()}"])

    answer = http.get(f"{gateway.url}/function/fn")

    assert (answer.status_code, "cannot be reached" in answer.text) == (502, True)


def test_a_function_that_takes_too_long_is_504(start_gateway, httpserver, http, monkeypatch):
    monkeypatch.setattr("faasflow.local.routing.MARGIN", 0.0)
    gateway = start_gateway(timeout=0.2)
    gateway.add_upstream("fn", [httpserver.url_for("/")])
    answered = threading.Event()
    httpserver.expect_request("/").respond_with_handler(lambda _: Response(str(answered.wait(10))))

    answer = http.get(f"{gateway.url}/function/fn")
    answered.set()

    assert (answer.status_code, "did not answer within 0.2 s" in answer.text) == (504, True)


def test_many_calls_at_once_are_all_answered(upstream, httpserver, http):
    httpserver.expect_request("/").respond_with_handler(lambda request: Response(request.get_data()))
    answers: list[str] = []

    def call(number: int) -> None:
        answers.append(http.post(f"{upstream.url}/function/fn", data=str(number)).text)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) == 40, "all calls are answered")

    assert sorted(answers, key=int) == [str(number) for number in range(40)]
