"""A backend that is away, unknown or slow: requests end as they would without tracing, and as quickly."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from faasflow.config import TraceSettings
from faasflow.testing import FlowTester, RequestState, Response
from faasflow.tracing import find_fault
from faasflow.tracing.jaeger import AgentSender, open_jaeger
from tests.support import free_port
from tests.tracing.support import Agent, Collector, received, tracing

UNKNOWN = "no-such-host.invalid"


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", free_port())) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def address(kind: str, silent: str) -> str:
    return {
        "no agent": f"127.0.0.1:{free_port()}",
        "unknown agent": f"{UNKNOWN}:6831",
        "no receiver": f"http://127.0.0.1:{free_port()}",
        "unknown receiver": f"http://{UNKNOWN}:4318",
        "silent receiver": f"http://{silent}",
    }[kind]


KINDS = ["no agent", "unknown agent", "no receiver", "unknown receiver", "silent receiver"]


def many(flow, context):
    dag = flow.dag()
    branch = dag.foreach_branch("F", lambda data: {str(n): b"x" for n in range(20)}, aggregator=lambda parts: b"done")
    branch.node("n").apply("f")


@pytest.mark.parametrize("kind", KINDS)
def test_no_backend_has_an_effect_on_a_result(kind: str, silent: str) -> None:
    handler = tracing(address(kind, silent))
    tester = FlowTester(many, events=[handler])
    tester.answer("f", lambda call: Response(200, {}, b"y"))
    began = time.monotonic()
    outcome = tester.run(b"x")
    took = time.monotonic() - began

    assert (outcome.state, outcome.result) == (RequestState.FINISHED, b"done")
    assert took < 5
    handler.close()
    assert time.monotonic() - began < took + 5


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("no agent", "nothing listens at 127.0.0.1:"),
        ("unknown agent", f"the name '{UNKNOWN}' of the server is not known"),
        ("no receiver", "/v1/traces cannot be reached"),
    ],
)
def test_why_spans_are_lost_is_told(kind: str, reason: str, silent: str, caplog: pytest.LogCaptureFixture) -> None:
    handler = tracing(address(kind, silent))
    tester = FlowTester(many, events=[handler])
    tester.answer("f", lambda call: Response(200, {}, b"y"))
    for _ in range(8):
        tester.run(b"x")
    handler.close()

    assert "spans were lost" in caplog.text
    assert reason in caplog.text


def test_an_agent_that_comes_later_gets_the_spans_that_follow() -> None:
    port = free_port()
    tracer, close = open_jaeger(TraceSettings(server=f"127.0.0.1:{port}"), "service")
    sender = AgentSender("127.0.0.1", port)
    spans = [tracer.start_span(name) for name in ("first", "second")]
    for span in spans:
        span.finish()
    close()
    sender.send(spans[:1], tracer.reporter._process)
    agent = Agent(port)
    sender.send(spans[1:], tracer.reporter._process)

    assert [span.name for span in received(agent, 1)] == ["second"]
    agent.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_doctor_finds_what_is_wrong_with_a_backend(kind: str, silent: str) -> None:
    assert find_fault(TraceSettings(server=address(kind, silent))) != ""


def test_the_doctor_finds_nothing_wrong_with_one_that_is_there(agent: Agent, collector: Collector) -> None:
    assert find_fault(TraceSettings(server=agent.server)) == ""
    assert find_fault(TraceSettings(server=collector.server)) == ""
