"""Values of a request, for people who look into it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from faasflow.ports import Response
from faasflow.testing import FlowTester
from tests.http.conftest import Serve
from tests.http.support import Client, deliver_all


def define(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("read").modify(bytes.upper)
    dag.node("check/it").apply("checker")
    dag.edge("read", "check/it")


@pytest.fixture
def client(serve: Serve) -> Client:
    tester = FlowTester(define, inline_limit=100)
    tester.answer("checker", lambda call: Response(422, {}, b'{"reason": "too big"}'))
    client = serve(tester)
    client.start(b"order" * 100, id="r1")
    deliver_all(tester, client)
    return client


def data(client: Client, query: str) -> Any:
    return client.get(f"/flow/r1/data?{query}")


def test_input_and_output_of_a_failed_operation_are_kept(client: Client) -> None:
    node = quote(client.get("/flow/r1").json["failure"]["node"], safe="")

    assert data(client, f"node={node}&part=input").body == b"ORDER" * 100
    assert data(client, f"node={node}&part=output").body == b'{"reason": "too big"}'
    assert data(client, f"node={node}&part=output").headers["content-type"] == "application/json"


def test_a_node_may_be_named_as_its_failure_shows_it(client: Client) -> None:
    assert client.get("/flow/r1").json["failure"]["node"] == "check%2Fit"
    assert data(client, "node=check/it&part=input").body == b"ORDER" * 100
    assert client.post("/flow/r1/retry?node=check/it").status == 200


def test_results_of_nodes_and_the_input_of_the_request_are_given(client: Client) -> None:
    assert data(client, "node=read").body == b"ORDER" * 100
    assert data(client, "part=input").body == b"order" * 100


@pytest.mark.parametrize("query", ["node=nobody", "part=result", "part=output", "node=read&part=input"])
def test_what_is_not_kept_is_404_and_says_what_is(client: Client, query: str) -> None:
    reply = data(client, query)

    assert (reply.status, reply.json["request_id"]) == (404, "r1")
    assert "Kept are the results" in reply.json["hint"]


def test_an_unknown_request_or_part_is_told(client: Client) -> None:
    assert client.get("/flow/r2/data?part=input").status == 404
    assert data(client, "part=all").status == 400
