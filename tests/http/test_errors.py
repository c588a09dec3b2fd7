"""What a caller is told when something does not work."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from faasflow.errors import ForwardError
from faasflow.stores.memory import MemoryStateStore
from faasflow.testing import FlowTester
from faasflow.testing.faults import FlakyStore
from tests.http.conftest import Serve, define_chain
from tests.http.support import Client, contents, deliver_all


def failing(data: bytes) -> bytes:
    raise ValueError("no such order")


def define_failing(flow: Any, context: Any) -> None:
    flow.sync_node().modify(failing)


def test_a_failed_flow_is_500_with_the_failure_as_json(serve: Serve) -> None:
    reply = serve(FlowTester(define_failing)).start(id="r1")

    assert (reply.status, reply.headers["content-type"]) == (500, "application/json")
    assert (reply.headers["x-faas-flow-reqid"], reply.headers["x-faas-flow-state"]) == ("r1", "FAILED")
    assert reply.json["error"] == "Node 'sync' failed: ValueError: no such order"
    assert (reply.json["request_id"], reply.json["node"]) == ("r1", "sync")
    assert reply.json["error_type"] == "ValueError"


def test_a_failed_flow_answers_what_its_on_failure_returns(serve: Serve) -> None:
    def define(flow: Any, context: Any) -> None:
        define_failing(flow, context)
        flow.on_failure(lambda error: {"sorry": str(error)})

    reply = serve(FlowTester(define)).post("/")

    assert (reply.status, reply.headers["content-type"]) == (500, "application/json")
    assert reply.json == {"sorry": "Node 'sync' failed: ValueError: no such order"}


def test_a_failure_after_the_start_is_seen_in_story_and_result(serve: Serve) -> None:
    def define(flow: Any, context: Any) -> None:
        define_chain(flow, context)
        flow.dag().node("second").modify(failing)

    tester = FlowTester(define)
    client = serve(tester)
    client.start(id="r1")
    forwards = deliver_all(tester, client)
    result, story = client.get("/flow/r1/result"), client.get("/flow/r1").json

    assert [reply.status for reply in forwards] == [200, 200]
    assert (result.status, result.json["node"]) == (500, "second")
    assert (story["state"], story["failure"]["error_type"]) == ("FAILED", "ValueError")


def test_a_store_that_is_away_is_503_to_be_tried_again(serve: Serve) -> None:
    tester = FlowTester(define_failing, state=FlakyStore(MemoryStateStore(), before=lambda operation: True))
    client = serve(tester)
    replies = [client.start(id="r1"), client.get("/flow/r1"), client.post("/flow/r1/stop"), client.get("/_/ready")]

    assert [(reply.status, reply.headers["retry-after"]) for reply in replies] == [(503, "1")] * 4
    assert client.get("/_/health").status == 200


def test_a_message_is_asked_for_again_while_the_store_is_away(serve: Serve) -> None:
    store, is_away = MemoryStateStore(), [False]
    tester = FlowTester(define_chain, state=FlakyStore(store, before=lambda operation: is_away[0]))
    client = serve(tester)
    client.start(b"x", id="r1")
    message = tester.transport.pending.popleft()
    before = contents(store)
    is_away[0] = True
    refused = client.post("/flow/r1/forward", message.body)
    unchanged = contents(store) == before
    is_away[0] = False
    taken = client.post("/flow/r1/forward", message.body)

    assert (refused.status, refused.headers["retry-after"], unchanged) == (503, "1", True)
    assert (taken.status, len(tester.transport.pending)) == (200, 1)


def test_a_queue_that_is_away_does_not_keep_a_request_from_starting(serve: Serve, chain: FlowTester) -> None:
    def refuse(messages: Any) -> None:
        raise ForwardError("The gateway is away.")

    chain.transport.forward = refuse  # type: ignore[method-assign]
    client = serve(chain)
    reply = client.start(b"x", id="r1")
    del chain.transport.forward
    chain.clock.sleep(60)
    client.post("/flow/tick")
    deliver_all(chain, client)

    assert (reply.status, reply.json) == (202, {"request_id": "r1", "state": "RUNNING"})
    assert client.get("/flow/r1/result").body == b"x12"


@pytest.mark.parametrize("body", [b"", b"{}", b"\x00" * 200, b'{"signature":"' + b"0" * 64 + b'","message":{}}'])
def test_a_message_that_is_not_ours_is_400_and_changes_nothing(serve: Serve, chain: FlowTester, body: bytes) -> None:
    client = serve(chain)
    client.start(id="r1")
    before = contents(chain.state)
    reply = client.post("/flow/r1/forward", body)

    assert (reply.status, reply.json["request_id"]) == (400, "r1")
    assert contents(chain.state) == before


def test_a_message_for_another_request_is_400(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    client.start(id="r1")
    client.start(id="r2")
    message = chain.transport.pending.popleft()

    assert client.post("/flow/r2/forward", message.body).status == 400
    assert client.post("/flow/-/forward?id=r2", message.body).status == 400


def test_a_message_that_comes_twice_is_done_or_asked_for_later(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    client.start(b"x", id="r1")
    chain.transport.pending.append(chain.transport.pending[0])

    assert {reply.status for reply in deliver_all(chain, client)} <= {200, 503}
    assert client.get("/flow/r1/result").body == b"x12"


@pytest.mark.parametrize("target", ["/nowhere", "/flow/", "/flow//state", "/_/other", "/FLOW", "/flow/../../etc"])
def test_an_unknown_path_is_404_as_json(shout: Client, target: str) -> None:
    reply = shout.send("GET", target)

    assert (reply.status, reply.headers["content-type"]) == (404, "application/json")
    assert set(reply.json) == {"error", "request_id", "hint"}


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("DELETE", "/", {"GET", "POST", "OPTIONS"}),
        ("PUT", "/", {"GET", "POST", "OPTIONS"}),
        ("POST", "/flow", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/flow/x", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/flow/x/state", {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/flow/x/forward", {"POST", "OPTIONS"}),
        ("GET", "/flow/x/pause", {"POST", "OPTIONS"}),
        ("DELETE", "/flow/x/stop", {"POST", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_405_as_json(shout: Client, method: str, target: str, allowed: set[str]) -> None:
    reply = shout.send(method, target)

    assert (reply.status, reply.headers["content-type"]) == (405, "application/json")
    assert set(reply.headers["allow"].split(", ")) == allowed


def test_an_unexpected_error_is_500_without_its_text_and_is_logged(
    serve: Serve, chain: FlowTester, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(request_id: str) -> None:
        raise RuntimeError("password=hunter2")

    client = serve(chain)
    chain.engine.state = explode  # type: ignore[assignment, method-assign]
    with caplog.at_level(logging.ERROR):
        reply = client.get("/flow/r1/state")

    assert (reply.status, reply.json["request_id"]) == (500, "r1")
    assert b"hunter2" not in reply.body
    assert "RuntimeError" in caplog.text


def test_a_definition_that_breaks_for_one_query_is_told_by_name(serve: Serve) -> None:
    def define(flow: Any, context: Any) -> None:
        if context.query.get("broken"):
            raise KeyError("price")
        flow.sync_node().modify(bytes.upper)

    client = serve(FlowTester(define))

    assert client.start(b"x").body == b"X"
    assert "KeyError: 'price'" in client.start(b"x", query="broken=1").json["error"]


def test_a_failure_names_its_node_as_people_read_it(serve: Serve) -> None:
    def define(flow: Any, context: Any) -> None:
        branch = flow.dag().foreach_branch("each photo", lambda data: {"ü/1": b""}, aggregator=lambda found: found)
        branch.node("größe").modify(failing)

    tester = FlowTester(define)
    client = serve(tester)
    client.start(id="r1")
    deliver_all(tester, client)
    said = client.get("/flow/r1/result").json

    assert said["error"] == "Node 'each photo/größe@ü/1' failed: ValueError: no such order"
    assert said["node"] == "each%20photo/gr%C3%B6%C3%9Fe@%C3%BC%2F1"


@pytest.mark.parametrize("path", ["/", "/flow", "/flow/r1", "/flow/r1/state", "/flow/r1/pause", "/flow/tick"])
def test_options_allows_a_method_only_if_it_is_answered(serve: Serve, chain: FlowTester, path: str) -> None:
    client = serve(chain)
    client.start(id="r1")
    allowed = set(client.send("OPTIONS", path).headers["allow"].split(", "))
    answered = {method for method in ("GET", "HEAD", "POST", "PUT") if client.send(method, path).status != 405}

    assert allowed == answered | {"OPTIONS"}
    assert set(client.send("PUT", path).headers["allow"].split(", ")) == allowed
