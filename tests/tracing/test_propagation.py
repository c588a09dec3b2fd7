"""A trace is told to those who are called, and taken from those who call."""

from __future__ import annotations

import pytest

from faasflow.testing import FlowTester, OutgoingCall, Response
from tests.tracing.support import Agent, Collector, received, tracing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def calling(flow, context):
    dag = flow.dag()
    dag.node("n1").apply("f")
    dag.node("n2").apply("f")
    dag.edge("n1", "n2")


class Caller:
    """Starts a request with headers, and has the calls that its nodes made."""

    def __init__(self, agent: Agent | Collector, **options: str) -> None:
        self.agent = agent
        self.handler = tracing(agent.server, **options)
        self.tester = FlowTester(calling, events=[self.handler])
        self.tester.answer("f", lambda call: Response(200, {}, b""))

    def start(self, **headers: str) -> list[OutgoingCall]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.tester.engine.start(b"", headers=sent, request_id="r")
        self.tester.settle()
        self.handler.close()
        return self.tester.calls("f")


def test_a_function_is_told_the_span_of_the_operation_that_calls_it(agent: Agent) -> None:
    calls = Caller(agent).start()
    spans = {span.id: span for span in received(agent, 5)}

    for call, node in zip(calls, ("n1", "n2"), strict=True):
        trace, span, _, flags = call.headers["uber-trace-id"].split(":")
        assert spans[span.zfill(16)].tags["node"] == node
        assert (spans[span.zfill(16)].trace, flags) == (trace.zfill(32), "1")


def test_only_jaegers_header_is_sent_unless_w3c_is_set(agent: Agent) -> None:
    (first, _) = Caller(agent).start()

    assert "traceparent" not in first.headers


def test_w3c_sends_both_headers_of_one_span_with_ids_of_full_length(agent: Agent) -> None:
    (first, _) = Caller(agent, propagation="w3c").start()
    version, trace, span, flags = first.headers["traceparent"].split("-")

    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
    assert trace[:16] != "0" * 16
    assert first.headers["uber-trace-id"].split(":")[0] == trace.lstrip("0")


def test_ids_are_as_long_as_otlp_wants_them(agent: Agent, collector: Collector) -> None:
    Caller(agent).start()
    Caller(collector).start()

    assert {span.trace[:16] for span in received(agent, 5)} == {"0" * 16}
    assert {span.trace[:16] for span in received(collector, 5)} != {"0" * 16}


@pytest.mark.parametrize(
    ("propagation", "headers"),
    [
        ("jaeger", {"Uber_Trace_Id": f"{TRACE}:{SPAN}:0:1"}),
        ("w3c", {"Traceparent": PARENT}),
        ("w3c", {"Uber_Trace_Id": f"{TRACE}:{SPAN}:0:1"}),
        ("w3c", {"Uber_Trace_Id": "1:2:0:1", "Traceparent": PARENT}),
    ],
)
def test_a_request_continues_the_trace_of_its_caller(agent: Agent, propagation: str, headers: dict[str, str]) -> None:
    Caller(agent, propagation=propagation).start(**headers)
    spans = received(agent, 5)

    assert {span.trace for span in spans} == {TRACE}
    assert [span.parent for span in spans if span.name == "r"] == [SPAN]


@pytest.mark.parametrize(
    "headers",
    [
        {"uber_trace_id": "nonsense"},
        {"uber_trace_id": "1:2:3"},
        {"uber_trace_id": "0:0:0:1"},
        {"uber_trace_id": f"{'f' * 33}:1:0:1"},
        {"uber_trace_id": f"1:{'f' * 17}:0:1"},
        {"uber_trace_id": f"1:1:0:{'f' * 9}"},
        {"uber_trace_id": "1:-1:0:1"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
        {"traceparent": "00-1-2-01"},
        {"jaeger_baggage": "a=b"},
    ],
)
def test_a_header_that_is_no_trace_starts_another_one(agent: Agent, headers: dict[str, str]) -> None:
    Caller(agent, propagation="w3c").start(**headers)
    spans = received(agent, 5)

    assert len(spans) == 5
    assert [span.parent for span in spans if span.name == "r"] == [""]


def test_a_caller_that_samples_nothing_is_obeyed_and_its_decision_passed_on(agent: Agent) -> None:
    calls = Caller(agent, propagation="w3c").start(traceparent=f"00-{TRACE}-{SPAN}-00")

    assert agent.spans() == []
    assert [call.headers["traceparent"].split("-")[1::2] for call in calls] == [[TRACE, "00"]] * 2


def test_baggage_of_the_caller_reaches_every_function(agent: Agent) -> None:
    calls = Caller(agent).start(uber_trace_id=f"{TRACE}:{SPAN}:0:1", uberctx_tenant="blue")

    assert [call.headers["uberctx-tenant"] for call in calls] == ["blue", "blue"]


def test_a_request_that_began_untraced_goes_on_with_a_trace(agent: Agent) -> None:
    untraced = FlowTester(calling)
    untraced.engine.start(b"", request_id="r")
    handler = tracing(agent.server)
    traced = FlowTester(
        calling, state=untraced.state, data=untraced.data, transport=untraced.transport, events=[handler]
    )
    traced.answer("f", lambda call: Response(200, {}, b""))
    traced.settle()
    handler.close()

    assert {span.tags["node"] for span in received(agent, 4)} == {"n1", "n2"}
