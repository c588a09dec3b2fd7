"""OpenTelemetry in the place of jaeger-client, each time in a process of its own: its providers are set once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from faasflow.errors import ConfigError
from tests.tracing.support import Collector, received, tracing, tree

ROOT = Path(__file__).parents[2]
PROGRAM = """
    import json, sys
    from faasflow.testing import FlowTester, Response
    from tests.tracing.support import tracing

    def define(flow, context):
        dag = flow.dag()
        dag.node("n1").apply("a")
        dag.node("n2").apply("b")
        dag.edge("n1", "n2")

    handler = tracing(sys.argv[1], client="otel", propagation="")
    tester = FlowTester(define, events=[handler])
    tester.answer("a", lambda call: Response(200, {}, b""))
    tester.answer("b", lambda call: Response(503, {}, b"secret"))
    tester.engine.start(b"secret", headers=json.loads(sys.argv[2]), request_id="r")
    tester.settle()
    handler.close()
    print(json.dumps([call.headers for call in tester.transport.calls]))
"""
OWN = """
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    import sys
    provider = TracerProvider(resource=Resource.create({"service.name": "my-own"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(sys.argv[1] + "/v1/traces")))
    trace.set_tracer_provider(provider)
"""
TREE = """\
r
  n1
    a
    n2
      b
"""
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def run(collector: Collector, *, before: str = "", **headers: str) -> list[dict[str, str]]:
    """The headers of the calls that the nodes made."""
    program = textwrap.dedent(before) + textwrap.dedent(PROGRAM)
    command = [sys.executable, "-c", program, collector.server, json.dumps(headers)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env={**os.environ})
    assert done.returncode == 0, done.stderr
    calls: list[dict[str, str]] = json.loads(done.stdout)
    return calls


def test_its_spans_are_those_of_the_documented_tree(collector: Collector) -> None:
    calls = run(collector, Traceparent=PARENT)
    spans = received(collector, 5)
    node, operation = (next(span for span in spans if span.name == name) for name in ("n2", "b"))

    assert tree(spans) == TREE
    assert {span.trace for span in spans} == {PARENT.split("-")[1]}
    assert {span.service for span in spans} == {"flow"}
    assert (node.tags["async"], node.tags["error"], node.tags["state"]) == ("true", True, "FAILED")
    assert (operation.tags["span.kind"], operation.tags["http.status_code"]) == ("client", 503)
    assert calls[1]["traceparent"].split("-")[2] == operation.id
    assert "secret" not in repr(spans)


def test_the_provider_that_a_handler_has_set_makes_the_spans(collector: Collector) -> None:
    run(collector, before=OWN)

    assert {span.service for span in received(collector, 5)} == {"my-own"}


def test_a_receiver_that_is_away_delays_the_end_by_seconds_at_most() -> None:
    class Away:
        server = "http://127.0.0.1:9"

    assert len(run(Away())) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.shim.opentracing_shim"])
def test_a_package_that_is_missing_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(ConfigError, match=f"needs the package '{missing}', which is not installed") as raised:
        tracing("http://127.0.0.1:4318", client="otel", propagation="")

    assert raised.value.hint == "pip install 'faasflow[otel]'"
