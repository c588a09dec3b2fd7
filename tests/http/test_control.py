"""Steering requests and looking at them."""

from __future__ import annotations

from typing import Any

import pytest

from faasflow.testing import FlowTester
from tests.http.conftest import Serve
from tests.http.support import Client, contents, deliver_all


@pytest.mark.parametrize(
    ("method", "pause", "resume", "stop", "state"),
    [
        ("POST", "/flow/r1/pause", "/flow/r1/resume", "/flow/r1/stop", "/flow/r1/state"),
        ("POST", "/?pause-flow=r1", "/?resume-flow=r1", "/?stop-flow=r1", "/?state=r1"),
        ("GET", "/?pause-flow=r1", "/?resume-flow=r1", "/?stop-flow=r1", "/?state=r1"),
    ],
)
def test_a_request_is_paused_resumed_and_stopped(
    serve: Serve, chain: FlowTester, method: str, pause: str, resume: str, stop: str, state: str
) -> None:
    client = serve(chain)
    client.start(id="r1")
    seen = []
    for command in (pause, resume, stop):
        reply = client.send(method, command)
        seen.append((reply.status, reply.body.decode(), client.get(state).body.decode()))

    assert seen == [
        (200, "Successfully paused request r1", "PAUSED"),
        (200, "Successfully resumed request r1", "RUNNING"),
        (200, "Successfully stopped request r1", "STOPPED"),
    ]


def test_a_paused_request_starts_no_node_until_it_is_resumed(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    client.start(b"x", id="r1")
    client.post("/flow/r1/pause")
    parked = deliver_all(chain, client)
    nodes = client.get("/flow/r1").json["nodes"]
    client.post("/flow/r1/resume")
    deliver_all(chain, client)

    assert ([reply.status for reply in parked], nodes) == ([200], [])
    assert client.get("/flow/r1/result").body == b"x12"


def test_a_request_is_stopped_while_its_flow_cannot_be_defined(serve: Serve) -> None:
    broken: list[bool] = []

    def define(flow: Any, context: Any) -> None:
        if broken:
            raise OSError("the table of regions is away")
        dag = flow.dag()
        dag.node("a").modify(bytes.upper)
        dag.node("b").modify(bytes.upper)
        dag.edge("a", "b")

    client = serve(FlowTester(define))
    client.start(b"x", id="r1")
    broken.append(True)
    reply = client.post("/flow/r1/stop")

    assert (reply.status, reply.body) == (200, b"Successfully stopped request r1")
    assert client.get("/flow/r1/state").body == b"STOPPED"


def test_a_resume_is_refused_while_another_shape_of_the_flow_is_deployed(serve: Serve) -> None:
    deployed = ["a", "b"]

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        for name in deployed:
            dag.node(name).modify(bytes.upper)
        dag.edge("a", deployed[-1])

    client = serve(FlowTester(define))
    client.start(b"x", id="r1")
    client.post("/flow/r1/pause")
    deployed[-1] = "c"
    reply, state = client.post("/flow/r1/resume"), client.get("/flow/r1/state").body
    deployed[-1] = "b"
    again = client.post("/flow/r1/resume")

    assert (reply.status, state) == (409, b"PAUSED")
    assert "Deploy the former definition and resume it" in reply.json["hint"]
    assert (again.status, client.get("/flow/r1/state").body) == (200, b"RUNNING")


def test_a_stopped_request_answers_409(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    client.start(b"x", id="r1")
    client.post("/flow/r1/stop")
    result, again = client.get("/flow/r1/result"), client.start(b"x", id="r1")

    assert (result.status, result.json["error"]) == (409, "The request was stopped.")
    assert (again.status, again.headers["x-faas-flow-state"]) == (409, "STOPPED")


@pytest.mark.parametrize("command", ["pause", "resume", "stop"])
def test_an_ended_request_takes_no_command(shout: Client, command: str) -> None:
    shout.start(id="r1")
    reply = shout.post(f"/flow/r1/{command}")

    assert (reply.status, reply.json["request_id"]) == (409, "r1")
    assert "FINISHED" in reply.json["error"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/flow/nobody/pause"),
        ("POST", "/flow/nobody/resume"),
        ("POST", "/flow/nobody/stop"),
        ("GET", "/flow/nobody/state"),
        ("GET", "/flow/nobody/result"),
        ("GET", "/flow/nobody/result?wait=5s"),
        ("GET", "/flow/nobody"),
        ("POST", "/?pause-flow=nobody"),
        ("POST", "/?resume-flow=nobody"),
        ("POST", "/?stop-flow=nobody"),
        ("GET", "/?state=nobody"),
    ],
)
def test_an_unknown_request_is_404_by_name_and_leaves_nothing_behind(
    serve: Serve, chain: FlowTester, method: str, target: str
) -> None:
    reply = serve(chain).send(method, target)

    assert (reply.status, reply.json["request_id"]) == (404, "nobody")
    assert "'nobody'" in reply.json["error"]
    assert reply.json["hint"]
    assert contents(chain.state) == {}


def test_a_command_with_an_empty_id_is_404_and_starts_nothing(serve: Serve, chain: FlowTester) -> None:
    reply = serve(chain).post("/?pause-flow=")

    assert reply.status == 404
    assert contents(chain.state) == {}


def test_the_story_tells_every_node(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    client.start(b"x", id="r1", query="a=1")
    deliver_all(chain, client)
    reply = client.get("/flow/r1")
    story = reply.json

    assert reply.headers["content-type"] == "application/json"
    assert (story["flow"], story["request_id"], story["state"], story["failure"]) == ("flow", "r1", "FINISHED", None)
    assert story["created"] < story["ended"]
    assert [(node["path"], node["state"], node["result_size"]) for node in story["nodes"]] == [
        ("first", "FINISHED", 2),
        ("second", "FINISHED", 3),
    ]


def test_the_story_is_folded_when_asked_to(serve: Serve) -> None:
    def define(flow, context):
        each = flow.dag().foreach_branch("each", lambda data: {"a": 1, "b": 2}, aggregator=len)
        each.node("work").modify(lambda data: data)

    tester = FlowTester(define)
    client = serve(tester)
    client.start(id="r1")
    deliver_all(tester, client)
    plain, folded = client.get("/flow/r1").json["nodes"], client.get("/flow/r1?fold=true").json["nodes"]
    one = client.get("/flow/r1?fold=true&node=each/work@b").json["nodes"]

    assert [row["path"] for row in plain] == ["each", "each", "each/work@a", "each/work@b"]
    assert [row["path"] for row in folded] == ["each", "each", "each/work"]
    assert folded[2]["executions"] == {"FINISHED": 2}
    assert [row["path"] for row in one] == ["each", "each", "each/work", "each/work@b"]


def test_the_list_shows_the_newest_request_first_page_by_page(serve: Serve, chain: FlowTester) -> None:
    client = serve(chain)
    for number in range(5):
        client.start(id=f"r{number}")
        chain.clock.sleep(1)
    first = client.get("/flow?limit=3").json
    rest = client.get(f"/flow?after={first['requests'][-1]['cursor']}").json

    assert first["flow"] == "flow"
    assert [row["request_id"] for row in first["requests"]] == ["r4", "r3", "r2"]
    assert [(row["request_id"], row["state"]) for row in rest["requests"]] == [("r1", "RUNNING"), ("r0", "RUNNING")]


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1001", "²", ""])
def test_a_limit_that_is_no_number_in_range_is_refused(shout: Client, limit: str) -> None:
    reply = shout.send("GET", "/flow?limit=" + limit.replace("²", "%C2%B2"))

    assert (reply.status, "1 to 1000" in reply.json["error"]) == (400, True)


@pytest.mark.parametrize("target", ["/?export-dag=true", "/?export-dag=TRUE", "/?a=1&export-dag=True"])
def test_the_graph_is_exported_as_the_originals_json(serve: Serve, chain: FlowTester, target: str) -> None:
    reply = serve(chain).get(target)

    assert reply.headers["content-type"] == "application/json"
    assert list(reply.json["nodes"]) == ["first", "second"]
    assert contents(chain.state) == {}


def test_an_export_that_is_not_asked_for_is_a_start(shout: Client) -> None:
    assert shout.post("/?export-dag=false", b"x").body == b"X"


def test_a_flow_is_healthy_and_ready(shout: Client) -> None:
    assert [shout.get(path).status for path in ("/_/health", "/_/ready")] == [200, 200]
