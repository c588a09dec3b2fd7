"""What happened in a run, as a list of events in the order in which they took effect.

A history is recorded by wrapping the ports of an engine (`RecordingStore`, `RecordingTransport`) and the deliveries
made to it (`History.delivery`), or put together afterwards from the log of the functions and a dump of the store
(`from_run`). `checker` says what was wrong in it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TypeVar
from urllib.parse import unquote

from faasflow.engine.message import Message, MessageCodec
from faasflow.errors import MessageError
from faasflow.naming import escape, header_text, request_prefix, unescape
from faasflow.ports import Create, Delete, Forward, Op, Outcome, OutgoingCall, Put, Response, StateStore, Transport
from faasflow.testing.wrappers import StateStoreWrapper

T = TypeVar("T")
Actor = Hashable
"""Names one delivery, start, command or tick: whatever ran on one thread of one worker from its begin to its end."""

SYSTEM = "$"
"""Stands in for a request where an event concerns the flow as a whole: timers, lists, the clock."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A start was answered with 2xx: from here on the request must not be lost."""

    request: str
    flow: str = "flow"
    input: bytes = b""
    callback: str = ""


@dataclass(frozen=True, slots=True)
class Began:
    """`by` began to work: on a message for `step` in a `run` of an `incarnation` of the request, or, with an empty one,
    on a start, a command or a tick (for which `request` is empty). `is_forged` marks what must be refused."""

    request: str
    by: Actor
    step: str = ""
    attempt: int = 1
    is_forged: bool = False
    run: int = 0
    incarnation: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """`by` came to its end. `error` is the name of what it raised; a message without one is acknowledged."""

    by: Actor
    error: str = ""
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Called:
    """A call started. `operation` is the function or URL, `event` the event id of a callback."""

    request: str
    operation: str
    body_sha256: str
    step: str = ""
    attempt: int = 1
    key: str = ""
    event: str = ""
    by: Actor = None
    call: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """The call with this number was answered; without a status, it was not."""

    call: int
    status: int | None


@dataclass(frozen=True, slots=True)
class Wrote:
    """A key of a request took a value, or was removed (`None`). The key is relative to the request; for `SYSTEM` it is
    relative to the flow."""

    request: str
    key: str
    value: bytes | None
    by: Actor = None


@dataclass(frozen=True, slots=True)
class Cleared:
    """Every key of a request was removed."""

    request: str
    by: Actor = None


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A message was handed to the queue. `step` names the step that it asks for, in a run of the request."""

    request: str
    by: Actor = None
    step: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A command (pause, resume, stop, retry) was answered; `state` is empty where it was refused."""

    request: str
    command: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something was done to the run that may make a call be repeated. Without a request it concerns all."""

    kind: str
    request: str = ""


@dataclass(frozen=True, slots=True)
class Jumped:
    """The wall clock was set forth or back."""

    seconds: float


Event = Accepted | Began | Done | Called | Answered | Wrote | Cleared | Forwarded | Acknowledged | Fault | Jumped
_KINDS: dict[str, type] = {kind.__name__: kind for kind in Event.__args__}


def sha(data: bytes) -> str:
    """How bodies and values are named in a history."""
    return hashlib.sha256(data).hexdigest()


class History:
    """Events in order; an event's number is its place. Thread-safe; who acts is known per thread."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = list(events)
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._names: dict[str, str] = {}
        self._headers: dict[str, str] = {}
        self._local = threading.local()

    def __iter__(self) -> Iterator[Event]:
        return iter(list(self.events))

    def __len__(self) -> int:
        return len(self.events)

    def add(self, event: Event) -> None:
        """Append an event."""
        with self.lock:
            self.know(getattr(event, "request", ""))
            self.events.append(event)

    def know(self, request: str) -> None:
        """Remember an id, whose escaped form in keys may be shortened."""
        self._names[escape(request)] = request
        self._headers[header_text(request)] = request

    def name_of(self, segment: str) -> str:
        """The request whose escaped id is `segment`."""
        return self._names.get(segment) or unescape(segment)

    def named_in(self, header: str) -> str:
        """The request whose id a header has."""
        return self._headers.get(header) or unquote(header, errors="surrogatepass")

    @property
    def actor(self) -> Actor:
        """Who acts on this thread; `None` outside of `delivery` and `acting`."""
        return getattr(self._local, "actor", None)

    @property
    def step(self) -> str:
        """The key of the step that this thread delivers."""
        return getattr(self._local, "step", "")

    @contextmanager
    def delivery(self, message: Message | None, *, request: str = "", is_forged: bool = False) -> Iterator[None]:
        """Record the delivery of `message`, which may be unreadable (`None`); what is raised passes through."""
        step = message.step.key if message else ""
        began = Began(
            message.request_id if message else request,
            next(self._numbers),
            step,
            message.attempt if message else 1,
            is_forged,
            message.life.run if message else 0,
            message.life.incarnation if message else "",
        )
        with self._acting(began):
            yield

    @contextmanager
    def acting(self, request: str = "") -> Iterator[None]:
        """Record a start, a command, or, without a request, a tick."""
        with self._acting(Began(request, next(self._numbers))):
            yield

    @contextmanager
    def going_on(self, by: Actor, step: str) -> Iterator[None]:
        """Record what is done on behalf of one who acts already."""
        before = self.actor, self.step
        self._local.actor, self._local.step = by, step
        try:
            yield
        finally:
            self._local.actor, self._local.step = before

    @contextmanager
    def _acting(self, began: Began) -> Iterator[None]:
        self.add(began)
        error: BaseException | None = None
        try:
            with self.going_on(began.by, began.step):
                yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            name = type(error).__name__ if error else ""
            self.add(Done(began.by, name, is_refused=isinstance(error, MessageError)))

    def next_call(self) -> int:
        """A number for a call."""
        return next(self._numbers)

    def dump(self) -> Iterator[str]:
        """The history as lines of JSON."""
        for event in self:
            yield json.dumps({"what": type(event).__name__} | _as_json(asdict(event)))

    @classmethod
    def load(cls, lines: Iterable[str]) -> History:
        """The history that `dump` gave."""
        history = cls()
        for line in lines:
            fields = json.loads(line)
            history.add(_KINDS[fields.pop("what")](**_from_json(fields)))
        return history


class RecordingStore(StateStoreWrapper):
    """A state store that appends every write that took place, in the order of the commits: one write at a time."""

    def __init__(self, store: StateStore, history: History, prefix: str = "") -> None:
        super().__init__(store)
        self._history = history
        self._prefix = prefix

    def configure(self, flow: str, request_id: str) -> RecordingStore:
        self._history.know(request_id)
        return type(self)(self._store.configure(flow, request_id), self._history, request_prefix(flow, request_id))

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        return call()

    def set(self, key: str, value: bytes) -> None:
        with self._history.lock:
            self._store.set(key, value)
            self._wrote(key, value)

    def update(self, key: str, old: bytes | None, new: bytes) -> bool:
        with self._history.lock:
            is_done = self._store.update(key, old, new)
            if is_done:
                self._wrote(key, new)
        return is_done

    def delete(self, key: str) -> None:
        with self._history.lock:
            self._store.delete(key)
            self._wrote(key, None)

    def transact(self, ops: Sequence[Op]) -> Outcome:
        with self._history.lock:
            outcome = self._store.transact(ops)
            if outcome.committed:
                for event in writes(ops, self._history, self._prefix):
                    self._history.add(event)
        return outcome

    def cleanup(self) -> None:
        with self._history.lock:
            self._store.cleanup()
            if self._prefix:
                self._history.add(Cleared(_place(self._prefix, self._history)[0], self._history.actor))

    def _wrote(self, key: str, value: bytes | None) -> None:
        request, relative = _place(self._prefix + key, self._history)
        self._history.add(Wrote(request, relative, value, self._history.actor))


def writes(ops: Iterable[Op], history: History, prefix: str = "", by: Actor = None) -> Iterator[Wrote]:
    """What a committed transaction wrote. All of it took effect at once: that a request goes on is told first, so that
    the rest is judged by it; that it ends is told last."""
    actor = history.actor if by is None else by
    found = []
    for op in ops:
        if isinstance(op, Create | Put | Delete):
            request, key = _place(prefix + op.key, history)
            found.append(Wrote(request, key, None if isinstance(op, Delete) else op.value, actor))
    yield from sorted(found, key=_rank)


def _rank(event: Wrote) -> int:
    if event.request == SYSTEM or event.key != "request" or event.value is None:
        return 1
    return 0 if json.loads(event.value).get("ended") is None else 2


class RecordingTransport:
    """A transport that appends every call, its answer, and every message that the queue took."""

    def __init__(self, transport: Transport, history: History) -> None:
        self._transport = transport
        self._history = history

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def function_url(self, name: str) -> str:
        return self._transport.function_url(name)

    def call(self, call: OutgoingCall) -> Response:
        history = self._history
        event = called(call, history, step=history.step, by=history.actor, number=history.next_call())
        self._history.add(event)
        try:
            response = self._transport.call(call)
        except BaseException:
            self._history.add(Answered(event.call, None))
            raise
        self._history.add(Answered(event.call, response.status))
        return response

    def forward(self, messages: Sequence[Forward]) -> None:
        with self._history.lock:
            self._transport.forward(messages)
            for message in messages:
                self._history.add(forwarded(message, self._history.actor))


def forwarded(message: Forward, by: Actor, *, request: str = "") -> Forwarded:
    """The event of a message that was put, from what it asks for."""
    asked = MessageCodec(message.flow, None).decode(message.body, message.request_id, 0.0)
    step = f"{asked.life.incarnation}.{asked.life.run} {asked.step.key} {asked.attempt}"
    return Forwarded(request or message.request_id, by, step)


def called(call: OutgoingCall, history: History, *, step: str, by: Actor, number: int = 0) -> Called:
    """The event of an outgoing call, from what its headers say."""
    headers = {name.lower(): value for name, value in call.headers.items()}
    parent = headers.get("x-faas-flow-parent", "")
    return Called(
        request=history.named_in(parent.partition("/")[2] if parent else headers.get("x-faas-flow-reqid", "")),
        operation=call.function or call.url,
        body_sha256=sha(call.body),
        step=step,
        attempt=int(headers.get("x-faas-flow-attempt", "1")),
        key=headers.get("idempotency-key", ""),
        event=headers.get("x-faas-flow-event-id", ""),
        by=by,
        call=number,
    )


@dataclass(frozen=True, slots=True)
class _Timed:
    at: float
    order: int
    event: Event = field(compare=False)


def from_run(accepted: Iterable[Accepted], function_log: Iterable[str], store: Mapping[str, bytes]) -> History:
    """The history of a real run. The function log has lines of JSON: `at` (seconds), `request` or `parent`
    (`<flow>/<request>`), `function`, `key`, `body_sha256`, and if known `attempt` and `status`. The store's records
    have their own times: each took effect when its step ended."""
    history = History()
    timed: list[_Timed] = []
    for event in accepted:
        history.add(event)
    for number, line in enumerate(function_log, 1):
        timed += _logged(json.loads(line), number, history)
    for key, value in sorted(store.items()):
        request, relative = _place(key, history)
        timed.append(_Timed(*_recorded_at(relative, value), Wrote(request, relative, value)))
    for entry in sorted(timed, key=lambda entry: (entry.at, entry.order)):
        history.add(entry.event)
    return history


def _logged(line: Mapping[str, object], number: int, history: History) -> Iterator[_Timed]:
    request = str(line.get("request") or history.named_in(str(line.get("parent", "")).partition("/")[2]))
    event = Called(
        request=request,
        operation=str(line["function"]),
        body_sha256=str(line["body_sha256"]),
        step=str(line.get("step", "")),
        attempt=int(str(line.get("attempt") or 1)),
        key=str(line.get("key", "")),
        event=str(line.get("event_id", "")),
        call=number,
    )
    yield _Timed(float(str(line["at"])), 3, event)
    if line.get("status"):
        yield _Timed(float(str(line.get("answered", line["at"]))), 3, Answered(number, int(str(line["status"]))))


def _recorded_at(key: str, value: bytes) -> tuple[float, int]:
    """When a record was written, and its place among those of the same moment: the end of a request is last."""
    family = key.partition("/")[0]
    if family not in ("request", "node", "branches", "attempt"):
        return 0.0, 0
    record = json.loads(value)
    return float(record.get("ended") or record.get("created") or 0.0), 2 if family == "request" else 1


def _place(key: str, history: History) -> tuple[str, str]:
    """The request that an absolute key belongs to, and the key within it."""
    _, _, inner = key.split("/", 2)
    if inner.startswith(SYSTEM):
        return SYSTEM, inner
    segment, _, rest = inner.partition("/")
    return history.name_of(segment), rest


def _as_json(fields: dict[str, object]) -> dict[str, object]:
    return {key: {"bytes": value.hex()} if isinstance(value, bytes) else value for key, value in fields.items()}


def _from_json(fields: dict[str, object]) -> dict[str, object]:
    return {key: bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value for key, value in fields.items()}
