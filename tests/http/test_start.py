"""Starting requests: what a caller sends, and what it is answered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from faasflow.runtime import SystemClock
from faasflow.testing import FlowTester
from tests.http.conftest import Serve
from tests.http.support import Client, contents, deliver_all
from tests.support import wait_until


def test_a_flow_of_one_node_answers_with_its_result(shout: Client) -> None:
    reply = shout.post("/", b"hello")

    assert (reply.status, reply.body) == (200, b"HELLO")
    assert reply.headers["x-faas-flow-state"] == "FINISHED"
    assert len(reply.headers["x-faas-flow-reqid"]) == 20
    assert "x-faas-flow-callback-url" not in reply.headers


def test_a_get_starts_a_flow_as_in_the_original(shout: Client) -> None:
    assert shout.get("/").status == 200


@pytest.mark.parametrize("query", ["", "pause-flow=r1", "stop-flow=r1"])
def test_a_head_changes_nothing(serve: Serve, chain: FlowTester, query: str) -> None:
    chain.engine.start(b"x", request_id="r1")
    before = contents(chain.state)
    reply = serve(chain).send("HEAD", f"/?{query}")

    assert (reply.status, reply.headers["allow"]) == (405, "GET, OPTIONS, POST")
    assert contents(chain.state) == before


def test_options_name_the_methods_of_a_path(shout: Client) -> None:
    reply = shout.send("OPTIONS", "/flow/x/pause")

    assert (reply.status, set(reply.headers["allow"].split(", "))) == (200, {"OPTIONS", "POST"})


def test_any_other_flow_answers_202_with_its_id_at_once(serve: Serve, chain: FlowTester) -> None:
    reply = serve(chain).post("/", b"x")

    assert reply.status == 202
    assert reply.json == {"request_id": reply.headers["x-faas-flow-reqid"], "state": "RUNNING"}
    assert reply.headers["x-faas-flow-state"] == "RUNNING"
    assert len(chain.transport.pending) == 1


def test_the_messages_of_a_request_carry_it_to_its_end(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    id = client.start(b"x").headers["x-faas-flow-reqid"]
    forwards = deliver_all(chain, client)
    reply = client.get(f"/flow/{id}/result")

    assert [(forward.status, forward.body) for forward in forwards] == [(200, b"")] * 2
    assert (reply.status, reply.body) == (200, b"x12")


def test_the_caller_may_choose_the_id(shout: Client) -> None:
    reply = shout.start(b"hello", id="order-17")

    assert (reply.status, reply.headers["x-faas-flow-reqid"]) == (200, "order-17")
    assert shout.get("/flow/order-17/state").body == b"FINISHED"


def test_the_same_id_and_body_again_give_the_same_answer_and_run_nothing(serve: Serve) -> None:
    runs: list[bytes] = []
    client = serve(FlowTester(lambda flow, context: flow.sync_node().modify(lambda data: runs.append(data) or data)))
    replies = [client.start(b"hello", id="order-17") for _ in range(3)]

    assert [(reply.status, reply.body) for reply in replies] == [(200, b"hello")] * 3
    assert runs == [b"hello"]


def test_the_same_id_with_another_body_is_a_conflict(shout: Client) -> None:
    shout.start(b"hello", id="order-17")
    reply = shout.start(b"good bye", id="order-17")

    assert (reply.status, reply.json["request_id"]) == (409, "order-17")
    assert "another body" in reply.json["error"]
    assert "new request id" in reply.json["hint"]


def test_fifty_starts_at_once_all_end_with_their_own_result(shout: Client) -> None:
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda number: shout.post("/", b"n%d" % number), range(50)))

    assert [(reply.status, reply.body) for reply in replies] == [(200, b"N%d" % number) for number in range(50)]
    assert len({reply.headers["x-faas-flow-reqid"] for reply in replies}) == 50


def test_fifty_starts_at_once_with_one_id_record_one_result(serve: Serve) -> None:
    client = serve(FlowTester(_numbered()), threads=16)
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: client.start(b"same", id="one"), range(50)))
    last = client.get("/flow/one/result")

    assert last.status == 200
    assert Counter(reply.body for reply in replies if reply.status == 200).keys() == {last.body}
    assert {reply.status for reply in replies} <= {200, 202}


def test_the_query_reaches_the_flow_without_the_wish_to_wait(serve: Serve) -> None:
    tester = FlowTester(lambda flow, context: flow.sync_node().modify(lambda data: context.query.text))
    reply = serve(tester).start(query="b=2&wait=1s&a=%C3%A4+%26&b=3")

    assert reply.body == b"b=2&a=%C3%A4+%26&b=3"


def test_a_chunked_body_arrives_whole(shout: Client) -> None:
    reply = shout.send("POST", "/", iter([b"he", b"", b"llo" * 10_000]), encode_chunked=True)

    assert (reply.status, reply.body) == (200, b"HE" + b"LLO" * 10_000)


def test_a_form_arrives_as_it_was_sent(shout: Client) -> None:
    reply = shout.post("/", b"a=1&b=2", {"Content-Type": "application/x-www-form-urlencoded"})

    assert reply.body == b"A=1&B=2"


@pytest.mark.parametrize(
    ("result", "content_type"),
    [
        (b"", "text/plain; charset=utf-8"),
        ("grüße".encode(), "text/plain; charset=utf-8"),
        (b'"text"', "text/plain; charset=utf-8"),
        (b"[not json", "text/plain; charset=utf-8"),
        (b'{"a": 1}', "application/json"),
        (b"[1, 2]", "application/json"),
        (b"\x89PNG\xff", "application/octet-stream"),
    ],
)
def test_a_result_says_what_it_is(serve: Serve, result: bytes, content_type: str) -> None:
    tester = FlowTester(lambda flow, context: flow.sync_node().modify(lambda data: result))
    reply = serve(tester).post("/")

    assert (reply.body, reply.headers["content-type"]) == (result, content_type)


def test_the_callback_url_is_repeated_if_there_is_one(serve: Serve, chain: FlowTester) -> None:
    reply = serve(chain).post("/", b"", {"X-Faas-Flow-Callback-Url": "http://gateway/function/done"})

    assert reply.headers["x-faas-flow-callback-url"] == "http://gateway/function/done"


@pytest.mark.parametrize("url", ["http://a/x, http://b/x", "http://a/x,  https://b", "http://a,http://b/"])
def test_two_callback_headers_are_refused_by_name(serve: Serve, chain: FlowTester, url: str) -> None:
    reply = serve(chain).post("/", b"", {"X-Faas-Flow-Callback-Url": url})

    assert (reply.status, reply.json["error"]) == (400, "X-Faas-Flow-Callback-Url names more than one URL.")
    assert reply.json["hint"] == "Send the header once, with one URL."


def test_a_callback_url_may_hold_commas(serve: Serve, chain: FlowTester) -> None:
    reply = serve(chain).post("/", b"", {"X-Faas-Flow-Callback-Url": "http://gateway/done?ids=1,2"})

    assert reply.status == 202


@pytest.mark.parametrize("url", ["done", "ftp://host/x", "http://", "http://[::1", "http://a\\@b", "http://a b"])
def test_a_callback_that_is_no_url_is_refused_before_anything_is_recorded(
    serve: Serve, chain: FlowTester, url: str
) -> None:
    reply = serve(chain).post("/", b"", {"X-Faas-Flow-Callback-Url": url})

    assert (reply.status, "X-Faas-Flow-Callback-Url is not" in reply.json["error"]) == (400, True)
    assert contents(chain.state) == {}


def test_an_id_that_is_too_long_is_refused(shout: Client) -> None:
    assert shout.start(id="x" * 1025).status == 400


def _numbered() -> Callable[[Any, Any], None]:
    """A flow whose every run would give another result."""
    lock, runs = threading.Lock(), iter(range(1000))

    def run(data: bytes) -> bytes:
        with lock:
            return b"run %d" % next(runs)

    return lambda flow, context: flow.sync_node().modify(run)


def test_starts_that_are_repeated_at_once_wait_for_the_one_call_of_the_first(serve: Serve) -> None:
    calls: list[bytes] = []
    may_answer = threading.Event()

    def slow(body: bytes) -> bytes:
        calls.append(body)
        assert may_answer.wait(20)
        return body.upper()

    tester = FlowTester(lambda flow, context: flow.sync_node().apply("fn"), clock=SystemClock())
    tester.function("fn", slow)
    client = serve(tester, threads=8)

    with ThreadPoolExecutor(8) as pool:
        starts = [pool.submit(client.start, b"x", query="wait=10s", id="r") for _ in range(6)]
        wait_until(lambda: calls, "the function is called")
        unwaited = client.start(b"x", id="r")
        may_answer.set()
        replies = {(one.result().status, one.result().body) for one in starts}

    assert (unwaited.status, unwaited.headers["x-faas-flow-state"]) == (202, "RUNNING")
    assert replies == {(200, b"X")}
    assert calls == [b"x"]
