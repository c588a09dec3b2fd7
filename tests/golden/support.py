"""Running a flow one message at a time, and writing down what each delivery did."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from faasflow import Dag
from faasflow.engine.message import MessageCodec
from faasflow.errors import ForwardError, StoreUnavailableError, TryAgainError
from faasflow.naming import request_prefix
from faasflow.ports import Forward
from faasflow.testing import FlowTester, RequestState
from faasflow.testing.contracts import together

FLOW, KEY = "flow", b"the key of the golden traces"

MakeStep = Callable[[str], Callable[[bytes], bytes]]
"""`step("n1")` is a modifier that notes its input and wraps it: `n1(input)`."""


class Crash(BaseException):
    """The end of the process."""


@dataclass(frozen=True)
class Hop:
    """What one delivery, or the start, did: the steps that ran, each with its input; the keys it wrote to the ledger of
    the request; the steps that it forwarded."""

    ran: list[tuple[str, str]]
    recorded: list[str]
    forwarded: list[str]


class Trace:
    """A flow that is delivered one message at a time. `write(dag, step)` fills its DAG."""

    def __init__(self, write: Callable[[Dag, MakeStep], Any]) -> None:
        self._ran: list[tuple[str, str]] = []
        self.tester = FlowTester(lambda flow, context: write(flow.dag(), self._make_step), name=FLOW, key=KEY)
        self.request_id = ""

    def start(self, body: bytes) -> Hop:
        return self._hop(lambda: self._start(body))

    def deliver(self, step: str) -> Hop:
        """Deliver the oldest message for `step`."""
        pending = self.tester.transport.pending
        message = next(message for message in pending if self._step_of(message) == step)
        pending.remove(message)
        return self._hop(lambda: self.tester.engine.deliver(message.request_id, message.body))

    @property
    def state(self) -> RequestState:
        return self.tester.engine.state(self.request_id)

    @property
    def result(self) -> bytes | None:
        return self.tester.engine.answer(self.request_id).body

    def _make_step(self, name: str) -> Callable[[bytes], bytes]:
        def step(data: bytes) -> bytes:
            self._ran.append((name, data.decode()))
            return name.encode() + b"(" + data + b")"

        return step

    def _start(self, body: bytes) -> None:
        self.request_id = self.tester.engine.start(body).request_id

    def _hop(self, act: Callable[[], None]) -> Hop:
        self._ran.clear()
        before, waiting = self._ledger(), len(self.tester.transport.pending)
        act()
        recorded = [key for key, value in self._ledger().items() if before.get(key) != value]
        forwarded = list(self.tester.transport.pending)[waiting:]
        return Hop(list(self._ran), recorded, [self._step_of(message) for message in forwarded])

    def _ledger(self) -> dict[str, bytes]:
        prefix = request_prefix(FLOW, self.request_id) if self.request_id else f"faasflow/{FLOW}/"
        found = self.tester.state.list(prefix)
        return {key.removeprefix(prefix): value for key, value in found.items()}

    def _step_of(self, message: Forward) -> str:
        now = self.tester.clock.now()
        return str(MessageCodec(FLOW, KEY).decode(message.body, message.request_id, now).step)


def shown(results: Mapping[str, bytes]) -> bytes:
    """An aggregator whose result shows what it got: `n2=…;n3=…;`."""
    return b"".join(f"{key}={value.decode()};".encode() for key, value in results.items())


def deliver_all(tester: FlowTester, *, copies: int = 1, chance: random.Random | None = None) -> None:
    """Deliver as a queue does that delivers every message `copies` times, in order or by `chance`, and repeats those
    that ask for it, with the time that passes until then."""
    pending, waiting = tester.transport.pending, []
    while pending or waiting:
        waiting += [message for message in pending for _ in range(copies)]
        pending.clear()
        message = waiting.pop(chance.randrange(len(waiting)) if chance else 0)
        if not is_done(tester, message):
            tester.clock.advance(1.0)
            waiting.append(message)


def deliver_together(tester: FlowTester) -> None:
    """Deliver all messages that wait at the same moment, each in a thread, until none is left; see `deliver_all`."""
    while tester.transport.pending:
        messages = list(tester.transport.pending)
        tester.transport.pending.clear()
        done = together(lambda message: is_done(tester, message), messages)
        tester.clock.advance(1.0)
        tester.transport.pending += [message for message, fine in zip(messages, done, strict=True) if not fine]


def is_done(tester: FlowTester, message: Forward) -> bool:
    """Deliver a message; False if it has to be delivered again."""
    try:
        tester.engine.deliver(message.request_id, message.body)
    except (TryAgainError, ForwardError, StoreUnavailableError, Crash):
        return False
    return True
