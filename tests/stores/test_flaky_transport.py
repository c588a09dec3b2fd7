"""The transport for tests: it does what the one behind it does, and fails, loses and doubles exactly as it was told."""

from __future__ import annotations

from typing import Any

import pytest

from faasflow.errors import CallTimeoutError, ForwardError, UnreachableError
from faasflow.ports import Forward, OutgoingCall
from faasflow.testing import FlakyTransport, FlowTester, InProcessTransport
from faasflow.testing.faults import Fails, Operation, sometimes

MESSAGES = [Forward("flow", str(number), b"") for number in range(1, 5)]


@pytest.fixture
def inner() -> InProcessTransport:
    transport = InProcessTransport()
    transport.function("shout", bytes.upper)
    return transport


def a_call(transport: Any) -> OutgoingCall:
    return OutgoingCall("POST", transport.function_url("shout"), {}, [], b"hello", 1.0, "shout")


def taken(transport: InProcessTransport) -> list[str]:
    return [message.request_id for message in transport.pending]


def the(number: int) -> Fails:
    return lambda operation: operation.number == number


def test_without_faults_everything_passes(inner: InProcessTransport) -> None:
    transport = FlakyTransport(inner)
    transport.forward(MESSAGES)
    transport.forward([])

    assert transport.call(a_call(transport)).body == b"HELLO"
    assert taken(inner) == ["1", "2", "3", "4"]


def test_a_fault_before_a_call_leaves_it_unmade(inner: InProcessTransport) -> None:
    transport = FlakyTransport(inner, before=the(1))
    with pytest.raises(UnreachableError, match="before operation 1"):
        transport.call(a_call(transport))

    assert inner.calls == []
    assert transport.call(a_call(transport)).body == b"HELLO"


def test_a_fault_after_a_call_leaves_it_made(inner: InProcessTransport) -> None:
    transport = FlakyTransport(inner, after=the(1))
    with pytest.raises(CallTimeoutError, match="after operation 1"):
        transport.call(a_call(transport))

    assert len(inner.calls) == 1


def test_a_fault_before_a_message_takes_only_those_in_front_of_it(inner: InProcessTransport) -> None:
    with pytest.raises(ForwardError, match="before operation 3"):
        FlakyTransport(inner, before=the(3)).forward(MESSAGES)

    assert taken(inner) == ["1", "2"]


def test_a_fault_after_a_message_takes_it_as_well(inner: InProcessTransport) -> None:
    with pytest.raises(ForwardError, match="after operation 3"):
        FlakyTransport(inner, after=the(3)).forward(MESSAGES)

    assert taken(inner) == ["1", "2", "3"]


def test_a_message_is_lost_without_an_error(inner: InProcessTransport) -> None:
    FlakyTransport(inner, loses=the(2)).forward(MESSAGES)

    assert taken(inner) == ["1", "3", "4"]


def test_a_message_is_taken_twice(inner: InProcessTransport) -> None:
    FlakyTransport(inner, doubles=the(2)).forward(MESSAGES)

    assert taken(inner) == ["1", "2", "2", "3", "4"]


def test_calls_and_messages_are_numbered_together(inner: InProcessTransport) -> None:
    seen: list[Operation] = []
    transport = FlakyTransport(inner, before=lambda operation: bool(seen.append(operation)))
    transport.forward(MESSAGES[:2])
    transport.call(a_call(transport))

    assert seen == [
        Operation("forward", 1, is_write=True),
        Operation("forward", 2, is_write=True),
        Operation("call", 3, is_write=True),
    ]


def test_messages_are_lost_by_chance_and_the_same_ones_again_with_the_same_seed() -> None:
    def left(seed: int) -> list[str]:
        inner = InProcessTransport()
        FlakyTransport(inner, loses=sometimes(0.3, seed=seed)).forward(
            [Forward("flow", str(number), b"") for number in range(1000)]
        )
        return taken(inner)

    assert left(7) == left(7) != left(8)
    assert 600 < len(left(7)) < 800


def test_a_flow_runs_behind_one() -> None:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("first").apply("shout")
        dag.node("second").modify(bytes.swapcase)
        dag.edge("first", "second")

    delivered: list[str] = []
    tester = FlowTester(define, wrap=lambda transport: FlakyTransport(transport, doubles=the(3)))
    tester.function("shout", bytes.upper)
    started = tester.engine.start(b"Hello")
    while tester.transport.pending:
        message = tester.transport.pending.popleft()
        delivered.append(message.request_id)
        tester.engine.deliver(message.request_id, message.body)

    assert delivered == [started.request_id] * 3
    assert tester.outcome(started.request_id).result == b"hello"
