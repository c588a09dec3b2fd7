"""The thread that sends spans: what it must not lose, and what it tells of what it lost."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jaeger_client.sampler import ConstSampler
from jaeger_client.tracer import Tracer

from faasflow.config import TraceSettings
from faasflow.tracing.jaeger import open_jaeger
from faasflow.tracing.reporter import Reporter
from tests.support import wait_until
from tests.tracing.support import Agent, Collector, Receiver, received

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


def make(tracer: Any, count: int, **tags: Any) -> None:
    for number in range(count):
        tracer.start_span(f"span {number}", tags={"number": number, "request": "r" * 27, **tags}).finish()


class Gate:
    """A sender that waits until it is opened, and then loses as many of each batch as it is told to."""

    def __init__(self, *, lost: int = 0, error: Exception | None = None) -> None:
        self.is_open, self.has_begun = threading.Event(), threading.Event()
        self.sent: list[str] = []
        self._lost, self._error = lost, error

    def send(self, spans: Sequence[Any], process: Any) -> tuple[int, str]:
        self.has_begun.set()
        self.is_open.wait(20)
        if self._error is not None:
            raise self._error
        self.sent += [span.operation_name for span in spans]
        return self._lost, "the server is out for lunch" if self._lost else ""


def gated(gate: Gate) -> tuple[Tracer, Reporter]:
    reporter = Reporter(lambda: gate)
    return Tracer("service", reporter=reporter, sampler=ConstSampler(True), tags={"ip": "-"}), reporter


def test_all_spans_of_a_burst_arrive(receiver: Receiver) -> None:
    tracer, close = open_jaeger(TraceSettings(server=receiver.server), "service")
    make(tracer, 5000)
    close()
    spans = received(receiver, 5000)

    assert sorted(span.tags["number"] for span in spans) == [*range(5000)]


def test_spans_of_a_few_are_sent_without_being_asked_for(receiver: Receiver) -> None:
    tracer, close = open_jaeger(TraceSettings(server=receiver.server), "service")
    make(tracer, 3)

    assert len(received(receiver, 3, timeout=5)) == 3
    close()


def test_large_spans_are_sent_in_several_datagrams_that_fit(agent: Agent) -> None:
    tracer, close = open_jaeger(TraceSettings(server=agent.server), "service")
    make(tracer, 50, **{f"tag-{number}": "x" * 1000 for number in range(20)})
    close()

    assert len(received(agent, 50)) == 50
    assert max(map(len, agent.datagrams)) <= 65_000


def test_a_span_that_no_datagram_holds_arrives_without_its_large_tags(agent: Agent) -> None:
    tracer, close = open_jaeger(TraceSettings(server=agent.server), "service")
    make(tracer, 1, **{f"tag-{number}": "x" * 1000 for number in range(80)})
    make(tracer, 1)
    close()
    large, small = received(agent, 2)

    assert (large.tags["number"], small.tags["number"]) == (0, 0)
    assert "tag-1" not in large.tags


def test_a_span_that_cannot_be_sent_at_all_is_told_and_leaves_the_others_alone(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    tracer, close = open_jaeger(TraceSettings(server=agent.server), "service")
    make(tracer, 1, **{f"{number}" * 30_000: "x" for number in range(3)})
    make(tracer, 5)
    close()

    assert len(received(agent, 5)) == 5
    assert "1 spans were lost: a span is larger than a datagram." in caplog.text


def test_no_caller_waits_for_a_sender_and_what_is_too_much_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    tracer, reporter = gated(gate)
    make(tracer, 1)
    assert gate.has_begun.wait(10)
    began = time.monotonic()
    make(tracer, 10_050)
    took = time.monotonic() - began
    gate.is_open.set()
    reporter.shut_down(20)

    assert took < 10
    assert len(gate.sent) == 10_001
    assert "50 spans were lost: too many at a time." in caplog.text


def test_what_a_server_does_not_take_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate(lost=2)
    gate.is_open.set()
    tracer, reporter = gated(gate)
    for _ in range(5):
        make(tracer, 1)
        assert reporter.flush(10)

    assert [record.getMessage() for record in caplog.records] == ["2 spans were lost: the server is out for lunch."]
    reporter.shut_down(10)
    assert caplog.records[-1].getMessage() == "8 spans were lost: the server is out for lunch."


def test_an_error_that_nobody_expected_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate(error=ZeroDivisionError())
    gate.is_open.set()
    tracer, reporter = gated(gate)
    make(tracer, 1)
    assert reporter.flush(10)
    make(tracer, 1)

    assert reporter.flush(10)
    assert "1 spans were lost: ZeroDivisionError." in caplog.text
    reporter.shut_down(10)


def test_flush_waits_no_longer_than_it_may() -> None:
    gate = Gate()
    tracer, reporter = gated(gate)
    make(tracer, 1)
    began = time.monotonic()

    assert not reporter.flush(0.1)
    assert time.monotonic() - began < 5
    gate.is_open.set()
    assert reporter.flush(10)
    reporter.shut_down(10)


def test_spans_of_many_threads_arrive_once_each(agent: Agent) -> None:
    tracer, close = open_jaeger(TraceSettings(server=agent.server), "service")
    with ThreadPoolExecutor(16) as pool:
        for thread in range(16):
            pool.submit(make, tracer, 50, thread=thread)
    close()
    spans = received(agent, 800)

    assert len({(span.tags["thread"], span.tags["number"]) for span in spans}) == len(spans) == 800
    assert len({span.id for span in spans}) == 800


def test_it_can_be_closed_by_any_thread_and_leaves_none(agent: Agent) -> None:
    before = {*threading.enumerate()}
    tracer, close = open_jaeger(TraceSettings(server=agent.server), "service")
    make(tracer, 1)
    closing = threading.Thread(target=close)
    closing.start()
    closing.join(10)

    wait_until(lambda: {*threading.enumerate()} <= before, "its thread ends")
    assert len(received(agent, 1)) == 1


FORKING = """
    import os, sys, time
    from faasflow.config import TraceSettings
    from faasflow.tracing.jaeger import open_jaeger

    tracer, close = open_jaeger(TraceSettings(server=sys.argv[1]), "service")

    def make(name, count):
        for _ in range(count):
            tracer.start_span(name).finish()

    make("before", 300)
    children = []
    for name in ("one", "two"):
        child = os.fork()
        if not child:
            make(name, 300)
            close()
            os._exit(0)
        children.append(child)
    make("after", 300)
    close()
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
"""


def test_after_a_fork_parent_and_children_send_what_is_theirs(receiver: Receiver) -> None:
    program = textwrap.dedent(FORKING)
    subprocess.run([sys.executable, "-c", program, receiver.server], cwd=ROOT, check=True, timeout=60)
    spans = received(receiver, 1200)

    names = [span.name for span in spans]
    assert {name: names.count(name) for name in names} == {"before": 300, "after": 300, "one": 300, "two": 300}
    assert len({span.id for span in spans}) == 1200


def test_no_span_of_the_first_delivery_starts_an_event_loop(agent: Agent) -> None:
    program = f"""
import threading
from faasflow.config import TraceSettings
from faasflow.tracing.jaeger import open_jaeger
tracer, close = open_jaeger(TraceSettings(server={agent.server!r}), "service")
tracer.start_span("x").finish()
print(sorted(thread.name for thread in threading.enumerate()))
close()
"""
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)

    assert said.stdout == "['MainThread', 'spans']\n"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_a_receiver_has_no_room_for_is_sent_again(start_collector: Any, status: int) -> None:
    collector: Collector = start_collector(status, 200)
    tracer, close = open_jaeger(TraceSettings(server=collector.server), "service")
    make(tracer, 10)
    close()

    assert len(received(collector, 10)) == 10


def test_what_a_receiver_refuses_is_not_sent_again_and_told(
    start_collector: Any, caplog: pytest.LogCaptureFixture
) -> None:
    collector: Collector = start_collector(400)
    tracer, close = open_jaeger(TraceSettings(server=collector.server), "service")
    make(tracer, 10)
    close()

    assert len(collector.headers) == 1
    assert f"10 spans were lost: {collector.server}/v1/traces answered 400." in caplog.text


def test_headers_go_to_the_receiver_and_into_no_log(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = TraceSettings(server=collector.server, headers=(("api-key", "s3cr3t"),))
    tracer, close = open_jaeger(settings, "service")
    make(tracer, 1)
    close()

    assert [headers["api-key"] for headers in collector.headers] == ["s3cr3t"]
    assert "s3cr3t" not in caplog.text + repr(settings)
