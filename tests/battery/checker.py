"""Says what was wrong in a history, by the invariants I1 to I17 and I22 of the engine.

`check` reads a whole history. A `Monitor` reads it event by event and remembers only what later events are judged by,
as a value that can be copied and compared: an exploration that merges equal states keeps one beside each state, and
so judges every path, not only the first that led to a state.

I1 no accepted request is lost · I2 one end, and nothing after it · I3 one record for each step and attempt, never
changed · I4 nothing is computed from other than all recorded predecessors · I5 what can start does start · I6 no call
more often than faults explain, none for a recorded step · I7 one idempotency key for each step and attempt · I8 no
step before its predecessors are recorded · I9 nothing starts while paused · I10 nothing starts once stopped, and what
runs after the end is recorded once · I11 no request touches the keys of another · I12 nothing is left after retention ·
I13 a callback is delivered under one event id, or recorded as failed · I14 one definition for each request · I15 I2 to
I5 hold when the clock jumps · I16 a refused message changes nothing · I17 doubles put no step more than once (how often
the clock does, `flood` counts) · I22 nothing of a removed request changes a later one with the same id.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import msgspec

from faasflow.naming import escape
from tests.battery.history import (
    SYSTEM,
    Accepted,
    Acknowledged,
    Actor,
    Answered,
    Began,
    Called,
    Cleared,
    Done,
    Event,
    Fault,
    Forwarded,
    Jumped,
    Wrote,
    sha,
)

REQUEST = "request"
CALLBACK = "$callback"
_ENDS = ("FINISHED", "FAILED", "STOPPED")
_CREATED_ONCE = ("input", "node", "branches", "attempt")


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold: its name, what happened to which request, and the events that show it."""

    invariant: str
    request: str
    text: str
    events: tuple[int, ...] = ()

    def __str__(self) -> str:
        numbers = [str(number) for number in self.events if number >= 0]
        events = f" (events {', '.join(numbers)})" if numbers else ""
        return f"{self.invariant}: request {self.request!r}: {self.text}{events}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a request must come to, computed without the engine.

    `calls` has the bodies (SHA-256) of the calls by step and operation; `results` the results (SHA-256) by the key of
    their record; `needs` the keys of the records that must be there before a step starts; `once` the steps that may
    run at most once whatever strikes. `may_fail` allows an end that is not FINISHED.
    """

    result: bytes | None = None
    calls: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    once: frozenset[str] = frozenset()
    may_fail: bool = False


def check(
    history: Iterable[Event],
    expected: Mapping[str, Expected] | None = None,
    *,
    is_drained: bool = False,
    faults: int = 0,
    left: Iterable[str] = (),
) -> list[Violation]:
    """Every violation in `history`.

    `is_drained` says that faults have stopped, nothing is queued and nothing is due: what has not happened by now never
    will. `faults` counts those that the history does not name. `left` has the absolute keys that the stores still hold,
    where all requests that ended are past their retention.
    """
    monitor = Monitor(expected or {}, faults=faults)
    found = [violation for number, event in enumerate(history) for violation in monitor.see(event, number)]
    if is_drained:
        found += monitor.drained()
    return found + monitor.left(left)


class _Delivery:
    """Who is at work. `while_paused`, `while_ended` and `while_recorded` say what was so when it began and is still,
    `while_over` whether the run of its message was over when it began, `while_removed` whether its request was removed
    and another one had its id; `has_told` whether a callback of its was taken."""

    __slots__ = (
        "has_told",
        "incarnation",
        "is_forged",
        "request",
        "run",
        "step",
        "while_ended",
        "while_over",
        "while_paused",
        "while_recorded",
        "while_removed",
    )

    def __init__(self, event: Began, request: _Request) -> None:
        self.request = event.request
        self.step = event.step
        self.is_forged = event.is_forged
        self.while_paused = request.state == "PAUSED"
        self.while_ended = request.state in _ENDS
        self.while_recorded = event.step in request.keys
        self.run = event.run
        self.incarnation = event.incarnation or request.incarnation
        self.while_removed = _is_earlier(self.incarnation, request)
        self.while_over = bool(event.step) and event.run < request.run
        self.has_told = False

    def key(self) -> Hashable:
        began = self.while_paused, self.while_ended, self.while_recorded, self.while_over, self.while_removed
        return self.request, self.step, self.is_forged, began, self.run, self.has_told, self.incarnation


class _Request:
    """What is remembered of a request. `keys` has the live keys, with the number of the event that wrote each."""

    def __init__(self) -> None:
        self.accepted = False
        self.callback = ""
        self.state = ""
        self.ended = ""
        self.fingerprint = ""
        self.closing: tuple[str, ...] = ()
        self.keys: dict[str, int] = {}
        self.calls: dict[tuple[str, str, int], int] = {}
        self.idempotency: dict[str, tuple[str, str, int]] = {}
        self.events: frozenset[str] = frozenset()
        self.is_delivered = False
        self.faults = 0
        self.run = 0
        self.incarnation = ""
        self.redriven = False
        self.is_marked = False
        self.is_cleared = False
        self.doubled: frozenset[str] = frozenset()

    def copy(self) -> _Request:
        other = copy(self)
        other.keys, other.calls, other.idempotency = self.keys.copy(), self.calls.copy(), self.idempotency.copy()
        return other

    def key(self) -> Hashable:
        plain = (self.accepted, self.state, self.ended, self.fingerprint, self.closing, self.faults, self.redriven)
        told = (
            self.callback,
            self.events,
            self.is_delivered,
            self.is_marked,
            self.is_cleared,
            self.run,
            self.incarnation,
            self.doubled,
        )
        return plain, told, frozenset(self.keys), frozenset(self.calls.items()), frozenset(self.idempotency.items())


class Monitor:
    """Judges events one by one. `key` is equal for two monitors that will judge all that may follow alike."""

    def __init__(self, expected: Mapping[str, Expected], *, faults: int = 0) -> None:
        self._expected = expected
        self._faults = faults
        self._requests: dict[str, _Request] = {}
        self._deliveries: dict[Actor, _Delivery] = {}
        self._callbacks: dict[int, tuple[str, Actor]] = {}
        self._system: dict[str, int] = {}
        self._jumped = False

    def copy(self) -> Monitor:
        """One that goes its own way from here."""
        other = copy(self)
        other._requests = {name: request.copy() for name, request in self._requests.items()}
        other._deliveries = {by: copy(delivery) for by, delivery in self._deliveries.items()}
        other._callbacks, other._system = self._callbacks.copy(), self._system.copy()
        return other

    def key(self) -> Hashable:
        """All that is remembered, without the numbers of events."""
        requests = frozenset((name, request.key()) for name, request in self._requests.items())
        deliveries = frozenset((by, delivery.key()) for by, delivery in self._deliveries.items())
        system = frozenset(self._system)
        return requests, deliveries, frozenset(self._callbacks.items()), system, self._faults, self._jumped

    def renamed(self, names: Mapping[Actor, Actor]) -> Monitor:
        """The same, with those who act under other names."""
        other = self.copy()
        other._deliveries = {names.get(by, by): delivery for by, delivery in self._deliveries.items()}
        other._callbacks = {call: (request, names.get(by, by)) for call, (request, by) in self._callbacks.items()}
        return other

    def delivery_key(self, by: Actor) -> str:
        """What is remembered of one who acts, as text that can be ordered."""
        delivery = self._deliveries.get(by)
        return repr(delivery.key()) if delivery else ""

    def has_ended(self, request: str) -> bool:
        """Whether a request has ended, and all that runs after its end is recorded."""
        found = self._request(request)
        return found.state in _ENDS and all(f"node/{step}" in found.keys for step in found.closing)

    def is_removed(self, request: str) -> bool:
        """Whether a request was removed and no other one has its id."""
        return self._request(request).is_cleared

    def see(self, event: Event, number: int = -1) -> list[Violation]:
        """Take `event` in; what is wrong about it. Without a `number` violations name no events."""
        found = list(self._judge(event, number))
        if self._jumped:
            found += [
                Violation("I15", wrong.request, f"after a jump of the clock, {wrong.text}", wrong.events)
                for wrong in found
                if wrong.invariant in ("I2", "I3", "I4", "I5")
            ]
        return found

    def drained(self) -> list[Violation]:
        """What has not happened and should have, where nothing is left to happen."""
        return [wrong for name, request in self._requests.items() for wrong in self._unfinished(name, request)]

    def left(self, keys: Iterable[str] = ()) -> list[Violation]:
        """What was left of requests whose retention is over: `keys` in the stores, and what the history shows."""
        found = [Violation("I12", "", f"the key {key!r} is left after retention") for key in keys]
        for name, request in self._requests.items():
            if request.is_cleared and request.keys:
                some = sorted(request.keys)
                text = f"{len(some)} keys were written after its removal, the first is {some[0]!r}"
                found.append(Violation("I12", name, text, tuple(sorted(request.keys.values()))))
            if request.is_cleared:
                found += [
                    Violation("I12", name, f"{key!r} is left after its removal", (seen,))
                    for key, seen in self._system.items()
                    if _names_request(key, name)
                ]
        return found

    def _judge(self, event: Event, number: int) -> Iterator[Violation]:
        match event:
            case Accepted():
                request = self._request(event.request)
                request.accepted, request.callback = True, event.callback
            case Began():
                self._deliveries[event.by] = _Delivery(event, self._request(event.request))
            case Done():
                delivery = self._deliveries.pop(event.by, None)
                if delivery and delivery.is_forged and not event.is_refused:
                    text = f"a forged message for {delivery.step!r} was not refused"
                    yield Violation("I16", delivery.request, text, (number,))
            case Called():
                yield from self._called(event, number)
            case Answered(call, status):
                self._called_back_to(call, status)
            case Wrote() if event.request == SYSTEM:
                _set(self._system, event.key, event.value, number)
            case Wrote():
                yield from self._wrote(event, number)
            case Cleared(request=name):
                request = self._request(name)
                request.keys.clear()
                request.is_cleared = True
            case Forwarded():
                yield from self._started(event, "a message was forwarded", number)
                yield from self._doubled(event, number)
            case Acknowledged(command="retry", state=state, request=name) if state:
                self._request(name).redriven = False
            case Acknowledged() | Answered():
                pass
            case Fault(request=name):
                self._add_fault(name)
            case Jumped():
                self._jumped = True

    def _request(self, name: str) -> _Request:
        found = self._requests.get(name)
        if found is None:
            found = _Request()
            if name:
                self._requests[name] = found
        return found

    def _add_fault(self, name: str) -> None:
        if name:
            self._request(name).faults += 1
        else:
            self._faults += 1

    def _called(self, event: Called, number: int) -> Iterator[Violation]:
        request = self._request(event.request)
        delivery = self._deliveries.get(event.by)
        if event.event:
            yield from self._called_back(event, request, number)
            return
        what = f"{event.step or event.operation!r} called {event.operation!r}"
        yield from self._started(event, what, number)
        if request.is_marked or request.is_cleared or self._is_of_earlier(event.by):
            return  # a call that was about to be made when its request was removed says nothing of the later one
        if delivery is not None and delivery.while_recorded:
            recorded = request.keys.get(event.step, number)
            yield Violation("I6", event.request, f"{what} though it was recorded before", (recorded, number))
        yield from self._as_expected(event, what, number)
        yield from self._bounded(event, request, what, number)
        yield from self._key_is_stable(event, request, what, number)

    def _called_back(self, event: Called, request: _Request, number: int) -> Iterator[Violation]:
        request.events |= {event.event}
        self._callbacks[event.call] = event.request, event.by
        if len(request.events) > 1 + request.run:  # each end has one
            yield Violation("I13", event.request, "its callback was sent under a second event id", (number,))

    def _called_back_to(self, call: int, status: int | None) -> None:
        request, by = self._callbacks.pop(call, ("", None))
        if request and status is not None and 200 <= status < 300:
            self._request(request).is_delivered = True
            if by in self._deliveries:
                self._deliveries[by].has_told = True

    def _started(self, event: Called | Forwarded, what: str, number: int) -> Iterator[Violation]:
        """What is wrong about something that starts or goes on, by who does it."""
        delivery = self._deliveries.get(event.by)
        if delivery is None:
            return
        if delivery.is_forged:
            yield Violation("I16", event.request, f"{what} for a message that must be refused", (number,))
        if delivery.request != event.request:
            if delivery.request:
                text = f"{what} by who works for {delivery.request!r}"
                yield Violation("I11", event.request, text, (number,))
            return
        if delivery.while_removed:
            yield Violation("I22", event.request, f"{what} for a message of an earlier request", (number,))
        if delivery.while_over:
            yield Violation("I2", event.request, f"{what} for a message of the run before", (number,))
        if delivery.while_paused:
            yield Violation("I9", event.request, f"{what} by who began after the pause", (number,))
        if delivery.while_ended and not _is_closing(delivery, event):
            state = self._request(event.request).state
            name = "I10" if state == "STOPPED" else "I2"
            yield Violation(name, event.request, f"{what} by who began after it was {state}", (number,))

    def _doubled(self, event: Forwarded, number: int) -> Iterator[Violation]:
        """What is wrong about a message that was put by who was delivered a step that was recorded before."""
        delivery, request = self._deliveries.get(event.by), self._request(event.request)
        if delivery is None or not delivery.while_recorded or not event.step:
            return
        if event.step in request.doubled:
            yield Violation("I17", event.request, f"{event.step!r} was put by a second double", (number,))
        request.doubled |= {event.step}

    def _is_of_earlier(self, by: Actor) -> bool:
        """Whether somebody works for a removed request after a later one with its id began."""
        delivery = self._deliveries.get(by)
        return delivery is not None and _is_earlier(delivery.incarnation, self._request(delivery.request))

    def _as_expected(self, event: Called, what: str, number: int) -> Iterator[Violation]:
        expected = self._expected.get(event.request)
        if expected is None or not event.step:
            return
        bodies = expected.calls.get((event.step, event.operation))
        if bodies is None:
            yield Violation("I4", event.request, f"{what}, which was never to run", (number,))
        elif event.body_sha256 not in bodies:
            text = f"{what} with something other than the results of its predecessors"
            yield Violation("I4", event.request, text, (number,))
        yield from self._in_order(event.request, event.step, what, number)

    def _in_order(self, name: str, step: str, what: str, number: int) -> Iterator[Violation]:
        expected = self._expected.get(name)
        needs = expected.needs.get(step, ()) if expected else ()
        missing = [key for key in needs if key not in self._request(name).keys]
        if missing:
            yield Violation("I8", name, f"{what} before {missing[0]!r} was recorded", (number,))

    def _bounded(self, event: Called, request: _Request, what: str, number: int) -> Iterator[Violation]:
        identity = _identity(event)
        if not identity[0]:  # neither step nor key is known
            return
        count = request.calls[identity] = request.calls.get(identity, 0) + 1
        faults = 0 if self._is_once(event) else self._faults + request.faults
        allowed = self._usual(event) * (1 + faults)
        if count > allowed:
            text = f"{what} {count} times in attempt {event.attempt}; {faults} faults explain {allowed}"
            yield Violation("I6", event.request, text, (number,))

    def _is_once(self, event: Called) -> bool:
        return event.request in self._expected and event.step in self._expected[event.request].once

    def _usual(self, event: Called) -> int:
        """How often the call is made without faults: more than once where a node names a function several times."""
        expected = self._expected.get(event.request)
        return max(1, len(expected.calls.get((event.step, event.operation), ()))) if expected else 1

    def _key_is_stable(self, event: Called, request: _Request, what: str, number: int) -> Iterator[Violation]:
        if not event.step or not event.key:
            return
        identity = _identity(event)
        owner = request.idempotency.setdefault(event.key, identity)
        if owner[:2] != identity[:2]:
            text = f"{what} with the idempotency key of {owner[0]!r}"
            yield Violation("I7", event.request, text, (number,))
        if sum(other == identity for other in request.idempotency.values()) > self._usual(event):
            text = f"{what} with another idempotency key in the same attempt"
            yield Violation("I7", event.request, text, (number,))

    def _wrote(self, event: Wrote, number: int) -> Iterator[Violation]:
        if event.key == REQUEST and event.value is not None and self._request(event.request).is_cleared:
            self._requests[event.request] = _Request()  # a new request with the id of a removed one
        request = self._request(event.request)
        what = f"{event.key!r} was {'removed' if event.value is None else 'written'}"
        family = event.key.partition("/")[0]
        yield from self._owned(event, what, number)
        if event.value is None:
            yield from self._removed(event, request, family, number)
            return
        if family in _CREATED_ONCE and event.key in request.keys:
            text = f"{event.key!r} was written again"
            yield Violation("I3", event.request, text, (request.keys[event.key], number))
        if family == REQUEST:
            yield from self._changed(event, request, number)
        elif request.state in _ENDS and not _may_follow_end(event.key):
            text = f"{what} after it was {request.state}"
            yield Violation("I2", event.request, text, (request.keys.get(REQUEST, number), number))
        if family in ("node", "branches"):
            yield from self._recorded(event, what, number)
        request.keys[event.key] = number

    def _owned(self, event: Wrote, what: str, number: int) -> Iterator[Violation]:
        delivery = self._deliveries.get(event.by)
        if delivery is None:
            return
        if delivery.is_forged:
            yield Violation("I16", event.request, f"{what} for a message that must be refused", (number,))
        if delivery.request and delivery.request != event.request:
            yield Violation("I11", event.request, f"{what} by who works for {delivery.request!r}", (number,))
        if delivery.request == event.request and self._is_of_earlier(event.by):
            yield Violation("I22", event.request, f"{what} by who works for an earlier request", (number,))
        is_outcome = event.key.partition("/")[0] in ("node", "branches", "attempt")
        if not is_outcome or delivery.request != event.request:
            return
        if delivery.while_paused:
            yield Violation("I9", event.request, f"{what} by who began after the pause", (number,))
        run = self._request(event.request).run
        if delivery.step and delivery.run < run and "$" not in event.key and event.value is not None:
            yield Violation("I2", event.request, f"{what} by who worked for the run before", (number,))
        if _is_told(event) and not delivery.has_told:
            text = f"{what} as delivered by who was not told that it was taken"
            yield Violation("I13", event.request, text, (number,))

    def _removed(self, event: Wrote, request: _Request, family: str, number: int) -> Iterator[Violation]:
        known = request.keys.pop(event.key, None)
        if known is None:
            return
        if family in _CREATED_ONCE and request.state not in _ENDS and not request.redriven:
            yield Violation("I3", event.request, f"{event.key!r} was removed before the end", (known, number))
        if event.key == REQUEST:
            request.is_cleared = True

    def _changed(self, event: Wrote, request: _Request, number: int) -> Iterator[Violation]:
        record = msgspec.json.decode(event.value or b"")
        before, state = request.state, record["state"]
        if request.fingerprint not in ("", record["fingerprint"]):
            yield Violation("I14", event.request, "its definition was exchanged", (number,))
        if before in _ENDS and state != before:
            if before == "FAILED" and state == "RUNNING":
                self._redriven(request)
            else:
                yield Violation("I2", event.request, f"it was {before} and became {state}", (number,))
        request.state, request.fingerprint, request.run = state, record["fingerprint"], record.get("run", 0)
        request.closing = tuple(record.get("closing", ()))
        request.is_marked = record.get("is_removed", False)
        if before == "":
            self._incarnated(event, request, record)
        for delivery in self._deliveries.values():
            if delivery.request == event.request:
                delivery.while_paused &= state == "PAUSED"
                delivery.while_ended &= state in _ENDS
        if state in _ENDS and state != before:
            yield from self._ended_right(event, record, number)

    def _incarnated(self, event: Wrote, request: _Request, record: Mapping[str, Any]) -> None:
        request.incarnation = record.get("incarnation", "")
        delivery = self._deliveries.get(event.by)
        if delivery is not None and not delivery.step:
            delivery.incarnation = request.incarnation  # whoever starts a request works for that one

    def _redriven(self, request: _Request) -> None:
        request.redriven = True
        request.faults += 1  # what was under way for the run before may be done again
        for delivery in self._deliveries.values():
            delivery.while_recorded = False

    def _ended_right(self, event: Wrote, record: Mapping[str, Any], number: int) -> Iterator[Violation]:
        expected = self._expected.get(event.request)
        if expected is None:
            return
        if record["state"] == "FAILED" and not expected.may_fail:
            failure = record.get("failure") or {}
            text = f"it failed, which it had no reason to: {failure.get('error_type')}: {failure.get('message')}"
            yield Violation("I1", event.request, text, (number,))
        if record["state"] != "FINISHED":
            return
        if expected.result is not None and payload_sha(record.get("result") or {}) != sha(expected.result):
            yield Violation("I4", event.request, "it finished with a wrong result", (number,))

    def _recorded(self, event: Wrote, what: str, number: int) -> Iterator[Violation]:
        expected = self._expected.get(event.request)
        if expected is None or event.key.startswith("node/$"):
            return
        record = msgspec.json.decode(event.value or b"")
        yield from self._in_order(event.request, event.key, what, number)
        if record.get("state") != "FINISHED" or not expected.results:
            return
        wanted = expected.results.get(event.key)
        if wanted is None:
            yield Violation("I4", event.request, f"{what}, which was never to run", (number,))
        elif payload_sha(record.get("result") or {}) != wanted:
            text = f"{what} with a result that does not follow from its predecessors"
            yield Violation("I4", event.request, text, (number,))

    def _unfinished(self, name: str, request: _Request) -> Iterator[Violation]:
        if request.is_marked or request.is_cleared:
            return
        if request.accepted and request.state not in _ENDS:
            yield Violation("I1", name, f"it was accepted and is {request.state or 'not known'}; nothing goes on")
            yield from self._could_start(name, request)
        expected = self._expected.get(name)
        if request.state == "FINISHED" and expected:
            for key in expected.results:
                if key not in request.keys:
                    yield Violation("I5", name, f"it finished without {key!r}", (request.keys[REQUEST],))
        for step in request.closing:
            if f"node/{step}" not in request.keys:
                invariant = "I13" if step.startswith(CALLBACK) else "I10"
                yield Violation(invariant, name, f"it is {request.state}, and {step!r} never ran")
        is_told = request.is_delivered or any(key.startswith(f"node/{CALLBACK}") for key in request.keys)
        if request.callback and request.state in _ENDS and not is_told:
            yield Violation("I13", name, "its callback was not delivered, nor recorded as failed")

    def _could_start(self, name: str, request: _Request) -> Iterator[Violation]:
        expected = self._expected.get(name)
        for step, needs in expected.needs.items() if expected and request.state == "RUNNING" else ():
            if needs and step not in request.keys and all(key in request.keys for key in needs):
                text = f"{step!r} never ran, though all that it needs was recorded"
                yield Violation("I5", name, text, tuple(request.keys[key] for key in needs))


def payload_sha(payload: Mapping[str, Any]) -> str:
    """The SHA-256 of the value that a record holds or refers to."""
    if "ref" in payload:
        return str(payload["sha256"])
    if "text" in payload:
        return sha(payload["text"].encode())
    return sha(base64.b64decode(payload.get("base64", "")))


def _is_earlier(incarnation: str, request: _Request) -> bool:
    return bool(incarnation and request.incarnation) and incarnation != request.incarnation


def _is_told(event: Wrote) -> bool:
    """Whether it was recorded that a callback was delivered."""
    if not event.key.startswith(f"node/{CALLBACK}") or event.value is None:
        return False
    return bool(msgspec.json.decode(event.value)["state"] == "FINISHED")


def _identity(event: Called) -> tuple[str, str, int]:
    return event.step or event.key, event.operation, event.attempt


def _is_closing(delivery: _Delivery, event: Called | Forwarded) -> bool:
    """What may be done for a request that has ended: run and forward what comes after the end."""
    return isinstance(event, Forwarded) or "$" in delivery.step


def _may_follow_end(key: str) -> bool:
    """Whether a key may be written after the end: by what runs after it (no other name has a `$`), or by who was still
    at work. Arrivals, leases and values that a handler stores decide nothing once the request has ended."""
    return "$" in key or key.partition("/")[0] in ("arrived", "lease", "start", "data", "incarnation")


def _set(keys: dict[str, int], key: str, value: bytes | None, number: int) -> None:
    if value is None:
        keys.pop(key, None)
    else:
        keys[key] = number


def _names_request(key: str, request: str) -> bool:
    """Whether a key of the flow (`$family/<time>`, then the request's escaped id) is about `request`."""
    found = re.match(r"\$[^/]+/\d+[-/]([^/]*)", key)
    return found is not None and found[1] == escape(request)
