"""The spans of requests, as they arrive at a Jaeger agent and at an OTLP receiver."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import opentracing
import pytest

from faasflow import Dag, Retry
from faasflow.events import Event
from faasflow.testing import FlowTester, Response
from tests.tracing.support import Agent, Receiver, Seen, received, tracing, tree

PAGE = Path(__file__).parents[2] / "docs" / "tracing.md"


class Traced:
    """Runs one request of a flow, with functions that answer their own body, and has its spans."""

    def __init__(self, define: Callable[[Any, Any], Any], receiver: Receiver, **options: Any) -> None:
        self.handler = tracing(receiver.server, **options)
        self.tester = FlowTester(define, events=[self.handler])
        self.receiver = receiver
        for name in "abcd":
            self.tester.function(name, lambda body: body)

    def run(self, body: bytes = b"", *, request_id: str = "the-request", **options: Any) -> list[Seen]:
        self.tester.run(body, request_id=request_id, **options)
        self.handler.close()
        return received(self.receiver, 1)


def only(spans: list[Seen], name: str) -> Seen:
    (found,) = [span for span in spans if span.name == name]
    return found


def one(flow, context):
    flow.sync_node().apply("a")


def chain(flow, context):
    dag = flow.dag()
    dag.node("n1").apply("a").apply("b")
    dag.node("n2").apply("c")
    dag.node("n3").modify(len)
    dag.edge("n1", "n2")
    dag.edge("n2", "n3")


def join(flow, context):
    dag = flow.dag()
    dag.node("n1").apply("a")
    dag.node("n4", aggregator=lambda parts: b"".join(parts.values())).apply("d")
    for middle in ("n2", "n3"):
        dag.node(middle).apply("b")
        dag.edge("n1", middle)
        dag.edge(middle, "n4")


def foreach(flow, context):
    dag = flow.dag()
    dag.node("n1").apply("a")
    branch = dag.foreach_branch("F", lambda data: {"x": b"1", "y": b"2"}, aggregator=lambda parts: b"")
    branch.node("b1").apply("b")
    branch.node("b2").apply("c")
    branch.edge("b1", "b2")
    dag.node("n2").apply("d")
    dag.edge("n1", "F")
    dag.edge("F", "n2")


def condition(flow, context):
    dag = flow.dag()
    cases = dag.conditional_branch("C", ["yes", "no"], lambda data: ["yes"], aggregator=lambda parts: b"")
    cases["yes"].node("y").apply("a")
    cases["no"].node("n").apply("b")


def nested(flow, context):
    inner = Dag()
    inner.node("i1").apply("a")
    inner.node("i2").apply("b")
    inner.edge("i1", "i2")
    dag = flow.dag()
    dag.sub_dag("S", inner)
    dag.node("n2").apply("c")
    dag.edge("S", "n2")


ONE = """\
the-request
  sync
    a
"""
CHAIN = """\
the-request
  n1
    a
    b
    n2
      c
      n3
        len
"""
JOIN = """\
the-request
  n1
    a
    n2
      b
    n3
      b
      n4
        d
"""
FOREACH = """\
the-request
  n1
    a
    F
      F/b1@x
        b
        F/b2@x
          c
      F/b1@y
        b
        F/b2@y
          c
          F
            n2
              d
"""
CONDITION = """\
the-request
  C
    C=yes/y
      a
      C
"""
NESTED = """\
the-request
  S/i1
    a
    S/i2
      b
      n2
        c
"""


@pytest.mark.parametrize(
    ("define", "expected"),
    [
        (one, ONE),
        (chain, CHAIN),
        (join, JOIN),
        (foreach, FOREACH),
        (condition, CONDITION),
        (nested, NESTED),
    ],
)
def test_what_forwards_a_node_is_the_parent_of_its_span(receiver: Receiver, define: Any, expected: str) -> None:
    spans = Traced(define, receiver).run(b"x")

    assert tree(spans) == expected
    assert len({span.trace for span in spans}) == 1
    assert {span.service for span in spans} == {"flow"}


def test_a_request_span_covers_the_start_and_is_named_by_the_request(receiver: Receiver) -> None:
    request = only(Traced(chain, receiver).run(b"x"), "the-request")

    assert request.tags.keys() - {"sampler.type", "sampler.param"} == {"flow", "request", "span.kind"}
    assert (request.tags["flow"], request.tags["request"]) == ("flow", "the-request")
    assert request.tags["span.kind"] == "server"


def test_a_node_that_runs_in_a_later_delivery_is_asynchronous_and_forwards_as_a_client(receiver: Receiver) -> None:
    spans = Traced(chain, receiver).run(b"x")
    common = {"flow": "flow", "request": "the-request", "attempt": 1, "async": "true", "state": "FINISHED"}
    forwarding = {"http.method": "POST", "http.url": "http://gateway.openfaas:8080/async-function/flow"}

    assert only(spans, "n2").tags == common | forwarding | {"node": "n2", "span.kind": "client"}
    assert only(spans, "n3").tags == common | {"node": "n3", "span.kind": "server"}


def test_a_node_that_runs_in_the_start_is_not_asynchronous(receiver: Receiver) -> None:
    node = only(Traced(one, receiver).run(b"x"), "sync")

    assert node.tags == {"flow": "flow", "request": "the-request", "node": "sync", "attempt": 1, "state": "FINISHED"}


def test_an_operation_that_calls_names_what_it_calls_and_code_does_not(receiver: Receiver) -> None:
    spans = Traced(chain, receiver).run(b"x")
    common = {"flow": "flow", "request": "the-request", "attempt": 1}
    called = {"span.kind": "client", "http.method": "POST", "http.url": "http://gateway/function/a"}

    assert only(spans, "a").tags == common | called | {"node": "n1", "operation": "a"}
    assert only(spans, "len").tags == common | {"node": "n3", "operation": "len"}


def test_the_two_runs_of_a_node_with_branches_are_told_apart(receiver: Receiver) -> None:
    split, join = sorted((s for s in Traced(foreach, receiver).run(b"x") if s.name == "F"), key=lambda s: s.start)

    assert (split.tags["phase"], join.tags["phase"]) == ("split", "join")
    assert (split.tags["node"], join.tags["node"]) == ("F", "F")


def test_spans_begin_and_end_when_their_events_say(receiver: Receiver) -> None:
    spans = Traced(chain, receiver).run(b"x")
    node, first, second = (only(spans, name) for name in ("n1", "a", "b"))

    assert node.start < first.start < first.end < second.start < second.end < node.end


def failing(flow, context):
    dag = flow.dag()
    dag.node("n1").apply("a")
    dag.node("n2").apply("b").apply("c")
    dag.edge("n1", "n2")
    flow.on_failure(lambda error: b"sorry")
    flow.finally_(lambda state: None)


def test_a_failure_is_marked_with_its_kind_and_status_and_quotes_nothing(receiver: Receiver) -> None:
    traced = Traced(failing, receiver)
    traced.tester.answer("b", lambda call: Response(503, {}, b"a body that is secret"))
    spans = traced.run(b"an input that is secret")

    for span in (only(spans, "n2"), only(spans, "b")):
        assert (span.tags["error"], span.tags["http.status_code"]) == (True, 503)
        assert span.logs == [{"event": "error", "error.kind": "CallError"}]
    assert only(spans, "n2").tags["state"] == "FAILED"
    assert [span.name for span in spans if "error" in span.tags] == ["b", "n2"]
    assert "secret" not in repr(spans)


def test_what_runs_after_the_end_is_a_child_of_the_node_that_ended_the_request(receiver: Receiver) -> None:
    traced = Traced(failing, receiver)
    target = "http://target.example/secret/path?token=secret"
    traced.tester.answer("b", lambda call: Response(503, {}, b""))
    traced.tester.answer(target, lambda call: Response(200, {}, b""))
    spans = traced.run(b"x", callback=target)

    assert (
        tree(spans)
        == """\
the-request
  n1
    a
    n2
      b
      $on_failure
      $finally
      $callback
        callback to target.example
"""
    )
    assert only(spans, "callback to target.example").tags["http.url"] == "http://target.example"
    assert "secret" not in repr(spans)


def retried(flow, context):
    dag = flow.dag()
    dag.node("n1").apply("a")
    dag.node("n2", retry=Retry(attempts=3, delay=5.0, jitter=0.0)).apply("b")
    dag.node("n3").apply("c")
    dag.edge("n1", "n2")
    dag.edge("n2", "n3")


def test_each_attempt_at_a_node_is_a_span_of_its_own_in_the_same_trace(receiver: Receiver) -> None:
    traced = Traced(retried, receiver)
    answers = [503, 503, 200]
    traced.tester.answer("b", lambda call: Response(answers.pop(0), {}, b"x"))
    spans = traced.run(b"x")
    attempts = sorted((span for span in spans if span.name == "n2"), key=lambda span: span.start)

    assert [(span.tags["attempt"], span.tags["state"], span.tags.get("error")) for span in attempts] == [
        (1, "RETRYING", True),
        (2, "RETRYING", True),
        (3, "FINISHED", None),
    ]
    assert len({span.trace for span in spans}) == 1
    assert [attempt.parent for attempt in attempts] == [
        only(spans, "n1").id,
        only(spans, "the-request").id,
        only(spans, "the-request").id,
    ]
    assert only(spans, "n3").parent == attempts[2].id


def test_the_page_shows_the_tree_that_arrives(agent: Agent) -> None:
    page = PAGE.read_text()
    code = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    shown = re.findall(r"compares this.*?^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(code, names)
    traced = Traced(names["define"], agent)
    for function in ("fetch", "resizer", "put"):
        traced.tester.function(function, lambda body: body)

    assert tree(traced.run(b"x")) == shown


def test_the_page_names_every_tag(agent: Agent) -> None:
    traced = Traced(failing, agent)
    traced.tester.answer("b", lambda call: Response(503, {}, b""))
    tags = {tag for span in traced.run(b"x") for tag in span.tags}

    assert {"error", "sampler.type", "http.url"} <= tags
    assert {tag for tag in tags if f"`{tag}`" not in PAGE.read_text()} == set()


def test_a_request_that_was_paused_goes_on_in_its_trace(receiver: Receiver) -> None:
    traced = Traced(chain, receiver)
    traced.tester.engine.start(b"x", request_id="the-request")
    traced.tester.engine.pause("the-request")
    traced.tester.settle()
    traced.tester.engine.resume("the-request")
    traced.tester.settle()
    traced.handler.close()

    assert tree(received(receiver, 8)) == CHAIN


def test_a_step_without_an_outcome_is_marked_and_what_it_does_later_changes_nothing(receiver: Receiver) -> None:
    handler = tracing(receiver.server)
    delivery = handler.configure("flow", "r")
    node = {"flow": "flow", "request_id": "r", "node": "n"}
    delivery.report_execution_continuation(Event(time=1.0, **node))
    delivery.report_node_start(Event(time=1.0, **node))
    delivery.report_operation_start(Event(time=1.0, operation="f", **node))
    delivery.flush()
    delivery.report_operation_end(Event(time=2.0, operation="f", **node))
    delivery.report_node_end(Event(time=2.0, state="FINISHED", **node))
    delivery.flush()
    handler.close()
    spans = received(receiver, 2)

    assert [span.tags["unfinished"] for span in spans] == ["true", "true"]
    assert len(spans) == 2


def test_an_outcome_that_counts_no_more_is_marked(receiver: Receiver) -> None:
    handler = tracing(receiver.server)
    delivery = handler.configure("flow", "r")
    node = {"flow": "flow", "request_id": "r", "node": "n"}
    delivery.report_node_start(Event(time=1.0, **node))
    delivery.report_node_end(Event(time=2.0, is_recorded=False, **node))
    delivery.flush()
    handler.close()

    assert [span.tags["recorded"] for span in received(receiver, 1)] == [False]


def test_names_that_no_receiver_takes_are_made_so_that_it_does(receiver: Receiver) -> None:
    handler = tracing(receiver.server)
    delivery = handler.configure("flow", "r")
    node = {"flow": "flow", "request_id": "r", "node": "half a pair \ud800" + "x" * 100_000}
    delivery.report_node_start(Event(time=1.0, **node))
    delivery.report_node_end(Event(time=2.0, **node))
    delivery.flush()
    handler.close()

    assert [span.name[:14] for span in received(receiver, 1)] == ["half a pair ?x"]


def test_the_status_is_that_of_an_answer_and_no_exit_code(receiver: Receiver) -> None:
    def leave(data: bytes) -> bytes:
        raise SystemExit(3)

    def leaving(flow, context):
        flow.sync_node().modify(leave)

    spans = Traced(leaving, receiver).run(b"x")

    assert [span.logs[0]["error.kind"] for span in spans if "error" in span.tags] == ["SystemExit"] * 3
    assert not any("http.status_code" in span.tags for span in spans)


def test_what_a_handler_traces_itself_is_a_child_of_the_operation_it_does_so_in(receiver: Receiver) -> None:
    def trace(data: bytes) -> bytes:
        with opentracing.global_tracer().start_active_span("of the handler"):
            return data

    def define(flow, context):
        dag = flow.dag()
        dag.node("n1").modify(trace).apply("a")
        dag.node("n2").apply("b")
        dag.edge("n1", "n2")
        flow.finally_(lambda state: trace(b""))

    traced = Traced(define, receiver)
    traced.run()
    own, after_the_end = sorted(
        (span for span in received(receiver, 8) if span.name == "of the handler"), key=lambda span: span.start
    )
    operation = only(receiver.spans(), "trace")

    assert (own.parent, own.trace) == (operation.id, operation.trace)
    assert after_the_end.parent == ""  # no operation runs then
    assert opentracing.global_tracer().active_span is None


def test_a_repeated_start_has_no_trace_of_its_own(receiver: Receiver) -> None:
    traced = Traced(chain, receiver)
    for _ in range(2):
        traced.tester.engine.start(b"x", request_id="the-request")
    traced.tester.settle()
    traced.tester.engine.start(b"x", request_id="the-request")
    spans = traced.run(b"x")

    assert len({span.trace for span in spans}) == 1
    assert [span.name for span in spans].count("the-request") == 1


class Publish:
    """A custom operation."""

    name = "publish to orders"
    properties = {"topic": "orders"}  # noqa: RUF012

    def run(self, data: bytes, context: Any) -> bytes:
        return data


def test_a_custom_operation_is_a_span_with_its_properties(receiver: Receiver) -> None:
    spans = Traced(lambda flow, context: flow.sync_node().add(Publish()) and None, receiver).run()

    assert only(spans, "publish to orders").tags["operation.topic"] == "orders"
