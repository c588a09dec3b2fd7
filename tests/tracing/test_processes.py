"""Traces of real processes: a gateway, flows behind it, and functions that they call."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
import requests

from faasflow.local import Gateway
from tests.local.support import GatewayProcess
from tests.support import wait_until
from tests.tracing.support import Agent, Collector, received, tree

ECHO = """
    import json
    def handle(event, context):
        return {"body": json.dumps({name.lower(): value for name, value in event.headers.items()})}
"""
OUTER = """
    def define(flow, context):
        dag = flow.dag()
        dag.node("ask").apply("echo")
        dag.node("hand-over").apply("inner", query={"wait": "20s"})
        dag.edge("ask", "hand-over")
"""
INNER = """
    def define(flow, context):
        dag = flow.dag()
        dag.node("first").modify(lambda data: data)
        dag.node("second").modify(lambda data: data)
        dag.edge("first", "second")
"""
TREE = """\
outer-request
  ask
    echo
    hand-over
      inner
        inner-request
          first
            modifier
            second
              modifier
"""


def traced(project: Any, server: str, **environment: str) -> None:
    environment = {"enable_tracing": "true", "trace_server": server, **environment}
    project.function("echo", ECHO)
    project.function("outer", OUTER, lang="faas-flow", environment=environment)
    project.function("inner", INNER, lang="faas-flow", environment=environment)


def start(gateway: Any, **headers: str) -> requests.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    with requests.Session() as session:
        session.trust_env = False
        url = f"{gateway.url}/function/outer?wait=30s"
        return session.post(url, headers={"X-Faas-Flow-Reqid": "outer-request", **sent}, timeout=60)


@pytest.mark.parametrize("kind", ["agent", "collector"])
def test_one_trace_leads_through_two_flows_and_into_a_function(
    kind: str, request: pytest.FixtureRequest, project: Any, start_gateway: Any
) -> None:
    receiver: Agent | Collector = request.getfixturevalue(kind)
    traced(project, receiver.server, trace_propagation="w3c")
    gateway: Gateway = start_gateway(project)

    answer = start(gateway, uber_trace_id="abc123:def456:0:1")
    heard = json.loads(answer.content)
    spans = received(receiver, 10)
    inner = next(span for span in spans if span.service == "inner" and span.tags.get("span.kind") == "server")

    assert answer.status_code == 200
    assert tree(spans).replace(inner.tags["request"], "inner-request") == TREE
    assert {span.trace.lstrip("0") for span in spans} == {"abc123"}
    assert {span.service for span in spans} == {"outer", "inner"}
    assert [span.id for span in spans if span.name == "echo"] == [heard["traceparent"].split("-")[2]]


def test_what_is_in_flight_is_sent_when_a_gateway_and_its_flows_are_ended(
    agent: Agent, project: Any, run_gateway: Any
) -> None:
    traced(project, agent.server)
    gateway: GatewayProcess = run_gateway().wait_ready()
    assert start(gateway).status_code == 200
    gateway.send(signal.SIGTERM)
    gateway.wait()

    wait_until(lambda: len(agent.spans()) == 10, "all spans arrive")


def test_a_flow_whose_backend_is_unknown_answers_and_ends_in_time(project: Any, run_gateway: Any) -> None:
    traced(project, "no-such-host.invalid:6831")
    gateway: GatewayProcess = run_gateway().wait_ready()

    assert start(gateway).status_code == 200
    gateway.send(signal.SIGTERM)
    assert gateway.wait() == 0
