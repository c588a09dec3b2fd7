"""One run of a flow, and a second client who gives commands exactly at given boundaries of it.

Boundaries lie before and after every operation of the engine that carries the run: each delivery, tick and command,
each round trip to the state store and the data store, each call, each message handed to the queue, and each run of
code after the end. The second client has an engine and stores of its own, over the same files or server. All runs on
one thread, in virtual time; nothing fails here but what the second client does.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from faasflow.engine.context import Context
from faasflow.engine.engine import Answer, Engine
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.parts import Parts
from faasflow.engine.records import RequestRecord, load
from faasflow.errors import RequestConflictError, RequestNotFoundError, TryAgainError
from faasflow.ports import DataStore, Forward, OutgoingCall, Response, StateStore, Transport
from faasflow.runtime import definer
from faasflow.testing import FakeClock, InProcessTransport
from faasflow.testing.wrappers import DataStoreWrapper, StateStoreWrapper
from tests.battery.checker import Expected
from tests.battery.control_flows import CALLBACK, Note, SteeredFlow
from tests.battery.flows import evaluate
from tests.battery.history import (
    Accepted,
    Acknowledged,
    Actor,
    Called,
    Cleared,
    Event,
    Forwarded,
    History,
    RecordingStore,
    RecordingTransport,
    Wrote,
)

T = TypeVar("T")

REQUEST_ID = "request"
BODY, QUERY = b"x", "colour=red"
PAUSE, RESUME, STOP = "pause", "resume", "stop"
ENDS = (RequestState.FINISHED, RequestState.FAILED, RequestState.STOPPED)

_KEY = b"a key for the battery"
_INLINE_LIMIT = 24  # in bytes: later results of the flows go through the data store
_LIFETIME = 3600.0
_QUIET, _SETTLED = 60.0, 600.0
_MOST_ROUNDS = 200
_NOT_KNOWN, _REFUSED = RequestNotFoundError.__name__, RequestConflictError.__name__

ANSWERS = {
    "": dict.fromkeys((PAUSE, RESUME, STOP), _NOT_KNOWN),
    "RUNNING": {PAUSE: "PAUSED", RESUME: "RUNNING", STOP: "STOPPED"},
    "PAUSED": {PAUSE: "PAUSED", RESUME: "RUNNING", STOP: "STOPPED"},
    "FINISHED": dict.fromkeys((PAUSE, RESUME, STOP), _REFUSED),
    "FAILED": dict.fromkeys((PAUSE, RESUME, STOP), _REFUSED),
    "STOPPED": {PAUSE: _REFUSED, RESUME: _REFUSED, STOP: "STOPPED"},
}
"""What a command is answered, by the state of the request."""


class Stuck(Exception):
    """Nothing goes on any more, or for ever."""


Steering = Callable[[int], Iterable[str]]
"""Gives the commands of the second client at a boundary."""


def nobody(point: int) -> Iterable[str]:
    """A second client who does nothing."""
    return ()


class Points:
    """Numbers boundaries: 2k - 1 is before the k-th operation, 2k after it. `reach` is told of each."""

    def __init__(self, reach: Callable[[int], None]) -> None:
        self.names: list[str] = []
        self.is_armed = True
        self._reach = reach

    def through(self, name: str, operation: Callable[[], T]) -> T:
        """What `operation` returns or raises, with what happens before and after it."""
        if not self.is_armed:
            return operation()
        self.names.append(name)
        number = len(self.names)
        self._reach(2 * number - 1)
        try:
            return operation()
        finally:
            self._reach(2 * number)


class LiveHistory(History):
    """A history that knows what is stored of the request."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[str, bytes] = {}

    def add(self, event: Event) -> None:
        with self.lock:
            super().add(event)
            if isinstance(event, Cleared) and event.request == REQUEST_ID:
                self.stored.clear()
            if isinstance(event, Wrote) and event.request == REQUEST_ID:
                self._store(event.key, event.value)

    def _store(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.stored.pop(key, None)
        else:
            self.stored[key] = value

    @property
    def record(self) -> RequestRecord | None:
        """The request as it is."""
        value = self.stored.get("request")
        return load(value, RequestRecord, "request") if value is not None else None

    @property
    def state(self) -> str:
        """The state of the request, empty without one."""
        record = self.record
        return str(record.state) if record else ""


class PointedState(StateStoreWrapper):
    """A state store whose every round trip has a boundary on each side; `saw` is told after each read."""

    def __init__(self, store: StateStore, points: Points, saw: Callable[[], None]) -> None:
        super().__init__(store)
        self._points = points
        self._saw = saw

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        return self._points.through(f"state {operation}", lambda: self._told(operation, call))

    def _told(self, operation: str, call: Callable[[], T]) -> T:
        answer = call()
        if operation == "read":
            self._saw()
        return answer


class PointedData(DataStoreWrapper):
    """A data store whose every round trip has a boundary on each side."""

    def __init__(self, store: DataStore, points: Points) -> None:
        super().__init__(store)
        self._points = points

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        return self._points.through(f"data {operation}", call)


class PointedTransport:
    """A transport with a boundary on each side of every call and of every message; `calls` is told before a call."""

    def __init__(self, transport: Transport, points: Points, calls: Callable[[OutgoingCall], None]) -> None:
        self._transport = transport
        self._points = points
        self._calls = calls

    def function_url(self, name: str) -> str:
        return self._transport.function_url(name)

    def call(self, call: OutgoingCall) -> Response:
        return self._points.through(f"call {call.function or call.url}", lambda: self._call(call))

    def forward(self, messages: Sequence[Forward]) -> None:
        for message in messages:
            self._points.through("forward", lambda message=message: self._transport.forward([message]))  # type: ignore[misc]

    def _call(self, call: OutgoingCall) -> Response:
        self._calls(call)
        return self._transport.call(call)


@dataclass(frozen=True)
class Places:
    """Where a run keeps its state and data: as the engine that carries it opened them, and as the second client did."""

    state: StateStore
    data: DataStore
    client_state: StateStore
    client_data: DataStore


Spoil = Callable[[StateStore], StateStore]
SpoilTransport = Callable[[Transport], Transport]


def _sound(store: T) -> T:
    return store


class Run:
    """A run of `flow` under `name`, where the second client does what `steering` says, and `later` when it is paused
    and nothing goes on any more; then it resumes. `spoil` and `spoil_transport` may put a fault into what the engines
    see of their stores and of the queue."""

    def __init__(
        self,
        name: str,
        flow: SteeredFlow,
        places: Places,
        steering: Steering = nobody,
        *,
        later: Iterable[str] = (),
        spoil: Spoil = _sound,
        spoil_transport: SpoilTransport = _sound,
    ) -> None:
        self.name = name
        self.flow = flow
        self.history = LiveHistory()
        self.clock = FakeClock()
        self.steered: list[int] = []
        self.wrong: list[str] = []
        self.notes: list[tuple[str, str]] = []
        self.repaired = 0
        self.answer: Answer | None = None
        self.left: list[str] = []
        self._steering, self._later = steering, deque(later)
        self._seen: dict[Actor, str] = {}
        self._places, self._spoil, self._spoil_transport = places, spoil, spoil_transport
        self._outside = self._functions()
        self.points = Points(self._reached)
        self._engine = self._worker()
        self._client = self._second_client()

    @property
    def pending(self) -> deque[Forward]:
        """The queue."""
        return self._outside.pending

    @property
    def told(self) -> list[str]:
        """The states that the callback was told, in order."""
        return [call.headers["X-Faas-Flow-State"] for call in self._outside.calls if call.url == CALLBACK]

    def calls(self) -> Counter[tuple[str, str, int, str]]:
        """How often each call of a function was made: by step, function, attempt and body."""
        found = (event for event in self.history if isinstance(event, Called) and not event.event)
        return Counter((call.step, call.operation, call.attempt, call.body_sha256) for call in found)

    def forwards(self) -> int:
        """How many messages the queue was given."""
        return sum(isinstance(event, Forwarded) for event in self.history)

    def unparked(self) -> int:
        """How many messages were taken from where they were parked before the end of the request."""
        return sum(
            isinstance(event, Wrote) and event.key.startswith("parked/") and event.value is None
            for event in self.history
        )

    def expected(self) -> Expected:
        """What the request must come to, by recursion over the graph."""
        definition = definer(self.flow.define(lambda what, data: None))(Context(self.name, "", ""))
        may_fail = self.flow.state is RequestState.FAILED
        return evaluate(definition, BODY, may_fail=may_fail)

    def play(self) -> None:
        """Start the request, do what its first client does, and go on until nothing of it is left."""
        self._start()
        self.flow.script(self)
        self._go_on_to_the_end()
        self._settle()
        self.points.is_armed = False
        self.answer = self._client.answer(REQUEST_ID)
        for command in (PAUSE, RESUME, STOP):
            self._order(self._client, command)
        self._expire()

    # What the first client may do

    def command(self, name: str) -> None:
        self.points.through(f"command {name}", lambda: self._order(self._engine, name))

    def until_called(self, function: str) -> None:
        while self.pending and not any(call.function == function for call in self._outside.calls):
            self._deliver()

    def until_quiet(self) -> None:
        self._drain()
        calls, steered = self.calls(), len(self.steered)
        until = self.clock.now() + _QUIET
        while (due := self._client.next_timer()) is not None and due < until:
            self._pass_time(due)
            self._drain()
        if self.history.state != RequestState.PAUSED or len(self.steered) > steered:
            return
        if self.calls() != calls:
            self.wrong.append("I9: something was called in a minute in which it was paused")
        if not any(key.startswith("parked/") for key in self._stored):
            self.wrong.append("I9: lost: it is paused, nothing is queued, and nothing parked")

    # The engines, and what is around them

    def _functions(self) -> InProcessTransport:
        outside = InProcessTransport()
        for function in ("first", "left", "lefter", "work", "join", "low", "high", "last"):
            outside.answer(function, self.flow.answer)
        outside.answer(CALLBACK, lambda call: Response(200, {}, b""))
        return outside

    def _worker(self) -> Engine:
        places = self._places
        state = PointedState(RecordingStore(places.state, self.history), self.points, self._saw)
        transport = PointedTransport(RecordingTransport(self._outside, self.history), self.points, self._calling)

        def note(what: str, data: str) -> None:
            self.points.through(f"code {what}", lambda: self.notes.append((what, data)))

        return self._made(state, PointedData(places.data, self.points), transport, note)

    def _second_client(self) -> Engine:
        places = self._places
        transport = RecordingTransport(self._outside, self.history)
        state = RecordingStore(places.client_state, self.history)
        return self._made(state, places.client_data, transport, lambda what, data: self.notes.append((what, data)))

    def _made(self, state: StateStore, data: DataStore, transport: Transport, note: Note) -> Engine:
        # The flow is the same for every request; to define it anew for each delivery would take much of the time.
        definition = definer(self.flow.define(note))(Context(self.name, "", ""))
        return Engine(
            Parts(
                flow=self.name,
                define=lambda context: definition,
                state=self._spoil(state),
                data=data,
                transport=self._spoil_transport(transport),
                clock=self.clock,
                key=_KEY,
                inline_limit=_INLINE_LIMIT,
                lease_after=float("inf"),
                retention=_LIFETIME,
                chance=lambda: 0.5,
            )
        )

    # What happens at boundaries

    def _reached(self, point: int) -> None:
        commands = list(self._steering(point))
        self.steered += [point] if commands else []
        for command in commands:
            self._order(self._client, command)

    def _saw(self) -> None:
        """Remember as what the one who is at work read the request last."""
        if self.history.actor is not None:
            self._seen[self.history.actor] = self.history.state

    def _calling(self, call: OutgoingCall) -> None:
        """Only a step that was in flight when it was paused or stopped may call: it had read the request before."""
        state = self.history.state
        seen = self._seen.get(self.history.actor, "")
        if call.url != CALLBACK and state != RequestState.RUNNING and seen != RequestState.RUNNING:
            rule = "I9" if state == RequestState.PAUSED else "I10"
            self.wrong.append(f"{rule}: {call.function!r} was called by who had read that the request is {seen}")

    def _order(self, engine: Engine, command: str) -> None:
        """Give a command, which must be answered as the state asks for, and when refused have done nothing."""
        begin = len(self.history)
        states = {self.history.state}
        with self.history.acting(REQUEST_ID):
            by = self.history.actor
            try:
                answer = str(getattr(engine, command)(REQUEST_ID))
            except (RequestNotFoundError, RequestConflictError) as error:
                answer = type(error).__name__
        done = self.history.events[begin:]
        states |= {str(load(event.value, RequestRecord, "").state) for event in done if _is_state(event)}  # type: ignore[union-attr, arg-type]
        if answer not in {ANSWERS[state][command] for state in states}:
            self.wrong.append(f"{command} of a request that was {' and '.join(states)} was answered {answer}")
        if answer not in (_REFUSED, _NOT_KNOWN):
            self.history.add(Acknowledged(REQUEST_ID, command, answer))
        elif any(isinstance(event, Wrote | Called | Forwarded) and event.by == by for event in done):
            self.wrong.append(f"{command} was answered {answer}, and did something all the same")

    # How the run goes on

    @property
    def _stored(self) -> dict[str, bytes]:
        return self.history.stored

    def _start(self) -> None:
        with self.history.acting(REQUEST_ID):
            options = {"query": QUERY, "request_id": REQUEST_ID, "callback": CALLBACK}
            self.points.through("start", lambda: self._engine.start(BODY, **options))
        self.history.add(Accepted(REQUEST_ID, self.name, BODY, CALLBACK))

    def _go_on_to_the_end(self) -> None:
        for _ in range(_MOST_ROUNDS):
            self._drain()
            if self.history.state in ENDS:
                return
            if self.history.state == RequestState.PAUSED:
                self.until_quiet()
                self._order(self._client, self._later.popleft() if self._later else RESUME)
            else:
                self._pass_time()
        raise Stuck(f"it is {self.history.state} after {_MOST_ROUNDS} rounds")

    def _settle(self) -> None:
        """Let time pass until no timer stands for the request, which has ended."""
        until = self.clock.now() + _SETTLED
        while self.clock.now() < until:
            if self._client.next_timer() is None and not self.pending:
                return
            self._drain()
            self._pass_time()
        raise Stuck(f"timers of an ended request stand after {_SETTLED} s")

    def _expire(self) -> None:
        """Let the request's time be over."""
        for _ in range(3):
            self.clock.advance(_LIFETIME)
            self._pass_time()
        prefix = f"faasflow/{self.name}/"
        kept = self._places.client_data.list(prefix)
        keys = self._places.client_state.keys(prefix)
        self.left = [*(key for key in keys if key != f"{prefix}$clock"), *kept]

    def _pass_time(self, due: float | None = None) -> None:
        due = due if due is not None else self._client.next_timer()
        self.clock.advance(max(0.0, (due or 0.0) - self.clock.now()))
        with self.history.acting():
            self.repaired += self.points.through("tick", self._engine.tick).repaired

    def _drain(self) -> None:
        for _ in range(_MOST_ROUNDS):
            if not self.pending:
                return
            self._deliver()
        raise Stuck("the queue is never empty")

    def _deliver(self) -> None:
        forward = self.pending.popleft()
        message = self._engine._parts.codec.decode(forward.body, REQUEST_ID, self.clock.now())
        if message.query != QUERY:
            self.wrong.append(f"the message for {message.step.key!r} has the query {message.query!r}")
        with self.history.delivery(message):
            try:
                self.points.through("deliver", lambda: self._engine.deliver(forward.request_id, forward.body))
            except TryAgainError as error:
                self.clock.advance(error.retry_after or 1.0)
                self.pending.append(forward)


def _is_state(event: Event) -> bool:
    return isinstance(event, Wrote) and event.key == "request" and event.value is not None
