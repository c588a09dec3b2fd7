"""A queue that takes its time: how many messages random flows put into it, in virtual time, when nothing else is wrong.

A seed makes a flow, some requests of it, a queue and some clocks. The queue runs a number of messages at a time, in
order or not, and may hold each back for a while; nothing is lost. Engines on shared stores are delivered to and tick
once a second, or one of them only ticks. Counted is how often each step is put, and how often its code runs.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from faasflow import Flow
from faasflow.engine.context import Context
from faasflow.engine.engine import Engine
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.message import Message
from faasflow.engine.parts import Parts
from faasflow.errors import TryAgainError
from faasflow.ports import Forward
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing.clock import FakeClock
from faasflow.testing.transport import InProcessTransport

StepPut = tuple[str, str, int]
"""A request, the key of one of its steps, and the attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Runs `slots` messages at a time, each after up to `delay` seconds more, `shuffled` or in order. A queue that
    `forgets` does not repeat a message that is to come again; another one does so after the time that it is asked
    for."""

    slots: int = 1
    delay: float = 0.0
    shuffled: bool = False
    forgets: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A flow by its `layers` (how many nodes each has; all of one wait for all of the one before), or with `branches`
    as a foreach after another; nodes take `work` seconds."""

    seed: int = 0
    layers: tuple[int, ...] = ()
    branches: tuple[int, ...] = ()
    requests: int = 1
    work: float = 0.5
    queue: Queue = Queue()
    engines: int = 2
    apart: bool = False
    repair_after: float = 30.0

    @property
    def needed(self) -> int:
        """How many messages a request takes."""
        return sum(self.layers) + sum(width + 2 for width in self.branches) + 2


def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    chance = random.Random(seed)
    is_foreach = chance.random() < 0.3
    widths = tuple(chance.choice((1, 2, 5, 12, 30)) for _ in range(chance.randint(1, 4)))
    return Plan(
        seed=seed,
        layers=() if is_foreach else widths,
        branches=widths if is_foreach else (),
        requests=chance.choice((1, 3, 10)),
        work=chance.choice((0.0, 0.5, 2.0, 20.0)),
        queue=Queue(
            slots=chance.choice((1, 1, 4, 10)),
            delay=chance.choice((0.0, 0.0, 5.0, 120.0)),
            shuffled=chance.random() < 0.3,
            forgets=chance.random() < 0.5,
        ),
        engines=chance.choice((1, 2, 4)),
        apart=chance.random() < 0.4,
        repair_after=chance.choice((10.0, 30.0)),
    )


@dataclass(slots=True)
class Flood:
    """What a plan came to: how often each step was `put` and its node `ran`, and how long the `longest` wait was."""

    plan: Plan
    put: Counter[StepPut] = field(default_factory=Counter)
    ran: Counter[tuple[str, str]] = field(default_factory=Counter)
    longest: float = 0.0
    seconds: float = 0.0
    finished: int = 0

    @property
    def needed(self) -> int:
        return self.plan.needed * self.plan.requests

    @property
    def most(self) -> int:
        """How often a step may be put: by the one before it, by a double, and by the clock."""
        return 2 + max(0, math.ceil(math.log2(max(1.0, self.longest / self.plan.repair_after))))


class Flooding:
    """Plays a plan. `run` may be called once."""

    def __init__(self, plan: Plan) -> None:
        self.flood = Flood(plan)
        self._plan = plan
        self._chance = random.Random(plan.seed)
        self._clock = FakeClock(tick=0.0)
        self._waiting: list[tuple[float, float, int, Forward]] = []
        self._order = 0
        self._put: dict[bytes, float] = {}
        state, data = MemoryStateStore(), MemoryDataStore()
        define = definer(self._define)
        count = plan.engines + plan.apart
        self._engines = [
            Engine(
                Parts(
                    flow="flow",
                    define=define,
                    state=state,
                    data=data,
                    transport=_Put(self),
                    clock=self._clock,
                    repair_after=plan.repair_after,
                    lease_after=float("inf"),
                    chance=self._chance.random,
                    sender=f"engine {number}",
                )
            )
            for number in range(count)
        ]
        self._codec = Parts(
            flow="flow", define=define, state=state, data=data, transport=_Put(self), clock=self._clock
        ).codec

    def run(self) -> Flood:
        """Start the requests and let time pass until all have ended and the queue is empty."""
        began = self._clock.now()
        ids = [f"r{number}" for number in range(self._plan.requests)]
        for id in ids:
            self._engines[0].start(b"", request_id=id)
        self._free = [self._clock.now()] * self._plan.queue.slots
        ticked = began
        while self._waiting or any(not self._engines[0].state(id).has_ended for id in ids):
            at = max(self._waiting[0][0], self._free[0]) if self._waiting else float("inf")
            if ticked + 1.0 <= at:
                ticked += 1.0
                self._clock.advance(ticked - self._clock.now())
                self._engines[self._chance.randrange(len(self._engines))].tick()
            else:
                self._clock.advance(max(0.0, at - self._clock.now()))
                self._deliver(*heapq.heappop(self._waiting)[1:])
            assert self._clock.now() - began < 86400, "it does not come to its end"
        self.flood.seconds = self._clock.now() - began
        self.flood.finished = sum(self._engines[0].state(id) is RequestState.FINISHED for id in ids)
        return self.flood

    def take(self, messages: Sequence[Forward]) -> None:
        """Put messages into the queue."""
        for one in messages:
            self._count(self._codec.decode(one.body, one.request_id, self._clock.now()))
            self._queue(one, self._chance.uniform(0, self._plan.queue.delay), self._clock.now())

    def _count(self, message: Message) -> None:
        self.flood.put[message.request_id, message.step.key, message.attempt] += 1

    def _queue(self, message: Forward, delay: float, put: float) -> None:
        self._order += 1
        order = self._chance.randrange(10**6) if self._plan.queue.shuffled else self._order
        heapq.heappush(self._waiting, (self._clock.now() + delay, put, order, message))

    def _deliver(self, put: float, order: int, message: Forward) -> None:
        """Run a message in the slot that is free first; its work takes the slot's time, not that of the others."""
        self.flood.longest = max(self.flood.longest, self._clock.now() - put)
        heapq.heapreplace(self._free, self._clock.now() + 0.01)
        self._busy = 0.0
        engine = self._engines[self._chance.randrange(self._plan.engines)]
        try:
            engine.deliver(message.request_id, message.body)
        except TryAgainError as error:
            if not self._plan.queue.forgets:
                self._queue(message, error.retry_after or 1.0, put)

    def work(self, request: str, node: str) -> None:
        """The code of a node. The queue's slots share the time, so that one thread can play them all."""
        self.flood.ran[request, node] += 1
        self._clock.advance(self._plan.work / self._plan.queue.slots)

    def _define(self, flow: Flow, context: Context) -> None:
        dag = flow.dag()

        def node(name: str) -> None:
            def run(data: bytes) -> bytes:
                self.work(context.request_id, name)
                return b""

            dag.node(name, aggregator=lambda results: b"").modify(run)

        node("start")
        before = ["start"]
        for level, width in enumerate(self._plan.layers):
            here = [f"{level}.{number}" for number in range(width)]
            for name in here:
                node(name)
                for source in before:
                    dag.edge(source, name)
            before = here
        for level, width in enumerate(self._plan.branches):
            name = f"each{level}"
            branch = dag.foreach_branch(
                name, lambda data, width=width: {str(key): b"" for key in range(width)}, aggregator=lambda results: b""
            )
            branch.node("in").modify(lambda data, name=name: self.work(context.request_id, name) or b"")
            for source in before:
                dag.edge(source, name)
            before = [name]
        node("end")
        for source in before:
            dag.edge(source, "end")


class _Put(InProcessTransport):
    def __init__(self, flooding: Flooding) -> None:
        super().__init__()
        self._flooding = flooding

    def forward(self, messages: Sequence[Forward]) -> None:
        self._flooding.take(messages)


def play(plan: Plan) -> Flood:
    """Play a plan; the engine shuffles what is due."""
    state = random.getstate()
    random.seed(plan.seed)
    try:
        return Flooding(plan).run()
    finally:
        random.setstate(state)
