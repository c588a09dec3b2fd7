"""A whole life of a flow from one number: random flow, random schedule, random faults, virtual time.

A seed makes a flow, its requests and the faults that they meet. Several engines share stores in memory. All run on one
thread: at each operation of a store another delivery, command or tick may come in between and run to its own end, as
deep as there are workers. The queue loses, doubles, holds back and shuffles messages; stores, calls and the queue fail
before and after they did what they were asked; functions answer errors or late; workers die in the middle; the wall
clock jumps. Once the faults are used up, time passes until nothing is due. Then every request must have come to what
plain recursion says, `checker` must find nothing wrong in the history, and after retention nothing may be left.

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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from faasflow import Flow, Retry
from faasflow.engine.context import Context
from faasflow.engine.engine import Engine
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.parts import Parts
from faasflow.engine.position import Step
from faasflow.errors import (
    ForwardError,
    MessageError,
    RequestConflictError,
    StoreUnavailableError,
    TryAgainError,
)
from faasflow.naming import request_prefix
from faasflow.ports import Forward, OutgoingCall, Response
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing.clock import FakeClock
from faasflow.testing.faults import FlakyDataStore, FlakyStore, FlakyTransport, Operation
from tests.battery.checker import Expected, Violation, check
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
from tests.engine.random_flows import DagSpec, NodeSpec, Written, digest

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
    "slow": (0, 0, 0.1),
    "die": (0, 0, 0.01),
    "malformed": (0, 0.05),
    "jump": (0, 0, 0.02),
    "stall": (0, 0, 0.02),
    "pause": (0, 0, 0.05),
    "stop": (0, 0, 0.03),
}
"""How often each kind of fault strikes where it can; a seed picks one of the rates."""

INTERLEAVE = "interleave"
KINDS = (*RATES, INTERLEAVE)
IDS = ("1", "10", "a/b", "..", "%2f é")
_KEY = b"a key for the simulation"
_FLOW = "flow"
_NODE_TIMEOUT = 45.0
_DAY = 86400.0
_MOST_STEPS = 20_000
_AGAIN = (TryAgainError, StoreUnavailableError, ForwardError)
_LOST = ("I1", "I5", "I13")
_DOUBLED = ("I3", "I6", "I7")


class Died(BaseException):
    """A worker's process ends here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a seed stands for. `requests` has bodies by id; `poisoned` the functions that always refuse a request.
    A queue that `redelivers` brings a message again that was not acknowledged; another one forgets it."""

    seed: int
    spec: DagSpec
    requests: Mapping[str, bytes]
    poisoned: Mapping[str, frozenset[str]]
    workers: int
    attempts: int
    inline_limit: int
    redelivers: bool
    faults: int
    interleave: float
    rates: Mapping[str, float]


@dataclass(slots=True)
class Result:
    """What became of a seed. `repairs` are seconds of virtual time from the loss of a message to the delivery of
    another one for its step."""

    seed: int
    requests: int = 0
    violations: list[Violation] = field(default_factory=list)
    repairs: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
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
    failures: list[int] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one seed."""
        self.seeds += 1
        self.requests += result.requests
        self.repairs += result.repairs
        self.faults += result.faults
        kinds = {(kind_of(wrong), wrong.request) for wrong in result.violations}
        for kind, _ in kinds:
            setattr(self, kind, getattr(self, kind) + 1)
        if kinds:
            self.failures.append(result.seed)

    def add_all(self, other: Numbers) -> None:
        """Count what `other` counted."""
        for name in ("seeds", "requests", "lost", "doubled", "wrong", "repairs", "faults", "failures"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def p99(self) -> float:
        """The time to repair that all but one of a hundred lost messages stay below."""
        ordered = sorted(self.repairs)
        return ordered[int(len(ordered) * 0.99)] if ordered else 0.0


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
        id: frozenset(chance.sample(functions, min(2, len(functions)))) if chance.random() < 0.15 else frozenset()
        for id in requests
    }
    return Plan(
        seed=seed,
        spec=spec,
        requests=requests,
        poisoned=poisoned,
        workers=chance.randint(2, 4),
        attempts=chance.choice((2, 1000, 1000, 1000)),
        inline_limit=chance.choice((0, 32 * 1024)),
        redelivers=chance.random() < 0.5,
        faults=chance.randint(1, 16),
        interleave=chance.choice((0, 0.02, 0.1)),
        rates={kind: chance.choice(rates) for kind, rates in RATES.items()},
    )


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
    """The same flow with functions in place of modifiers, and handlers for the end."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.spec)
        self._plan = plan

    def define(self, flow: Flow, context: Any) -> None:
        flow.retry(Retry(attempts=self._plan.attempts, delay=1.0, max_delay=30.0))
        flow.on_failure(lambda error: b"failed")
        flow.finally_(lambda state: None)
        super().define(flow, context)

    def _plain(self, dag: Any, node: NodeSpec, context: Any) -> None:
        dag.node(node.uid, timeout=_NODE_TIMEOUT).apply(node.uid)


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
        self._clock = FakeClock(tick=0.0)
        self._elapsed = 0.0
        self._memory, self._values = MemoryStateStore(), MemoryDataStore()
        self._queue: list[Forward] = []
        self._held: list[tuple[float, Forward]] = []
        self._kept: list[Forward] = []
        self._lost: dict[tuple[str, str], float] = {}
        self._todo = [("start", id) for id in plan.requests]
        self._accepted: dict[str, bool] = {}
        self._busy: list[tuple[int, str]] = []
        self._parts = self._make_parts()
        self._engines = [Engine(self._parts) for _ in range(plan.workers)]
        # An engine of nobody, on stores that do not fail.
        self._observer = Engine(replace(self._parts, state=self._memory, data=self._values))
        self._expected = self._expect()

    def run(self) -> Result:
        """Play it to the end, and judge it."""
        steps = 0
        while self._goes_on():
            steps += 1
            if steps > _MOST_STEPS:
                self._wrong("I1", "", f"it did not come to rest in {steps} steps")
                break
            self._step()
        self._left = 0
        self._judge()
        return self.result

    # Faults

    def _strikes(self, kind: str, *requests: str) -> bool:
        """Whether a fault happens here; it is told of the requests that it meets, or of all."""
        if self._left <= 0 or kind in self._without:
            return False
        if self._chances[kind].random() >= self.plan.rates[kind]:
            return False
        self._left -= 1
        self.result.faults[kind] += 1
        for request in requests or ("",):
            self.history.add(Fault(kind, request))
        return True

    def _met(self) -> list[str]:
        """The request that is worked on, if it is one."""
        request = self._busy[-1][1] if self._busy else ""
        return [request] if request else []

    def _before(self, where: str, operation: Operation) -> bool:
        if where == "state":
            self._interleave()
        if self._busy and self._strikes("die", *self._met()):
            raise Died
        return self._strikes(f"{where} before", *self._met())

    def _after(self, where: str, operation: Operation) -> bool:
        if self._busy and self._strikes("die", *self._met()):
            raise Died
        return self._strikes(f"{where} after", *self._met())

    def _interleave(self) -> None:
        """Let something else happen between two operations of whoever is at work."""
        if self._busy and len(self._busy) < self.plan.workers and INTERLEAVE not in self._without:
            while self._chances[INTERLEAVE].random() < self.plan.interleave:
                self._step()

    def _make_parts(self) -> Parts:
        # The flow is the same for every request; to define it anew for each delivery would take half of the time.
        definition = definer(Called(self.plan).define)(Context(_FLOW, "", ""))

        def both(where: str) -> dict[str, Any]:
            return {
                "before": lambda operation: self._before(where or operation.name, operation),
                "after": lambda operation: self._after(where or operation.name, operation),
            }

        return Parts(
            flow=_FLOW,
            define=lambda context: definition,
            state=FlakyStore(RecordingStore(self._memory, self.history), **both("state")),
            data=FlakyDataStore(self._values, **both("data")),
            transport=FlakyTransport(RecordingTransport(_Outside(self), self.history), **both("")),  # type: ignore[arg-type]
            clock=self._clock,
            key=_KEY,
            inline_limit=self.plan.inline_limit,
            lease_after=float("inf"),
            retention=_DAY,
            chance=self._schedule.random,
        )

    # The outside

    def answer(self, call: OutgoingCall) -> Response:
        """What a function answers."""
        request, name = self._busy[-1][1], call.function or ""
        if name in self.plan.poisoned.get(request, ()):
            return Response(400, {}, b"poisoned")
        if self._strikes("error", request):
            status = self._schedule.choice((500, 503, 429, 504))
            return Response(status, {"Retry-After": "7"} if status in (503, 429) else {}, b"not now")
        if self._strikes("slow", *(request for _, request in self._busy if request)):
            self._pass(_NODE_TIMEOUT + 5.0)
        return Response(200, {}, answer_of(name, call.body))

    def take(self, message: Forward) -> None:
        """What the queue does with a message."""
        request = message.request_id
        if self._strikes("lose", request):
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
        return None if due is None else max(0.0, due - self._clock.now())

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
        self._pass(max(0.0, min(moments)))
        self._queue += [message for at, message in self._held if at <= self._elapsed]
        self._held = [(at, message) for at, message in self._held if at > self._elapsed]
        if due is not None and (self._due() or 0.0) <= 0.0:
            self._work("", lambda engine: engine.tick())

    def _pass(self, seconds: float) -> None:
        self._clock.advance(seconds)
        self._elapsed += seconds

    def _work(self, request: str, act: Any, *, event: Any = None) -> str:
        """Let a free worker do something; the name of what it raised, if it is to be repeated."""
        taken = {worker for worker, _ in self._busy}
        free = [worker for worker in range(self.plan.workers) if worker not in taken]
        if not free:
            return "busy"
        worker = self._schedule.choice(free)
        self._busy.append((worker, request))
        try:
            with event or self.history.acting(request):
                act(self._engines[worker])
        except Died:
            self._engines[worker] = Engine(self._parts)
            return "died"
        except _AGAIN as error:
            return type(error).__name__
        finally:
            self._busy.pop()
        return ""

    def _deliver(self, message: Forward) -> None:
        id = message.request_id
        decoded = self._parts.codec.decode(message.body, id, self._clock.now())
        since = self._lost.pop((id, decoded.step.key), None)
        if since is not None and self._is_missed(id, decoded.step):
            self.result.repairs.append(self._elapsed - since)
        error = self._guarded(id, lambda engine: engine.deliver(id, message.body), self.history.delivery(decoded))
        if error == "busy":
            self._queue.append(message)
        elif error and (self.plan.redelivers or self._schedule.random() < 0.5):
            self._hold(message, self._schedule.choice((1.0, 5.0, 20.0)))
        elif error:
            self._lose(message)

    def _is_missed(self, id: str, step: Step) -> bool:
        """Whether a step that comes again was waited for, by a clock that is right and a request that is not paused."""
        if self.result.faults["jump"] or self.result.faults["pause"] or self._observer.state(id).has_ended:
            return False
        prefix = request_prefix(_FLOW, id)
        return not self._memory.read([prefix + step.key, prefix + step.outcome])

    def _guarded(self, id: str, act: Any, event: Any) -> str:
        try:
            return self._work(id, act, event=event)
        except Exception as error:
            self._wrong("I16", id, f"a delivery raised {type(error).__name__}: {error}")
            return ""

    def _deliver_malformed(self, message: Forward) -> None:
        body, place = message.body, self._schedule.randrange(len(message.body))
        body = body[:place] if self._schedule.random() < 0.5 else _flipped(body, place)
        event = self.history.delivery(None, request=message.request_id, is_forged=True)
        try:
            if self._work(message.request_id, lambda engine: engine.deliver(message.request_id, body), event=event):
                return
        except MessageError:
            return
        self._wrong("I16", message.request_id, "a message that was altered was not refused")

    def _command(self, command: str, id: str) -> None:
        try:
            error = self._work(id, lambda engine: self._carry_out(engine, command, id))
        except RequestConflictError:
            return
        if error:
            self._todo.append((command, id))
        elif command == "start":
            self._accepted.setdefault(id, False)
            self.history.add(Accepted(id, _FLOW, self.plan.requests[id]))
        elif command == "pause":
            self._todo.append(("resume", id))
        elif command == "stop":
            self._accepted[id] = True

    def _carry_out(self, engine: Engine, command: str, id: str) -> None:
        if command == "start":
            engine.start(self.plan.requests[id], request_id=id)
        else:
            state = getattr(engine, command)(id)
            self.history.add(Acknowledged(id, command, str(state)))

    # The judgement

    def _expect(self) -> dict[str, Expected]:
        definition = self._observer.definition()
        found = {}
        for id, body in self.plan.requests.items():
            right = evaluate(definition, body, answer_of)
            is_poisoned = any(function in self.plan.poisoned[id] for _, function in right.calls)
            found[id] = replace(
                right, result=None if is_poisoned else right.result, may_fail=is_poisoned or self.plan.attempts < 10
            )
        return found

    def _judge(self) -> None:
        for id in self.plan.requests:
            self._judge_end(id)
        self._deliver_kept()
        self._pass(3 * _DAY)
        self._work("", lambda engine: engine.tick())
        self._deliver_kept()
        left = [
            key for key in (*self._memory.keys("faasflow/"), *self._values.list("faasflow/")) if "$clock" not in key
        ]
        self.result.violations += check(self.history, self._expected, is_drained=True, left=left)

    def _judge_end(self, id: str) -> None:
        answer, expected = self._observer.answer(id), self._expected[id]
        possible = {RequestState.FAILED} if expected.result is None else {RequestState.FINISHED}
        if self._accepted[id]:
            possible.add(RequestState.STOPPED)
        if expected.may_fail:
            possible.add(RequestState.FAILED)
        if answer.state not in possible:
            reason = f" ({answer.failure.error_type}: {answer.failure.message})" if answer.failure else ""
            self._wrong("I1", id, f"it came to be {answer.state}{reason}")
        elif answer.state is RequestState.FINISHED and answer.body != expected.result:
            self._wrong("I4", id, f"its result is {answer.body!r}, not {expected.result!r}")

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
    print(json.dumps({**shown, "p99": numbers.p99, "seconds": round(seconds, 1), "faults": numbers.faults}))
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
