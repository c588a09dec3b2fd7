"""Running a flow inside a test: the real engine on memory stores, with functions that are callables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from faasflow.engine.engine import Engine
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.parts import Parts
from faasflow.engine.records import Failure, load
from faasflow.engine.timers import Timer, timers_prefix
from faasflow.errors import TryAgainError
from faasflow.events import EventHandler
from faasflow.ports import Clock, DataStore, OutgoingCall, Response, StateStore, Transport
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing.clock import FakeClock
from faasflow.testing.transport import InProcessTransport

_IDLE_TICKS = 3
_LONGEST = 60 * 86400.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request. `result` is its result, or for a failed one what `on_failure` returned; `ran` has the
    paths of the nodes that were recorded, in order; `failure` says which node failed and why."""

    request_id: str
    state: RequestState
    result: bytes | None
    failure: Failure | None
    ran: list[str]

    @property
    def error(self) -> str:
        """The failure in one line, empty if there was none."""
        if self.failure is None:
            return ""
        return f"{self.failure.node}: {self.failure.error_type}: {self.failure.message}"


class FlowTester:
    """Runs requests of one flow to their end. Functions are stand-ins given with `function`; the stores are in memory
    unless others are given, `wrap` makes of the transport what the engine sees of it, such as a flaky one, and `events`
    are told what happens."""

    def __init__(
        self,
        define: Callable[[Any, Any], Any],
        *,
        name: str = "flow",
        state: StateStore | None = None,
        data: DataStore | None = None,
        clock: Clock | None = None,
        transport: InProcessTransport | None = None,
        wrap: Callable[[InProcessTransport], Transport] | None = None,
        key: bytes | None = b"a key for tests",
        inline_limit: int = 32 * 1024,
        events: Sequence[EventHandler] = (),
    ) -> None:
        self.transport = transport or InProcessTransport()
        self.state = state or MemoryStateStore()
        self.data = data or MemoryDataStore()
        self.clock = clock or FakeClock()
        parts = Parts(
            flow=name,
            define=definer(define),
            state=self.state,
            data=self.data,
            transport=wrap(self.transport) if wrap else self.transport,
            clock=self.clock,
            key=key,
            inline_limit=inline_limit,
            events=events,
            lease_after=float("inf"),  # time that only passes when it is asked for needs no leases
        )
        self.engine = Engine(parts)
        self.engine.checked_definition()

    def function(self, name: str, code: Callable[[bytes], bytes]) -> None:
        """Let function `name` answer 200 with `code(body)`; where `code` raises, 500 with the error's text."""
        self.transport.function(name, code)

    def answer(self, target: str, code: Callable[[OutgoingCall], Response]) -> None:
        """Let a function or URL answer with `code(call)`, for headers, queries and other statuses."""
        self.transport.answer(target, code)

    def calls(self, function: str) -> list[OutgoingCall]:
        """Every call made to `function`, in order."""
        return [call for call in self.transport.calls if call.function == function]

    def run(
        self,
        body: bytes = b"",
        *,
        query: Mapping[str, Any] | None = None,
        request_id: str = "",
        callback: str = "",
    ) -> Outcome:
        """Start a request and deliver messages until none is left."""
        text = urlencode(query or {}, doseq=True)
        answer = self.engine.start(body, query=text, request_id=request_id, callback=callback)
        self.settle()
        return self.outcome(answer.request_id)

    def settle(self) -> None:
        """Deliver messages, and let time pass for retries, timeouts and what was lost, until nothing comes of it."""
        idle = 0
        until = self.clock.now() + _LONGEST
        self._drain_patiently()
        while (due := self.engine.next_timer()) is not None and due < until:
            self.clock.sleep(max(0.0, due - self.clock.now()))
            self.engine.tick()
            idle = 0 if self.transport.pending else idle + 1
            if idle >= _IDLE_TICKS and not self._is_live():
                break
            self._drain_patiently()

    def _drain_patiently(self) -> None:
        """`drain`, where what has to wait for a known time is delivered again after that, as a queue would."""
        while True:
            try:
                return self.drain()
            except TryAgainError as error:
                if not error.retry_after:
                    raise
                self.clock.sleep(error.retry_after)
                self.transport.pending.rotate(-1)

    def _is_live(self) -> bool:
        """Whether a timer stands for more than looking at paused requests, of which nothing comes."""
        timers = self.state.list(timers_prefix(self.engine.flow))
        found = [load(value, Timer, key) for key, value in timers.items()]
        return any(timer.step or self.engine.state(timer.request) is not RequestState.PAUSED for timer in found)

    def drain(self) -> None:
        """Deliver every message that is waiting, and those that follow from it, in order. One that raises is kept."""
        pending = self.transport.pending
        while pending:
            message = pending.popleft()
            try:
                self.engine.deliver(message.request_id, message.body)
            except BaseException:
                pending.appendleft(message)
                raise

    def outcome(self, request_id: str) -> Outcome:
        """What became of a request so far."""
        answer = self.engine.answer(request_id)
        nodes: Any = self.engine.story(request_id)["nodes"]
        done = [node for node in nodes if "branches" not in node and node["ended"] is not None]
        ran = [node["path"] for node in sorted(done, key=lambda node: node["ended"])]
        return Outcome(request_id, answer.state, answer.body, answer.failure, ran)
