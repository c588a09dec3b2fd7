"""A whole life of a flow from one number: random flow, random schedule, random faults, virtual time.

A seed makes a flow, its requests and the faults that they meet. Several engines share stores in memory. All run on one
thread: at each operation of a store another delivery, command or tick may come in between and run to its own end, as
deep as there are workers. The queue loses, doubles, holds back and shuffles messages, and repeats one that is worked on
for long; stores, calls and the queue fail before and after they did what they were asked, or take their time; a store
loses what a request was started with; functions answer errors, late, or for a while not at all, and so do the targets
of callbacks; workers die in the middle, or each time that they call one of the functions, or stand still and go on; the
wall clock jumps, and those of some workers are an hour or a day apart. Once the faults are used up, time passes until
nothing is due, and requests that failed are retried. Then every request must have come to what plain recursion says,
`checker` must find nothing wrong in the history, and after retention nothing may be left.

    python -m tests.battery.simulate --seeds 10000
    python -m tests.battery.simulate --seed 4711
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from faasflow import Flow, Retry
from faasflow.engine.context import Context
from faasflow.engine.engine import Engine
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.operations import ATTEMPT_HEADER
from faasflow.engine.parts import Parts
from faasflow.engine.position import Step
from faasflow.engine.records import AttemptRecord, load
from faasflow.errors import CallTimeoutError, MessageError, NoAnswerError, RequestConflictError, RequestNotFoundError
from faasflow.naming import request_prefix
from faasflow.ports import Entry, Forward, OutgoingCall, Response, StateStore
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing.clock import FakeClock
from faasflow.testing.faults import FlakyDataStore, FlakyStore, FlakyTransport, Operation
from faasflow.testing.wrappers import StateStoreWrapper
from tests.battery.checker import CALLBACK, Expected, Violation, check
from tests.battery.flows import evaluate
from tests.battery.history import (
    Accepted,
    Acknowledged,
    Fault,
    History,
    Jumped,
    RecordingStore,
    RecordingTransport,
)
from tests.battery.simulate_tally import REPEATED, TOLD_AGAIN, tally
from tests.battery.simulate_workers import BEAT, AtWork, Died, Workers
from tests.engine.random_flows import DagSpec, NodeSpec, Written, digest

T = TypeVar("T")

RATES: Mapping[str, tuple[float, ...]] = {
    "lose": (0, 0.05, 0.3),
    "double": (0, 0.05, 0.3),
    "delay": (0, 0.05, 0.2),
    "late": (0, 0.1),
    "state before": (0, 0, 0.02),
    "state after": (0, 0, 0.02),
    "data before": (0, 0, 0.05),
    "data after": (0, 0, 0.05),
    "call before": (0, 0, 0.1),
    "call after": (0, 0, 0.1),
    "forward before": (0, 0, 0.1),
    "forward after": (0, 0, 0.1),
    "error": (0, 0, 0.2),
    "slow": (0, 0.1, 0.3),
    "lag": (0, 0, 0.05),
    "freeze": (0, 0, 0.01),
    "freeze in a call": (0, 0.1),
    "die": (0, 0, 0.01),
    "malformed": (0, 0.05),
    "jump": (0, 0, 0.02),
    "stall": (0, 0, 0.02),
    "pause": (0, 0, 0.05),
    "stop": (0, 0, 0.03),
    "retry": (0, 0.1),
    "cut": (0, 0.1),
    "deadly": (0, 0.1),
    "forget": (0, 0, 0.05),
}
"""How often each kind of fault strikes where it can; a seed picks one of the rates."""

INTERLEAVE, CALLBACKS, DOWN, BROKEN, TIMEOUT, REDRIVE, APART = (
    "interleave",
    "callbacks",
    "targets down",
    "functions down",
    "request timeout",
    "redrive",
    "clocks apart",
)
KINDS = (*RATES, INTERLEAVE, CALLBACKS, DOWN, BROKEN, TIMEOUT, REDRIVE, APART)
IDS = ("1", "10", "a/b", "..", "%2f é")
_KEY = b"a key for the simulation"
_FLOW = "flow"
_NODE_TIMEOUT = 45.0
_DAY = 86400.0
_RETENTION = 2 * _DAY
_LATENESS = 300.0
_REMEMBERED = 8
_GIVES_UP_AFTER = 12 * 3600.0
_TARGET = "http://target/told"
_MOST_STEPS = 20_000
_TICKS = 20
_LOST = ("I1", "I5", "I13")
_DOUBLED = ("I3", "I6", "I7")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a seed stands for. `requests` has bodies by id; `poisoned` the functions that always refuse a request.
    A queue that `redelivers` brings a message again that was not acknowledged, also after `ack_wait` seconds of work on
    it; another one forgets it. The functions that are `broken` answer 503 for `broken_for` seconds, the target of
    callbacks is down for `down_for`; with `timeout` a request has so many seconds. When all is at rest, what failed is
    retried up to `redrives` times; when that `is_calm`, no faults are left for it. The clocks of the workers are
    ahead by `skews`."""

    seed: int
    spec: DagSpec
    requests: Mapping[str, bytes]
    poisoned: Mapping[str, frozenset[str]]
    workers: int
    attempts: int
    inline_limit: int
    redelivers: bool
    ack_wait: float
    has_callback: bool
    down_for: float
    broken: frozenset[str]
    broken_for: float
    timeout: float | None
    redrives: int
    is_calm: bool
    faults: int
    interleave: float
    rates: Mapping[str, float]
    skews: tuple[float, ...]


@dataclass(slots=True)
class Result:
    """What became of a seed. `repairs` are seconds of virtual time from the loss of a message to the delivery of
    another one for its step."""

    seed: int
    requests: int = 0
    violations: list[Violation] = field(default_factory=list)
    repairs: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    exercised: Counter[str] = field(default_factory=Counter)
    history: History | None = None


@dataclass(slots=True)
class Numbers:
    """What became of many seeds: how many requests were lost, doubled, or wrong in another way."""

    seeds: int = 0
    requests: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    repairs: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    exercised: Counter[str] = field(default_factory=Counter)
    failures: list[int] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one seed."""
        self.seeds += 1
        self.requests += result.requests
        self.repairs += result.repairs
        self.faults += result.faults
        self.exercised += result.exercised
        kinds = {(kind_of(wrong), wrong.request) for wrong in result.violations}
        for kind, _ in kinds:
            setattr(self, kind, getattr(self, kind) + 1)
        if kinds:
            self.failures.append(result.seed)

    def add_all(self, other: Numbers) -> None:
        """Count what `other` counted."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    @property
    def p99(self) -> float:
        """The time to repair that all but one of a hundred lost messages stay below."""
        ordered = sorted(self.repairs)
        return ordered[int((len(ordered) - 1) * 0.99)] if ordered else 0.0


def kind_of(wrong: Violation) -> str:
    """What a violation comes to for whoever sent the request."""
    if wrong.invariant in _LOST:
        return "lost"
    return "doubled" if wrong.invariant in _DOUBLED else "wrong"


def plan_of(seed: int, *, nodes: int | None = None) -> Plan:
    """The plan of a seed; of its flow only the first `nodes` nodes, if that is given."""
    chance = random.Random(seed)
    spec = _dag(chance, "n", depth=chance.choice((0, 1, 1, 2)), most=5)
    spec = replace(spec, nodes=spec.nodes[:nodes])
    requests = {id: digest(str(seed).encode(), id.encode()) for id in IDS[: chance.choice((1, 1, 2, 3))]}
    functions = sorted(_functions(spec))
    poisoned = {
        id: frozenset(chance.sample(functions, min(2, len(functions)))) if chance.random() < 0.2 else frozenset()
        for id in requests
    }
    plan = Plan(
        seed=seed,
        spec=spec,
        requests=requests,
        poisoned=poisoned,
        workers=chance.randint(2, 4),
        attempts=chance.choice((2, 1000, 1000, 1000)),
        inline_limit=chance.choice((0, 32 * 1024)),
        redelivers=chance.random() < 0.5,
        ack_wait=chance.choice((10.0, 30.0)),
        has_callback=chance.random() < 0.4,
        down_for=chance.choice((0.0, 0.0, 0.0, 0.0, 100.0, 100.0, 3600.0, 2 * _DAY)),
        broken=frozenset(chance.sample(functions, 1) if functions and chance.random() < 0.2 else ()),
        broken_for=chance.choice((100.0, 2000.0)),
        timeout=chance.choice((None, None, 120.0, 600.0)),
        redrives=chance.choice((0, 1, 2)),
        is_calm=chance.random() < 0.5,
        faults=chance.randint(1, 16),
        interleave=chance.choice((0, 0.02, 0.1)),
        rates={kind: chance.choice(rates) for kind, rates in RATES.items()},
        skews=(),
    )
    skew = chance.choice((0.0, 0.0, 3600.0, -3600.0, _DAY, -_DAY))
    return replace(plan, skews=tuple(chance.choice((0.0, skew)) for _ in range(plan.workers)))


def _dag(chance: random.Random, prefix: str, *, depth: int, most: int) -> DagSpec:
    nodes = []
    for index in range(chance.randint(1, most)):
        uid = f"{prefix}{index}"
        kind = chance.choice(("plain", "plain", "sub", "foreach", "condition")) if depth else "plain"
        count = {"plain": 0, "condition": chance.randint(1, 3)}.get(kind, 1)
        inner = tuple(_dag(chance, f"{uid}.{place}.", depth=depth - 1, most=2) for place in range(count))
        sources = chance.sample(range(index), chance.randint(1, min(3, index))) if index else []
        edges = tuple((source, chance.random() < 0.7, chance.random() < 0.5) for source in sources)
        forward, parallel = chance.random() < 0.75, chance.choice((None, None, 1, 2))
        nodes.append(NodeSpec(uid, kind, inner, edges, forward, chance.randint(0, 7), parallel))
    return DagSpec(tuple(nodes))


def _functions(spec: DagSpec) -> Iterator[str]:
    for node in spec.nodes:
        if node.kind == "plain":
            yield node.uid
        for inner in node.inner:
            yield from _functions(inner)


class Called(Written):
    """The same flow with functions in place of modifiers, handlers for the end, and perhaps a `timeout`."""

    def __init__(self, plan: Plan, timeout: float | None) -> None:
        super().__init__(plan.spec)
        self._plan = plan
        self._timeout = timeout

    def define(self, flow: Flow, context: Any) -> None:
        flow.retry(Retry(attempts=self._plan.attempts, delay=1.0, max_delay=30.0))
        if self._timeout is not None:
            flow.timeout(self._timeout)
        flow.on_failure(lambda error: b"failed")
        flow.finally_(lambda state: None)
        super().define(flow, context)

    def _plain(self, dag: Any, node: NodeSpec, context: Any) -> None:
        dag.node(node.uid, timeout=_NODE_TIMEOUT).apply(node.uid)


class _Forgetting(StateStoreWrapper):
    """A store that does not find some of its keys."""

    def __init__(self, store: StateStore, keys: Collection[str]) -> None:
        super().__init__(store)
        self._forgotten = keys

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        return call()

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        return {key: entry for key, entry in super().read(keys, prefixes).items() if key not in self._forgotten}


class _Outside:
    """The functions, and the queue."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def function_url(self, name: str) -> str:
        return f"http://gateway/function/{name}"

    def call(self, call: OutgoingCall) -> Response:
        return self._simulation.answer(call)

    def forward(self, messages: Sequence[Forward]) -> None:
        for message in messages:
            self._simulation.take(message)


class Simulation:
    """One run of a plan, `without` some kinds of faults. `run` may be called once."""

    def __init__(self, plan: Plan, *, without: Collection[str] = ()) -> None:
        self.plan = plan
        self.history = History()
        self.result = Result(plan.seed, len(plan.requests), history=self.history)
        self._without = frozenset(without)
        self._chances = {kind: random.Random(f"{plan.seed} {kind}") for kind in KINDS}
        self._schedule = random.Random(f"{plan.seed} schedule")
        self._left = plan.faults
        self._steps = 0
        self._clock = FakeClock(tick=0.0)
        self._memory, self._values = MemoryStateStore(), MemoryDataStore()
        self._queue: list[Forward] = []
        self._held: list[tuple[float, Forward]] = []
        self._worked_on: list[tuple[float, Forward]] = []
        self._kept: list[Forward] = []
        self._past: dict[str, list[Forward]] = {id: [] for id in plan.requests}
        self._lost: dict[tuple[str, str], float] = {}
        self._todo = [("start", id) for id in plan.requests]
        self._accepted: dict[str, bool] = {}
        self._poisoned = dict(plan.poisoned)
        self._forgotten: set[str] = set()
        self._deadly: set[tuple[str, str]] = set()
        self._cut: dict[tuple[str, str], tuple[int, int]] = {}
        self._sound: set[str] = set()
        self._broken_for = 0.0 if BROKEN in self._without else plan.broken_for
        self._down_for = 0.0 if DOWN in self._without else plan.down_for
        self._timeout = None if TIMEOUT in self._without else plan.timeout
        self._parts = self._make_parts()
        self._skews = (0.0,) * plan.workers if APART in self._without else plan.skews
        self._workers = Workers(self._parts, self._clock, self.history, self._skews, self._schedule.choice)
        # An engine of nobody, on stores that do not fail.
        self._observer = Engine(replace(self._parts, state=self._memory, data=self._values))

    def run(self) -> Result:
        """Play it to the end, and judge it."""
        self._play()
        for _ in range(0 if REDRIVE in self._without else self.plan.redrives):
            if self._redrive():
                self._play()
        self._left = 0
        self._judge()
        self.result.exercised += tally(self.history)
        self.result.exercised["slow store operations"] = self.result.faults["lag"]
        return self.result

    def _play(self) -> None:
        while self._goes_on():
            self._steps += 1
            if self._steps > _MOST_STEPS:
                self._wrong("I1", "", f"it did not come to rest in {self._steps} steps")
                break
            self._step()

    # Faults

    def _strikes(self, kind: str, *requests: str) -> bool:
        """Whether a fault happens here; it is told of the requests that it meets, or of all."""
        if not self._comes(kind):
            return False
        self._explain(kind, *requests)
        return True

    def _comes(self, kind: str) -> bool:
        """Whether a fault happens here, which explains no call that is repeated."""
        if self._left <= 0 or kind in self._without:
            return False
        if self._chances[kind].random() >= self.plan.rates[kind]:
            return False
        self._left -= 1
        self.result.faults[kind] += 1
        return True

    def _explain(self, kind: str, *requests: str) -> None:
        for request in requests or ("",):
            self.history.add(Fault(kind, request))

    @property
    def _busy(self) -> list[AtWork]:
        return self._workers.busy

    @property
    def _elapsed(self) -> float:
        return self._workers.elapsed

    def _met(self) -> list[str]:
        """The request that is worked on, if it is one."""
        request = self._busy[-1].request if self._busy else ""
        return [request] if request else []

    def _before(self, where: str, operation: Operation) -> bool:
        if where == "state":
            self._interleave()
        self._may_die()
        if self._busy and where in ("state", "data") and not self._busy[-1].is_aside:
            if self._strikes("lag", *self._workers.met):
                self._linger(self._schedule.choice((0.5, 5.0, 30.0, 30.0)))
            if self._strikes("freeze", *self._workers.met):
                self._stand_still()
        return self._strikes(f"{where} before", *self._met())

    def _after(self, where: str, operation: Operation) -> bool:
        self._may_die()
        return self._strikes(f"{where} after", *self._met())

    def _may_die(self) -> None:
        if self._busy and not self._busy[-1].is_aside and self._strikes("die", *self._met()):
            raise Died

    def _interleave(self) -> None:
        """Let something else happen between two operations of whoever is at work."""
        if self._busy and self._workers.free and INTERLEAVE not in self._without:
            while self._chances[INTERLEAVE].random() < self.plan.interleave:
                self._step()

    def _linger(self, seconds: float) -> None:
        """Let time pass for whoever is at work, while others go on. Those that wait for them are held up, and what they
        are about to do may be done by others by then."""
        if held_up := self._busy[:-1]:
            self._explain("held up", *dict.fromkeys(one.request for one in held_up))
        until = self._elapsed + seconds
        while self._elapsed < until:
            self._workers.pass_time(min(BEAT, until - self._elapsed))
            self._come()
            if self._due() == 0.0:
                self._tick()
            for _ in range(len(self._queue)):
                if self._queue and self._workers.free:
                    self._step()

    def _stand_still(self) -> None:
        """Linger without a sign of life."""
        one = self._busy[-1]
        one.is_frozen = True
        try:
            self._linger(self._schedule.choice((10.0, 25.0, 60.0)))
        finally:
            one.is_frozen = False

    def _make_parts(self) -> Parts:
        # The flow is the same for every request; to define it anew for each delivery would take half of the time.
        definition = definer(Called(self.plan, self._timeout).define)(Context(_FLOW, "", ""))

        def both(where: str) -> dict[str, Any]:
            return {
                "before": lambda operation: self._before(where or operation.name, operation),
                "after": lambda operation: self._after(where or operation.name, operation),
            }

        return Parts(
            flow=_FLOW,
            define=lambda context: definition,
            state=FlakyStore(_Forgetting(RecordingStore(self._memory, self.history), self._forgotten), **both("state")),
            data=FlakyDataStore(self._values, **both("data")),
            transport=FlakyTransport(RecordingTransport(_Outside(self), self.history), **both("")),  # type: ignore[arg-type]
            clock=self._clock,
            key=_KEY,
            inline_limit=self.plan.inline_limit,
            retention=_RETENTION,
            chance=self._schedule.random,
        )

    # The outside

    def answer(self, call: OutgoingCall) -> Response:
        """What a function or the target of a callback answers."""
        if call.function is None:
            return self._told(call)
        request, name = self._busy[-1].request, call.function
        self._expect_attempt(self._busy[-1], int(call.headers[ATTEMPT_HEADER]))
        if name in self._poisoned[request]:
            return Response(400, {}, b"poisoned")
        self._may_be_deadly(request, name)
        if name in self.plan.broken and self._elapsed < self._broken_for:
            return Response(503, {}, b"broken")
        if self._strikes("error", request):
            status = self._schedule.choice((500, 503, 429, 504))
            return Response(status, {"Retry-After": "7"} if status in (503, 429) else {}, b"not now")
        if self._comes("slow"):
            self._take_long(call)
        if self._strikes("freeze in a call", *self._workers.met):
            self._linger(BEAT)
            self._stand_still()
        if self._strikes("cut", request):
            one, attempt = self._busy[-1], int(call.headers[ATTEMPT_HEADER])
            self._cut[one.request, one.step] = (attempt, self.result.faults.total())
            raise NoAnswerError(f"The answer of {name!r} got lost.")
        return Response(200, {}, answer_of(name, call.body))

    def _may_be_deadly(self, request: str, name: str) -> None:
        """From now on a function ends the process that calls it for a request, each time; where an attempt is one of
        few, so that this has an end."""
        if self.plan.attempts < 10 and self._comes("deadly"):
            self._deadly.add((request, name))
        if (request, name) in self._deadly:
            self._explain("deadly", request)
            raise Died

    def _expect_attempt(self, one: AtWork, attempt: int) -> None:
        """A call whose answer got lost is followed by one of another attempt, unless something else went wrong."""
        if sum((other.request, other.step) == (one.request, one.step) for other in self._busy) > 1:
            return
        lost, faults = self._cut.pop((one.request, one.step), (0, 0))
        if attempt <= lost and faults == self.result.faults.total():
            self._wrong("I18", one.request, f"a call of {one.step!r} whose answer got lost is repeated and not counted")

    def _take_long(self, call: OutgoingCall) -> None:
        """Answer late. Nobody else makes the call meanwhile, as it is worked on under a lease; when the time of the
        node is over, that is recorded whether the call has ended or not."""
        seconds, faults = self._schedule.choice((5.0, 30.0, 50.0, 100.0)), self.result.faults.total()
        if seconds > call.timeout and self._schedule.random() < 0.5:
            self._linger(call.timeout)
            raise CallTimeoutError(f"{call.function!r} did not answer in time.")
        self._linger(seconds)
        if seconds > _NODE_TIMEOUT and self.result.faults.total() == faults:
            self._expect_timeout(self._busy[-1], int(call.headers[ATTEMPT_HEADER]))

    def _expect_timeout(self, one: AtWork, attempt: int) -> None:
        prefix = request_prefix(_FLOW, one.request)
        records = self._memory.list(f"{prefix}attempt/{one.step}/")
        counted = sum(not load(value, AttemptRecord, key).unsent for key, value in records.items())
        is_recorded = counted >= attempt or bool(self._memory.read([prefix + one.step]))
        if one.step and not self._observer.state(one.request).has_ended and not is_recorded:
            self._wrong("I1", one.request, f"{one.step!r} is over its time, and that is not recorded")

    def _told(self, call: OutgoingCall) -> Response:
        """What the target of a callback answers."""
        if self._elapsed >= self._down_for:
            return Response(204, {}, b"")
        match self._schedule.choice(("late", "away", 500, 404, 302)):
            case "late":
                self._linger(call.timeout)
                raise CallTimeoutError("The target did not answer in time.")
            case "away":
                raise NoAnswerError("There is no target.")
            case int(status):
                return Response(status, {}, b"no")
        raise AssertionError

    def take(self, message: Forward) -> None:
        """What the queue does with a message."""
        request = message.request_id
        self._past[request] = [*self._past[request][-_REMEMBERED:], message]
        if self._strikes("lose", request) or self._forgets(request):
            self._lose(message)
            return
        copies = 2 if self._strikes("double", request) else 1
        for _ in range(copies):
            if self._strikes("delay", request):
                self._hold(message, self._schedule.choice((1.0, 40.0, 600.0, 7200.0)))
            else:
                self._queue.append(message)
        if self._strikes("late", request):
            self._kept.append(message)

    def _forgets(self, request: str) -> bool:
        """Whether the store loses what a request was started with, and the queue its first message."""
        prefix = request_prefix(_FLOW, request)
        if self._memory.keys(prefix + "node/") or self._memory.keys(prefix + "branches/"):
            return False
        if prefix + "input" in self._forgotten or not self._strikes("forget", request):
            return False
        self._forgotten.add(prefix + "input")
        return True

    def _has_forgotten(self, request: str) -> bool:
        return request_prefix(_FLOW, request) + "input" in self._forgotten

    def _hold(self, message: Forward, seconds: float) -> None:
        self._held.append((self._elapsed + seconds, message))

    def _lose(self, message: Forward) -> None:
        step = self._parts.codec.decode(message.body, message.request_id, self._clock.now()).step
        self._lost.setdefault((message.request_id, step.key), self._elapsed)

    # The schedule

    def _goes_on(self) -> bool:
        return bool(self._queue or self._held or self._todo) or self._due() is not None

    def _due(self) -> float | None:
        """In how many seconds the next timer is due."""
        due = self._observer.next_timer()
        return None if due is None else self._workers.seconds_until(due)

    def _step(self) -> None:
        """One thing happens: somebody does something, a fault comes, or time passes."""
        self._disturb()
        if self._todo and (not self._queue or self._schedule.random() < 0.2):
            self._command(*self._todo.pop(self._schedule.randrange(len(self._todo))))
        elif self._queue:
            self._deliver(self._queue.pop(self._schedule.randrange(len(self._queue))))
        elif not self._busy:
            self._wait()

    def _disturb(self) -> None:
        running = [id for id in self._accepted if not self._accepted[id]]
        failed = self._failed() if self._left and self.plan.rates["retry"] else []
        if self._strikes("jump"):
            seconds = self._schedule.choice((-3600.0, 3600.0))
            self._clock.advance(seconds)
            self.history.add(Jumped(seconds))
        if self._strikes("stall"):
            self._wait()
        if running and self._strikes("pause"):
            self._todo.append(("pause", self._schedule.choice(running)))
        if running and self._strikes("stop"):
            self._todo.append(("stop", self._schedule.choice(running)))
        if failed and self._strikes("retry", id := self._schedule.choice(failed)):
            self._todo.append(("retry", id))
        if self._queue and self._strikes("malformed"):
            self._deliver_malformed(self._schedule.choice(self._queue))

    def _wait(self) -> None:
        """Let time pass until something is due, and do that; clocks tick once a second."""
        moments = [at - self._elapsed for at, _ in self._held]
        due = self._due()
        if due is not None:
            moments.append(float(int(due) + 1))
        if not moments:
            return
        self._workers.pass_time(max(0.0, min(moments)))
        self._come()
        if self._due() == 0.0:
            self._tick()

    def _come(self) -> None:
        """Let the queue bring what it held back, and again what has not been acknowledged in time."""
        self._queue += [message for at, message in self._held if at <= self._elapsed]
        self._held = [(at, message) for at, message in self._held if at > self._elapsed]
        again = [message for at, message in self._worked_on if at <= self._elapsed]
        self._queue += again
        self.result.exercised[REPEATED] += len(again)
        wait = self.plan.ack_wait
        self._worked_on = [(at + wait if at <= self._elapsed else at, message) for at, message in self._worked_on]

    def _tick(self) -> None:
        self._workers.work("", lambda engine: engine.tick(), self.history.acting())

    def _failed(self) -> list[str]:
        """The requests that have failed by now."""
        if not (self.plan.attempts < 10 or self._timeout or any(self._poisoned.values())):
            return []
        return [id for id in self._accepted if self._record(id, "request").get("state") == "FAILED"]

    def _redrive(self) -> bool:
        """When all is at rest: have what failed go on, beside late messages of its run before."""
        if self.plan.is_calm:
            self._left = 0
        for id in self._failed():
            if self._schedule.random() < 0.8:
                self._poisoned[id], self._broken_for = frozenset(), 0.0
                self._deadly = {(request, name) for request, name in self._deadly if request != id}
                self._sound |= {id} if self._left == 0 and not self._has_forgotten(id) else set()
            self._todo.append(("retry", id))
            self._queue += self._past[id]
        for id in self._accepted:
            if self._callback_of(id) == "FAILED":
                self._down_for = 0.0
                self.result.exercised[TOLD_AGAIN] += 1
                self._todo.append(("tell again", id))
        return bool(self._todo)

    def _record(self, id: str, key: str) -> dict[str, Any]:
        """What stands in the ledger of a request; nothing if that is nothing."""
        place = request_prefix(_FLOW, id) + key
        entry = self._memory.read([place]).get(place)
        return json.loads(entry.value) if entry else {}

    def _callback_of(self, id: str) -> str:
        """What became of the callback of a request; empty as long as that is not known."""
        names = [name for name in self._record(id, "request").get("closing", ()) if name.startswith(CALLBACK)]
        return str(self._record(id, f"node/{names[0]}").get("state", "")) if names else ""

    def _deliver(self, message: Forward) -> None:
        id = message.request_id
        decoded = self._parts.codec.decode(message.body, id, self._clock.now())
        since = self._lost.pop((id, decoded.step.key), None)
        if since is not None and self._is_missed(id, decoded.step):
            self.result.repairs.append(self._elapsed - since)
        entry = (self._elapsed + self.plan.ack_wait, message)
        self._worked_on += [entry] if self.plan.redelivers else []
        error = self._guarded(id, lambda engine: engine.deliver(id, message.body), self.history.delivery(decoded))
        self._worked_on = [(at, other) for at, other in self._worked_on if other is not message]
        if error == "busy":
            self._queue.append(message)
        elif error and (self.plan.redelivers or self._schedule.random() < 0.5):
            self._hold(message, self._schedule.choice((1.0, 5.0, 20.0)))
        elif error:
            self._lose(message)

    def _is_missed(self, id: str, step: Step) -> bool:
        """Whether a step that comes again was waited for, by a clock that is right and a request that is not paused."""
        if self._has_forgotten(id):
            return False
        if self.result.faults["jump"] or self.result.faults["pause"] or self._observer.state(id).has_ended:
            return False
        prefix = request_prefix(_FLOW, id)
        return not self._memory.read([prefix + step.key, prefix + step.outcome])

    def _guarded(self, id: str, act: Any, event: Any) -> str:
        try:
            return self._workers.work(id, act, event)
        except Exception as error:
            self._wrong("I16", id, f"a delivery raised {type(error).__name__}: {error}")
            return ""

    def _deliver_malformed(self, message: Forward) -> None:
        body, place = message.body, self._schedule.randrange(len(message.body))
        body = body[:place] if self._schedule.random() < 0.5 else _flipped(body, place)
        event = self.history.delivery(None, request=message.request_id, is_forged=True)
        try:
            if self._workers.work(message.request_id, lambda engine: engine.deliver(message.request_id, body), event):
                return
        except MessageError:
            return
        self._wrong("I16", message.request_id, "a message that was altered was not refused")

    def _command(self, command: str, id: str) -> None:
        try:
            error = self._workers.work(id, lambda engine: self._carry_out(engine, command, id), self.history.acting(id))
        except RequestConflictError:
            return
        except Exception as error:
            self._wrong("I1", id, f"{command!r} raised {type(error).__name__}: {error}")
            return
        if error:
            self._todo.append((command, id))
        elif command == "start":
            self._accepted.setdefault(id, False)
            self.history.add(Accepted(id, _FLOW, self.plan.requests[id], self._target))
        elif command == "pause":
            self._todo.append(("resume", id))
        elif command == "stop":
            self._accepted[id] = True
        elif command == "retry":  # as long as it had failed, nobody waited for what was lost
            self._lost = {place: since for place, since in self._lost.items() if place[0] != id}

    def _carry_out(self, engine: Engine, command: str, id: str) -> None:
        if command == "start":
            engine.start(self.plan.requests[id], request_id=id, callback=self._target)
        elif command == "tell again":
            engine.retry(id, node=CALLBACK)
        else:
            state = getattr(engine, command)(id)
            self.history.add(Acknowledged(id, command, str(state)))

    @property
    def _target(self) -> str:
        return _TARGET if self.plan.has_callback and CALLBACKS not in self._without else ""

    # The judgement

    def _expect(self) -> dict[str, Expected]:
        definition = self._observer.definition()
        found = {}
        for id, body in self.plan.requests.items():
            right = evaluate(definition, body, answer_of)
            called = {function for _, function in right.calls}
            may_fail = bool(called & self.plan.poisoned[id]) or self.plan.attempts < 10 or self._timeout is not None
            may_fail = may_fail or self._has_forgotten(id)
            result = None if called & self._poisoned[id] else right.result
            found[id] = replace(right, result=result, may_fail=may_fail)
        return found

    def _judge(self) -> None:
        expected = self._expect()
        for id in self.plan.requests:
            self._judge_end(id, expected[id])
            self._judge_time(id)
            if self._callback_of(id) == "FAILED" and self.plan.down_for < _GIVES_UP_AFTER:
                self._wrong("I13", id, f"its callback was given up, though the target was down {self.plan.down_for} s")
        self._deliver_kept()
        self._workers.pass_time(2 * _RETENTION)
        for _ in range(_TICKS):
            self._workers.pass_time(20.0)
            self._tick()
        self._deliver_kept()
        left = [
            key
            for key in (*self._memory.keys("faasflow/"), *self._values.list("faasflow/"))
            if "$clock" not in key and "$queue" not in key
        ]
        self.result.violations += check(self.history, expected, is_drained=True, left=left)

    def _judge_end(self, id: str, expected: Expected) -> None:
        try:
            answer = self._observer.answer(id)
        except RequestNotFoundError:
            self._wrong("I1", id, "nothing is known of it")
            return
        possible = {RequestState.FAILED} if expected.result is None else {RequestState.FINISHED}
        if self._accepted.get(id):
            possible.add(RequestState.STOPPED)
        if expected.may_fail and id not in self._sound:
            possible.add(RequestState.FAILED)
        if answer.state not in possible:
            reason = f" ({answer.failure.error_type}: {answer.failure.message})" if answer.failure else ""
            self._wrong("I1", id, f"it came to be {answer.state}{reason}")
        elif answer.state is RequestState.FINISHED and answer.body != expected.result:
            self._wrong("I4", id, f"its result is {answer.body!r}, not {expected.result!r}")

    def _judge_time(self, id: str) -> None:
        """Whether a request with a timeout ended by it. A fault may hold the clock up for a while."""
        record = self._record(id, "request")
        if self.result.faults["jump"] or not record.get("deadline") or not record.get("ended"):
            return
        late = record["ended"] - record["deadline"]
        spread = max(self._skews) - min(self._skews)  # who has just come records by its own clock for a moment
        if late > _LATENESS + spread + 60.0 * self.result.faults.total():
            self._wrong("I1", id, f"it ended {late:.0f} s after its time was over")

    def _deliver_kept(self) -> None:
        """Copies that come when all is over."""
        for message in self._kept:
            self._deliver(message)
        while self._queue:
            self._deliver(self._queue.pop())

    def _wrong(self, invariant: str, request: str, text: str) -> None:
        self.result.violations.append(Violation(invariant, request, text))


def answer_of(name: str, body: bytes) -> bytes:
    """What a function makes of a body."""
    return digest(name.encode(), body)


def _flipped(body: bytes, place: int) -> bytes:
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


def simulate(seed: int, *, without: Collection[str] = (), nodes: int | None = None) -> Result:
    """Play one seed, without some kinds of faults, or with a smaller flow."""
    state = random.getstate()
    random.seed(seed)  # the engine shuffles what is due
    try:
        with _quiet():
            return Simulation(plan_of(seed, nodes=nodes), without=without).run()
    finally:
        random.setstate(state)


def run_seeds(first: int, count: int, *, jobs: int = 1) -> Numbers:
    """Play the seeds from `first` on, shared by `jobs` processes."""
    numbers = Numbers()
    if jobs == 1:
        for seed in range(first, first + count):
            numbers.add(simulate(seed))
        return numbers
    size = max(1, min(500, count // jobs))
    firsts = range(first, first + count, size)
    counts = [min(size, first + count - begin) for begin in firsts]
    with ProcessPoolExecutor(jobs) as pool:
        for done in pool.map(run_seeds, firsts, counts):
            numbers.add_all(done)
    return numbers


def shrink(seed: int) -> tuple[frozenset[str], int | None]:
    """The kinds of faults that a failing seed fails without, and with how few nodes it still does."""
    without: frozenset[str] = frozenset()
    for kind in KINDS:
        if simulate(seed, without=without | {kind}).violations:
            without |= {kind}
    for nodes in range(1, len(plan_of(seed).spec.nodes)):
        if simulate(seed, without=without, nodes=nodes).violations:
            return without, nodes
    return without, None


def command(seed: int, without: Iterable[str] = (), nodes: int | None = None) -> str:
    """What plays a seed alone."""
    told = f"python -m tests.battery.simulate --seed {seed}"
    if nodes is not None:
        told += f" --nodes {nodes}"
    return told + "".join(f" --without '{kind}'" for kind in sorted(without))


def explain(seed: int) -> str:
    """What was wrong with a seed, and how to see it alone, made as small as it can be."""
    found = "\n".join(map(str, simulate(seed).violations))
    return f"Seed {seed}:\n{found}\nAgain: {command(seed)}\nSmallest: {command(seed, *shrink(seed))}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Faults are logged as warnings, thousands of times."""
    logger = logging.getLogger("faasflow")
    before, logger.disabled = logger.level, False
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play one seed and tell its history, or play many and tell the numbers."""
    parser = argparse.ArgumentParser(prog="python -m tests.battery.simulate", description="Simulate lives of flows.")
    parser.add_argument("--seed", type=int, help="play this one alone, and print its history")
    parser.add_argument("--without", action="append", default=[], choices=KINDS, help="a kind of fault to leave out")
    parser.add_argument("--nodes", type=int, help="only so many nodes of the flow")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        return _play_alone(simulate(chosen.seed, without=chosen.without, nodes=chosen.nodes))
    began = time.perf_counter()
    numbers = run_seeds(chosen.first, chosen.seeds, jobs=chosen.jobs)
    seconds = time.perf_counter() - began
    shown = {name: getattr(numbers, name) for name in ("seeds", "requests", "lost", "doubled", "wrong")}
    print(
        json.dumps(
            {
                **shown,
                "p99": numbers.p99,
                "seconds": round(seconds, 1),
                "faults": numbers.faults,
                "exercised": numbers.exercised,
            }
        )
    )
    for seed in numbers.failures[:5]:
        print(explain(seed), file=sys.stderr)
    return int(bool(numbers.failures))


def _play_alone(result: Result) -> int:
    for line in result.history.dump() if result.history else ():
        print(line)
    for wrong in result.violations:
        print(wrong, file=sys.stderr)
    return int(bool(result.violations))


if __name__ == "__main__":
    sys.exit(main())
