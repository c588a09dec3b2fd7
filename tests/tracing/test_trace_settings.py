"""The settings of tracing, and what `faasflow doctor` says of them."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from faasflow.config import Settings, TraceSettings, inspect
from faasflow.errors import ConfigError
from faasflow.runtime.checks import Check, Verdict, run_checks
from faasflow.tracing import open_tracing
from tests.tracing.support import Agent, Collector, tracing

ON = {"validate_request": "false", "enable_tracing": "true", "state_store": "memory:", "data_store": "memory:"}


def read(**environ: str) -> TraceSettings:
    trace = Settings.from_environment(ON | environ).trace
    assert trace is not None
    return trace


def notes(**environ: str) -> dict[str, str]:
    found = inspect(ON | environ)
    assert not found.problems
    return {reading.name: reading.note for reading in found.readings if reading.note}


def test_without_a_word_nothing_is_traced() -> None:
    settings = Settings.from_environment({"validate_request": "false"})

    assert settings.trace is None
    assert open_tracing(settings) is None


def test_switched_on_spans_go_to_the_agent_of_the_manifests_in_the_way_of_jaeger() -> None:
    assert read() == TraceSettings(server="jaeger.faasflow:6831", client="jaeger", propagation="jaeger")
    assert read(enable_tracing="TRUE").agent == ("jaeger.faasflow", 6831)


@pytest.mark.parametrize(
    ("given", "server", "is_otlp"),
    [
        ("jaeger", "jaeger:6831", False),
        ("jaeger:6832", "jaeger:6832", False),
        ("[::1]:6831", "[::1]:6831", False),
        ("http://jaeger:4318", "http://jaeger:4318", True),
        ("http://jaeger:4318/v1/traces", "http://jaeger:4318", True),
        ("https://otlp.example.com/base/", "https://otlp.example.com/base", True),
    ],
)
def test_a_server_is_an_agent_or_an_otlp_url(given: str, server: str, is_otlp: bool) -> None:
    trace = read(trace_server=given)

    assert (trace.server, trace.is_otlp) == (server, is_otlp)


def test_the_standard_variable_names_an_otlp_receiver_unless_trace_server_does() -> None:
    standard = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318"}

    assert read(**standard).spans_url == "http://otel:4318/v1/traces"
    assert read(**standard, trace_server="jaeger:6831").server == "jaeger:6831"
    assert notes(**standard, trace_server="jaeger") == {"OTEL_EXPORTER_OTLP_ENDPOINT": "not used: trace_server is set"}


def test_opentelemetry_needs_an_otlp_receiver_and_knows_where_that_of_the_manifests_is() -> None:
    assert read(trace_client="otel") == TraceSettings(
        server="http://jaeger.faasflow:4318", client="otel", propagation=""
    )
    assert notes(trace_client="otel", trace_propagation="jaeger") == {
        "trace_propagation": "not used: with trace_client=otel, OTEL_PROPAGATORS says"
    }


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"trace_server": "ja eger"},
            "Setting 'trace_server' is 'ja eger', which is not understood. Give host:port of ",
        ),
        ({"trace_server": "jaeger:0"}, "Setting 'trace_server' is 'jaeger:0'"),
        ({"trace_server": "jaeger:70000"}, "Setting 'trace_server' is 'jaeger:70000'"),
        ({"trace_server": "grpc://jaeger:4317"}, "an http or https URL of an OTLP receiver"),
        ({"trace_server": "http://u:hunter2@jaeger"}, "an http or https URL of an OTLP receiver, without a login"),
        ({"trace_server": "jaeger:6831", "trace_client": "otel"}, "an http or https URL of an OTLP receiver"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "otel:4318"}, "Setting 'OTEL_EXPORTER_OTLP_ENDPOINT' is 'otel:4318'"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "hunter2"}, "'OTEL_EXPORTER_OTLP_HEADERS' is not understood. Give name=value"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=hunter2%0d%0ab:c"}, "'OTEL_EXPORTER_OTLP_HEADERS' is not understood"),
        ({"trace_propagation": "b3"}, "'trace_propagation' is 'b3', which is not understood. Give 'jaeger' or 'w3c'"),
        ({"trace_client": "zipkin"}, "'trace_client' is 'zipkin', which is not understood. Give 'jaeger' or 'otel'"),
    ],
)
def test_what_is_not_understood_is_told_by_name(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(**environ)

    assert said in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_headers_are_read_as_the_standard_has_them_and_shown_to_nobody() -> None:
    environ = {"trace_server": "http://otel", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=hunter2, x=a%20b%3D=="}
    found = inspect(ON | environ)

    assert read(**environ).headers == (("api-key", "hunter2"), ("x", "a b==="))
    assert "hunter2" not in repr(found)


def test_while_tracing_is_off_its_settings_are_told_to_have_no_effect() -> None:
    environ = {"enable_tracing": "false", "trace_server": "no server", "trace_client": "otel"}

    assert notes(**environ) == dict.fromkeys(("trace_server", "trace_client"), "not used: enable_tracing is false")


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("jaeger.faasflow:5775", "Nothing listens on port 5775 any more: Jaeger 2 takes spans on 6831 (UDP)."),
        ("http://jaeger:4317", "Port 4317 is for OTLP over gRPC: over HTTP it is 4318."),
    ],
)
def test_a_port_that_takes_no_such_spans_is_warned_of(server: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    tracing(server).close()
    warning, *_ = [record for record in caplog.records if record.levelno >= logging.WARNING]

    assert warning.getMessage().startswith(said)


def tracing_check(**environ: str) -> list[Check]:
    checks = run_checks(inspect(ON | environ | {"gateway": "127.0.0.1:9"}))
    return [check for check in checks if check.name == "tracing"]


def test_the_doctor_says_where_spans_go(agent: Agent, collector: Collector) -> None:
    (to_agent,) = tracing_check(trace_server=agent.server)
    (to_collector,) = tracing_check(trace_server=collector.server)

    assert (to_agent.verdict, to_collector.verdict) == (Verdict.GOOD, Verdict.GOOD)
    assert to_agent.found == f"spans go to {agent.server}; an agent does not say whether they arrive"
    assert to_collector.found == f"spans go to {collector.server}"


def test_the_doctor_warns_of_a_backend_that_is_away_as_flows_run_without_it() -> None:
    (check,) = tracing_check(trace_server="no-such-host.invalid")

    assert check.verdict is Verdict.WARNING
    assert check.found == "the name 'no-such-host.invalid' of the server is not known."


def test_the_doctor_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    (check,) = tracing_check(trace_client="otel", trace_server="http://127.0.0.1:9")

    assert (check.verdict, check.way_out) == (Verdict.BAD, "pip install 'faasflow[otel]'")


def test_the_doctor_is_silent_about_tracing_that_is_off() -> None:
    assert tracing_check(enable_tracing="false") == []


def test_one_tracer_serves_every_flow_of_a_process(agent: Agent) -> None:
    handler: Any = tracing(agent.server, flow="")

    assert handler.configure("a", "1")._tracer is handler.configure("b", "2")._tracer
    handler.close()
