"""Every interleaving of two workers, explored to the end: deliver, double, drop, crash, pause, stop and tick.

The engine itself is run, not a model of it. What a worker has done so far is the list of answers that it got from its
ports. To let it do one more thing, its work is run again from the beginning with these answers and cut off at the first
operation that has none yet; that operation is then carried out on the state at hand. So a state of the whole system
(stores, queue, workers, time, faults that are left, what the monitor remembers) is a plain value: equal ones are
visited once, and every order of operations is tried, without threads and without chance.

Others come in between any two operations of a worker: reads and writes of the stores, calls, and each message that is
forwarded. A worker may crash before and after each. Time stands still but for ticks, each of which comes an hour after
what was before. The bounds are the `Budget`: how many messages are doubled and dropped, how many workers crash, how
many ticks come early, while something is still under way. Ticks that come when nothing else is left to do are free.

    python -m tests.battery.explore --flow diamond --crashes 2
    python -m tests.battery.explore --flow diamond --path "start step1 ..."
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from faasflow.engine.context import Context
from faasflow.engine.engine import Engine
from faasflow.engine.parts import Parts
from faasflow.errors import (
    ForwardError,
    KeyNotFoundError,
    RequestConflictError,
    RequestNotFoundError,
    StoreUnavailableError,
    TryAgainError,
)
from faasflow.ports import (
    Create,
    DataStore,
    Delete,
    Entry,
    Forward,
    ListPrefix,
    Op,
    Outcome,
    OutgoingCall,
    Put,
    Response,
    StateStore,
)
from faasflow.runtime import definer
from faasflow.stores.base import BaseDataStore, BaseStateStore, check_ops, conflicts_of
from tests.battery.checker import Expected, Monitor, Violation
from tests.battery.flows import CALLBACK_URL, FLOWS, INPUT, echo, evaluate, status_of
from tests.battery.history import (
    Accepted,
    Acknowledged,
    Answered,
    Began,
    Cleared,
    Done,
    Event,
    Fault,
    History,
    called,
    forwarded,
    writes,
)

REQUEST_ID = "r"
FLOW = "flow"
_BEGIN = 1_700_000_000.0
_MOST_TICKS = 12
_RETENTION = 8 * 86400.0
_MUST = frozenset({"start", "pause", "resume", "stop", "remove"})
_AGAIN = (TryAgainError, StoreUnavailableError, ForwardError)


LEFT = ("doubles", "drops", "crashes", "early", "pauses", "stops", "removals")
_DOUBLES, _DROPS, _CRASHES, _EARLY, _PAUSES, _STOPS, _REMOVALS = range(7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many of each an exploration may use, in any order and at any place. `pauses` are each followed by a
    resume, `removals` by a start with the same id. A crashed worker's message is delivered again or, with `losses`,
    lost with it. `pace` is the time from one tick to
    the next, in seconds: with an hour whatever waits is due at the next tick."""

    doubles: int = 0
    drops: int = 0
    crashes: int = 0
    losses: bool = True
    early: int = 0
    pauses: int = 0
    stops: int = 0
    removals: int = 0
    pace: float = 3600.0

    def __str__(self) -> str:
        shown = ", ".join(f"{count} {name}" for name, count in self._counts().items() if count) or "no faults"
        shown += f" (a tick each {self.pace:g} s)" if self.pace != 3600 else ""
        return shown if self.losses else shown.replace("crashes", "crashes (none loses its message)")

    @property
    def options(self) -> str:
        """This budget as options of the command."""
        counts = [f"--{name} {count}" for name, count in self._counts().items() if count]
        counts += [f"--pace {self.pace:g}"] if self.pace != 3600 else []
        return " ".join([*counts, *(["--no-losses"] if not self.losses else [])])

    def _counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in LEFT}


class Suspended(BaseException):
    """A worker has come to an operation that has no answer yet."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a worker asks of a port: `kind`, and its arguments."""

    kind: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(_short(argument) for argument in self.arguments)}".strip()


class Ports:
    """The ports of the engine that is run again: each operation takes the next answer, or ends the run."""

    def __init__(self) -> None:
        self._answers: Iterator[Any] = iter(())
        self.wanted: Operation | None = None
        self.starts = 1

    def incarnation(self) -> str:
        """The incarnation that a start makes: the same each time that it is run again."""
        return str(self.starts)

    def begin(self, answers: Iterable[Any]) -> None:
        """Run with these answers from now on."""
        self._answers, self.wanted = iter(answers), None

    def ask(self, kind: str, *arguments: Any) -> Any:
        """The answer to an operation."""
        for answer in self._answers:
            return answer
        self.wanted = Operation(kind, arguments)
        raise Suspended


class ReplayedStore(BaseStateStore):
    """A state store whose operations are carried out by the exploration."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def init(self) -> None:
        pass

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        return dict(self._ports.ask("read", tuple(keys), tuple(prefixes)))

    def transact(self, ops: Sequence[Op]) -> Outcome:
        check_ops(ops)
        conflicts, entries = self._ports.ask("transact", tuple(ops))
        return Outcome(conflicts, dict(entries))

    def clear(self, prefix: str) -> None:
        self._ports.ask("clear", prefix)

    def close(self) -> None:
        pass


class ReplayedDataStore(BaseDataStore):
    """A data store of the same kind."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def init(self) -> None:
        pass

    def get(self, key: str) -> bytes:
        value = self._ports.ask("data get", key)
        if value is None:
            raise KeyNotFoundError(key)
        return bytes(value)

    def set(self, key: str, value: bytes) -> None:
        self._ports.ask("data set", key, value)

    def delete(self, key: str) -> None:
        self._ports.ask("data set", key, None)

    def list(self, prefix: str) -> Sequence[str]:
        return list(self._ports.ask("data list", prefix))

    def clear(self, prefix: str) -> None:
        self._ports.ask("data clear", prefix)

    def close(self) -> None:
        pass


class ReplayedTransport:
    """Functions that answer as `echo` does, and a queue that takes one message at a time."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def function_url(self, name: str) -> str:
        return f"http://gateway/function/{name}"

    def call(self, call: OutgoingCall) -> Response:
        target, attempt = call.function or call.url, int(call.headers.get("X-Faas-Flow-Attempt", "1"))
        self._ports.ask("call", target, call.body, tuple(sorted(call.headers.items())))
        return Response(status_of(target, attempt), {}, echo(target, call.body))

    def forward(self, messages: Sequence[Forward]) -> None:
        for message in messages:
            self._ports.ask("forward", message.body)


class ReplayedClock:
    """Time as the exploration gives it."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def now(self) -> float:
        return float(self._ports.ask("now"))

    def sleep(self, seconds: float) -> None:
        raise AssertionError("the engine waits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """How the explored system is put together; `mutants` puts faults in here. `clock` is whether there is one."""

    state: Callable[[StateStore], StateStore] = lambda store: store
    data: Callable[[DataStore], DataStore] = lambda store: store
    engine: Callable[[Parts, Ports], Engine] = lambda parts, ports: Engine(parts, make_incarnation=ports.incarnation)
    inline_limit: int = 32 * 1024
    repair_after: float = 30.0
    has_clock: bool = True


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker was given: start, deliver, pause, resume, stop or tick."""

    kind: str
    message: bytes = b""
    step: str = ""
    attempt: int = 1
    incarnation: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.step}" if self.step else self.kind


@dataclass(slots=True)
class Progress:
    """A worker's work so far: the answers it got. `wanted` is what it asks next, without which it has come to its end,
    with `error` if it raised one. `digest` orders and names it, `held` are the versions that it knows."""

    task: Task
    answers: tuple[Any, ...]
    digest: bytes
    held: frozenset[tuple[str, int]]
    wanted: Operation | None = None
    error: BaseException | None = None
    following: dict[Any, int] = field(default_factory=dict)
    is_acknowledged: bool = False


class World(NamedTuple):
    """A state of the whole system. Stores, messages, what workers have done and the monitor are numbers of interned
    values, a free worker is -1. The queue is sorted; each message comes with whether it was tried since the last tick.
    `commands` are those that a client still has to send, and what it knows."""

    store: int
    data: int
    queue: tuple[tuple[int, bool], ...]
    workers: tuple[int, int]
    monitor: int
    ticks: int
    left: tuple[int, ...]
    commands: frozenset[str]

    @property
    def is_idle(self) -> bool:
        return self.workers == (-1, -1)


class _Table:
    """Values by number, and numbers by value."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, value: Any, key: Hashable) -> int:
        """The number of `value`, which is the same for equal keys."""
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.values)
            self.values.append(value)
        return found

    def __getitem__(self, number: int) -> Any:
        return self.values[number]


@dataclass(slots=True)
class Report:
    """What an exploration found. `path` leads to the first violation."""

    flow: str
    budget: Budget
    states: int = 0
    transitions: int = 0
    ends: int = 0
    seconds: float = 0.0
    is_complete: bool = True
    violations: list[Violation] = field(default_factory=list)
    path: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        size = f"{self.states:,} states, {self.transitions:,} transitions, {self.ends:,} ends, {self.seconds:.1f} s"
        head = f"{self.flow}, {self.budget}: {size}{'' if self.is_complete else ', cut off'}"
        if not self.violations:
            return head
        again = f"python -m tests.battery.explore --flow {self.flow} {self.budget.options}"
        again = f'{again} --path "{" ".join(self.path)}"'
        return "\n".join([head, *map(str, self.violations), f"To see it alone: {again}"])


class Exploration:
    """The states of one flow under one budget, and the way from each to the next."""

    def __init__(
        self, flow: str, budget: Budget, variant: Variant | None = None, expected: Expected | None = None
    ) -> None:
        self.flow = flow
        self.budget = budget
        self.variant = variant or Variant()
        self.ports = Ports()
        self.parts = self._parts()
        self.definition = Engine(self.parts).definition()
        self.expected = expected or evaluate(self.definition, INPUT)
        # The flow that has something to do after its end also tells somebody of it.
        self.callback = CALLBACK_URL if self.definition.finally_ is not None else ""
        self.history: History | None = None
        self._stores, self._datas, self._monitors = _Table(), _Table(), _Table()
        self._messages, self._progress = _Table(), _Table()
        self._judged: dict[Hashable, tuple[int, list[Violation]]] = {}
        self._swapped: dict[int, int] = {}
        self._closed: dict[Hashable, list[Violation]] = {}
        self._names = History()
        self._names.know(REQUEST_ID)

    def _parts(self) -> Parts:
        definition = definer(FLOWS[self.flow])(Context(FLOW, REQUEST_ID, ""))
        return Parts(
            flow=FLOW,
            define=lambda context: definition,
            state=self.variant.state(ReplayedStore(self.ports)),
            data=self.variant.data(ReplayedDataStore(self.ports)),
            transport=ReplayedTransport(self.ports),
            clock=ReplayedClock(self.ports),
            inline_limit=self.variant.inline_limit,
            lease_after=float("inf"),
            repair_after=self.variant.repair_after,
            chance=lambda: 0.5,
            sender="",  # what a process remembers would not be the same at each run
        )

    def first(self) -> World:
        """Nothing has happened yet; a client is about to start a request."""
        monitor = Monitor({REQUEST_ID: self.expected})
        left = tuple(getattr(self.budget, name) for name in LEFT)
        return World(
            store=self._stores.number({}, frozenset()),
            data=self._datas.number({}, frozenset()),
            queue=(),
            workers=(-1, -1),
            monitor=self._monitors.number(monitor, monitor.key()),
            ticks=0,
            left=left,
            commands=frozenset({"start"}),
        )

    # What can happen

    def actions(self, world: World) -> list[tuple[str, Action]]:
        """Everything that can happen next: its name, and what does it."""
        found: list[tuple[str, Action]] = []
        for slot in (0, 1):
            if world.workers[slot] >= 0:
                found += self._of_worker(world, slot)
        found += self._of_queue(world)
        if -1 in world.workers:
            found += self._of_clients(world)
        return found

    def _of_worker(self, world: World, slot: int) -> Iterator[tuple[str, Action]]:
        yield f"step{slot}", lambda: self._step(world, slot)
        progress = self._progress[world.workers[slot]]
        # The message of a start that crashed is sent by the clock, not by the start that comes again.
        is_left_to_nobody = progress.task.kind == "start" and not self.variant.has_clock
        if not world.left[_CRASHES] or is_left_to_nobody:
            return
        yield f"crash{slot}", lambda: self._crash(world, slot)
        if self.budget.losses and progress.task.kind == "deliver":
            yield f"lose{slot}", lambda: self._crash(world, slot, is_lost=True)
        # A worker that has nothing more to ask is done at once; it may also crash right before it says so.
        yield f"last{slot}", lambda: self._crash_at_end(world, slot)

    def _of_queue(self, world: World) -> Iterator[tuple[str, Action]]:
        for entry in dict.fromkeys(world.queue):
            name = self._name(entry)
            if -1 in world.workers:
                task = self._messages[entry[0]]
                rest = _without(world.queue, entry)
                yield f"deliver:{name}", lambda task=task, rest=rest: self._begin(world._replace(queue=rest), task)
            if world.left[_DOUBLES]:
                yield f"double:{name}", lambda entry=entry: self._double(world, entry)
            if world.left[_DROPS]:
                yield f"drop:{name}", lambda entry=entry: self._drop(world, entry)

    def _of_clients(self, world: World) -> Iterator[tuple[str, Action]]:
        for command in sorted(world.commands & _MUST):
            rest = world._replace(commands=world.commands - {command})
            task = Task(command, attempt=self._starts(world) if command == "start" else 1)
            yield command, lambda rest=rest, task=task: self._begin(rest, task)
        if "accepted" in world.commands:
            if world.left[_PAUSES] and not world.commands & {"pausing", "pause", "resume"}:
                begun = world._replace(left=_less(world.left, _PAUSES), commands=world.commands | {"pausing"})
                yield "pause", lambda: self._begin(begun, Task("pause"))
            if world.left[_STOPS]:
                stopping = world._replace(left=_less(world.left, _STOPS))
                yield "stop", lambda: self._begin(stopping, Task("stop"))
            if world.left[_REMOVALS] and self._monitors[world.monitor].has_ended(REQUEST_ID):
                removing = world._replace(left=_less(world.left, _REMOVALS))
                yield "remove", lambda: self._begin(removing, Task("remove"))
        yield from self._of_clock(world)

    def _starts(self, world: World) -> int:
        """The number of the next start: one after a crash or a removal has an incarnation of its own."""
        crashed = self.budget.crashes - world.left[_CRASHES]
        return 1 + crashed + self.budget.removals - world.left[_REMOVALS]

    def _of_clock(self, world: World) -> Iterator[tuple[str, Action]]:
        if "accepted" not in world.commands or world.ticks >= _MOST_TICKS:
            return
        if self.is_still(world):
            if not self._is_over(world) and (world.queue or self.variant.has_clock):
                yield "tick", lambda: self._tick(world)
        elif world.left[_EARLY]:
            yield "early", lambda: self._tick(world._replace(left=_less(world.left, _EARLY)), is_early=True)

    def is_still(self, world: World) -> bool:
        """Whether nothing goes on until time passes: no worker is busy, every message has been tried since the last
        tick, and no client is about to do anything it must do."""
        return world.is_idle and all(tried for _, tried in world.queue) and not _must(world.commands)

    def _is_over(self, world: World) -> bool:
        """Whether nothing goes on at all."""
        return not world.queue and self._monitors[world.monitor].has_ended(REQUEST_ID)

    # What it does

    def _begin(self, world: World, task: Task) -> Found:
        slot = world.workers.index(-1)
        number = self._progress_of(task)
        request = "" if task.kind == "tick" else REQUEST_ID
        events: list[Event] = [Began(request, slot, task.step, task.attempt, incarnation=task.incarnation)]
        world, found = self._see(world._replace(workers=_with(world.workers, slot, number)), events)
        after, more = self._step(world, slot)
        return after, found + more

    def _step(self, world: World, slot: int, *, ends: bool = True) -> Found:
        """Carry out the operation that a worker wants; when it wants no more after that, it is done."""
        number = self._past_time(world.workers[slot], world.ticks)
        progress = self._progress[number]
        found: list[Violation] = []
        if progress.wanted is not None:
            answer, world, events = self._carry_out(world, slot, progress.wanted)
            world, found = self._see(world, events)
            number = self._past_time(self._after(number, answer), world.ticks)
        world = world._replace(workers=_with(world.workers, slot, number))
        if ends and self._progress[number].wanted is None:
            world, more = self._end(world, slot)
            found += more
        return self._ordered(world), found

    def _past_time(self, number: int, ticks: int) -> int:
        """The same work, told the time as often as it asks."""
        progress = self._progress[number]
        while progress.wanted is not None and progress.wanted.kind == "now":
            number = self._after(number, _BEGIN + ticks * self.budget.pace)
            progress = self._progress[number]
        return number

    def _end(self, world: World, slot: int) -> Found:
        progress = self._progress[world.workers[slot]]
        task, error = progress.task, progress.error
        events: list[Event] = [Done(slot, type(error).__name__ if error else "")]
        world = world._replace(workers=_with(world.workers, slot, -1))
        is_again = isinstance(error, _AGAIN)
        if task.kind == "deliver":
            if is_again and not progress.is_acknowledged:
                world = world._replace(queue=self._queued(world, task, is_tried=True))
        elif task.kind != "tick":
            world, more = self._answered(world, task, error)
            events += more
        world, found = self._see(world, events)
        if error is not None and not is_again and not isinstance(error, RequestConflictError | RequestNotFoundError):
            text = f"{task} raised {type(error).__name__}: {error}"
            found = [*found, Violation("I1", REQUEST_ID, text)]
        return world, found

    def _answered(self, world: World, task: Task, error: BaseException | None) -> tuple[World, list[Event]]:
        """What a client does with its answer: it repeats what could not be done."""
        if isinstance(error, _AGAIN):
            return world._replace(commands=world.commands | {task.kind}), []
        commands = world.commands
        if task.kind == "start":
            return world._replace(commands=commands | {"accepted"}), [Accepted(REQUEST_ID, FLOW, INPUT, self.callback)]
        if task.kind == "remove":
            if "accepted" in commands and self._monitors[world.monitor].is_removed(REQUEST_ID):
                commands = commands - {"accepted"} | {"start"}
            return world._replace(commands=commands), []
        if task.kind == "pause":
            commands = commands - {"pausing"} | ({"resume"} if error is None else set())
        state = "" if error else {"pause": "PAUSED", "resume": "RUNNING", "stop": "STOPPED"}[task.kind]
        return world._replace(commands=commands), [Acknowledged(REQUEST_ID, task.kind, state)]

    def _crash(self, world: World, slot: int, *, is_lost: bool = False) -> Found:
        progress = self._progress[world.workers[slot]]
        task = progress.task
        world = world._replace(workers=_with(world.workers, slot, -1), left=_less(world.left, _CRASHES))
        if task.kind == "deliver" and not is_lost and not progress.is_acknowledged:
            world = world._replace(queue=self._queued(world, task))
        elif task.kind not in ("deliver", "tick"):
            world = world._replace(commands=world.commands | {task.kind})
        world, found = self._see(world, [Done(slot, "crash"), Fault("crash")])
        return self._ordered(world), found

    def _crash_at_end(self, world: World, slot: int) -> Found | None:
        after, found = self._step(world, slot, ends=False)
        places = [place for place in (0, 1) if after.workers[place] >= 0]
        done = [place for place in places if self._progress[after.workers[place]].wanted is None]
        if not done:
            return None
        crashed, more = self._crash(after, done[0])
        return crashed, found + more

    def _double(self, world: World, entry: tuple[int, bool]) -> Found:
        queue = tuple(sorted((*world.queue, entry)))
        return self._see(world._replace(queue=queue, left=_less(world.left, _DOUBLES)), [Fault("double")])

    def _drop(self, world: World, entry: tuple[int, bool]) -> Found:
        queue = _without(world.queue, entry)
        return world._replace(queue=queue, left=_less(world.left, _DROPS)), []

    def _tick(self, world: World, *, is_early: bool = False) -> Found:
        queue = tuple(sorted((message, False) for message, _ in world.queue))
        world = world._replace(ticks=world.ticks + 1, queue=queue)
        found: list[Violation] = []
        if is_early:
            world, found = self._see(world, [Fault("early tick")])
        if not self.variant.has_clock:
            return world, found
        after, more = self._begin(world, Task("tick"))
        return after, found + more

    # Operations on the state at hand

    def _carry_out(self, world: World, slot: int, wanted: Operation) -> tuple[Any, World, list[Event]]:
        arguments = wanted.arguments
        match wanted.kind:
            case "read":
                return self._read(world, *arguments), world, []
            case "transact":
                return self._transact(world, slot, *arguments)
            case "clear":
                store = {key: entry for key, entry in self._stores[world.store].items() if not _is_in(key, arguments)}
                return None, self._stored(world, store), [Cleared(REQUEST_ID, slot)]
            case "call":
                return None, world, self._call(slot, world, *arguments)
            case "forward":
                return (
                    None,
                    self._forwarded(world, *arguments),
                    [forwarded(Forward(FLOW, REQUEST_ID, *arguments), slot)],
                )
            case "acknowledge":
                return None, world, []
        return self._on_data(world, wanted)

    def _read(self, world: World, keys: tuple[str, ...], prefixes: tuple[str, ...]) -> Any:
        store = self._stores[world.store]
        if not prefixes:
            return tuple((key, store[key]) for key in dict.fromkeys(keys) if key in store)
        wanted = set(keys)
        return tuple((key, store[key]) for key in sorted(store) if key in wanted or key.startswith(prefixes))

    def _transact(self, world: World, slot: int, ops: tuple[Op, ...]) -> tuple[Any, World, list[Event]]:
        store = self._stores[world.store]
        conflicts = conflicts_of(ops, {key: entry.version for key, entry in store.items()})
        if conflicts:
            return (conflicts, ()), world, []
        after = dict(store)
        for op in ops:
            match op:
                case Create(key, value) | Put(key, value):
                    after[key] = Entry(value, self._version(world, key))
                case Delete(key):
                    after.pop(key, None)
        prefixes = tuple(op.prefix for op in ops if isinstance(op, ListPrefix))
        listed = tuple((key, after[key]) for key in sorted(after) if key.startswith(prefixes)) if prefixes else ()
        return ((), listed), self._stored(world, after), list(writes(ops, self._names, by=slot))

    def _version(self, world: World, key: str) -> int:
        """One that nobody knows. Versions are compared for equality only, so any such will do, and the smallest lets
        states be equal that differ in nothing else."""
        known = {
            version for number in world.workers if number >= 0 for held, version in self._held(number) if held == key
        }
        current = self._stores[world.store].get(key)
        if current is not None:
            known.add(current.version)
        return next(version for version in range(1, len(known) + 2) if version not in known)

    def _held(self, number: int) -> frozenset[tuple[str, int]]:
        held: frozenset[tuple[str, int]] = self._progress[number].held
        return held

    def _stored(self, world: World, store: dict[str, Entry]) -> World:
        return world._replace(store=self._stores.number(store, frozenset(store.items())))

    def _call(
        self, slot: int, world: World, target: str, body: bytes, headers: tuple[tuple[str, str], ...]
    ) -> list[Event]:
        call = OutgoingCall("POST", target, dict(headers), [], body, 0.0, function=target)
        step = self._progress[world.workers[slot]].task.step
        event = called(call, self._names, step=step, by=slot, number=slot)
        return [event, Answered(slot, status_of(target, event.attempt))]

    def _forwarded(self, world: World, body: bytes) -> World:
        message = self.parts.codec.decode(body, REQUEST_ID, _BEGIN)
        # What a message says of the time that it was sent at decides nothing, and would make equal ones differ.
        body, key = self.parts.codec.encode(message, _BEGIN), message.step.key
        task = Task("deliver", body, key, message.attempt, message.life.incarnation)
        return world._replace(queue=self._queued(world, task))

    def _queued(self, world: World, task: Task, *, is_tried: bool = False) -> tuple[tuple[int, bool], ...]:
        return tuple(sorted((*world.queue, (self._messages.number(task, task), is_tried))))

    def _on_data(self, world: World, wanted: Operation) -> tuple[Any, World, list[Event]]:
        data = self._datas[world.data]
        match wanted.kind, *wanted.arguments:
            case "data get", key:
                return data.get(key), world, []
            case "data list", prefix:
                return tuple(sorted(key for key in data if key.startswith(prefix))), world, []
            case "data set", key, value:
                after = {other: held for other, held in data.items() if other != key}
                after |= {} if value is None else {key: value}
            case "data clear", prefix:
                after = {key: held for key, held in data.items() if not key.startswith(prefix)}
            case _:
                raise AssertionError(f"{wanted} is not known")
        return None, world._replace(data=self._datas.number(after, frozenset(after.items()))), []

    # Workers

    def _progress_of(self, task: Task) -> int:
        digest = hashlib.blake2b(repr(task).encode(), digest_size=16).digest()
        return self._known(Progress(task, (), digest, frozenset()))

    def _after(self, number: int, answer: Any) -> int:
        """The work that goes on with one more answer."""
        before: Progress = self._progress[number]
        found = before.following.get(answer)
        if found is None:
            assert before.wanted is not None
            digest = hashlib.blake2b(before.digest + repr(answer).encode(), digest_size=16).digest()
            now = Progress(before.task, (*before.answers, answer), digest, before.held | _versions(answer))
            now.is_acknowledged = before.is_acknowledged or before.wanted.kind == "acknowledge"
            found = before.following[answer] = self._known(now)
        return found

    def _known(self, progress: Progress) -> int:
        """The number of a worker's work; it is run up to the first operation that has no answer."""
        number = self._progress.number(progress, progress.digest)
        if self._progress[number] is progress:
            self.ports.begin(progress.answers)
            try:
                self._run(progress.task)
            except Suspended:
                progress.wanted = self.ports.wanted
            except Exception as error:
                progress.error = error
        return number

    def _run(self, task: Task) -> None:
        # A process of its own: nothing is remembered but what the stores hold. What it draws by lot is always the same.
        random.seed(0)
        engine = self.variant.engine(replace(self.parts), self.ports)
        match task.kind:
            case "start":
                self.ports.starts = task.attempt
                engine.start(INPUT, request_id=REQUEST_ID, callback=self.callback)
            case "deliver":
                engine.deliver(REQUEST_ID, task.message)
            case "tick":
                engine.tick()
            case command:
                getattr(engine, command)(REQUEST_ID)

    def _ordered(self, world: World) -> World:
        """The same with the workers in a fixed order: which of the two does what makes no difference."""
        first, second = world.workers
        if second < 0 or (first >= 0 and self._place(world, 0) <= self._place(world, 1)):
            return world
        monitor = self._swapped.get(world.monitor)
        if monitor is None:
            swapped = self._monitors[world.monitor].renamed({0: 1, 1: 0})
            monitor = self._swapped[world.monitor] = self._monitors.number(swapped, swapped.key())
        return world._replace(workers=(second, first), monitor=monitor)

    def _place(self, world: World, slot: int) -> tuple[bytes, str]:
        return self._progress[world.workers[slot]].digest, self._monitors[world.monitor].delivery_key(slot)

    # Judgement

    def _see(self, world: World, events: list[Event]) -> Found:
        if not events:
            return world, []
        if self.history is not None:
            for event in events:
                self.history.add(event)
        key = (world.monitor, *events)
        found = self._judged.get(key)
        if found is None:
            monitor = self._monitors[world.monitor].copy()
            violations = [wrong for event in events for wrong in monitor.see(event)]
            found = self._judged[key] = (self._monitors.number(monitor, monitor.key()), violations)
        return world._replace(monitor=found[0]), found[1]

    def at_end(self, world: World) -> list[Violation]:
        """What is wrong where nothing is left to happen, and what is left of it once its retention is over."""
        key = (world.monitor, world.store, world.data, world.ticks)
        if key not in self._closed:
            found = self._monitors[world.monitor].copy().drained()
            if self.variant.has_clock and not found:
                found = self._after_retention(world)
            self._closed[key] = found
        return self._closed[key]

    def _after_retention(self, world: World) -> list[Violation]:
        world = self._begin(world._replace(ticks=world.ticks + int(_RETENTION / self.budget.pace)), Task("tick"))[0]
        while not world.is_idle:
            world = self._step(world, 0)[0]
        left = [key for key in self._stores[world.store] if not key.endswith("/$clock")]
        return self._monitors[world.monitor].left([*left, *self._datas[world.data]])

    def is_end(self, world: World) -> bool:
        """Whether nothing is left that must happen."""
        return self.is_still(world) and (self._is_over(world) or not self._goes_on(world))

    def _goes_on(self, world: World) -> bool:
        return any(name == "tick" for name, _ in self._of_clock(world))

    def _name(self, entry: tuple[int, bool]) -> str:
        task: Task = self._messages[entry[0]]
        digest = hashlib.blake2b(task.message, digest_size=2).hexdigest()
        return f"{task.step}~{digest}{'!' if entry[1] else ''}"

    def describe(self, world: World, action: str) -> str:
        """An action in words."""
        for slot in (0, 1):
            if action.endswith(str(slot)) and world.workers[slot] >= 0:
                progress = self._progress[self._past_time(world.workers[slot], world.ticks)]
                return f"{action:8} {progress.task}: {progress.wanted or 'its end'}"
        return action


Found = tuple[World, list[Violation]]
Action = Callable[[], Found | None]


def explore(
    flow: str,
    budget: Budget,
    variant: Variant | None = None,
    *,
    expected: Expected | None = None,
    most: int | None = None,
) -> Report:
    """Visit every state, or the first `most`, up to the first violation. What is `expected` follows from the flow."""
    report, began = Report(flow, budget), time.perf_counter()
    with _quiet():
        _visit(Exploration(flow, budget, variant, expected), report, most)
    report.seconds = time.perf_counter() - began
    return report


def _visit(exploration: Exploration, report: Report, most: int | None) -> None:
    first = exploration.first()
    seen = {first}
    stack = [(first, iter(exploration.actions(first)), "")]
    while stack and report.is_complete:
        actions = stack[-1][1]
        name, act = next(actions, ("", None))
        if act is None:
            stack.pop()
            continue
        outcome = act()
        if outcome is None:
            continue
        report.transitions += 1
        after, found = outcome
        is_new = after not in seen
        if is_new and exploration.is_end(after):
            report.ends += 1
            found = found + exploration.at_end(after)
        if found and not report.violations:
            report.path = [step for _, _, step in stack[1:]] + [name]
        report.violations += [wrong for wrong in found if wrong not in report.violations]
        if report.violations:
            break
        if is_new:
            seen.add(after)
            stack.append((after, iter(exploration.actions(after)), name))
        report.is_complete = most is None or len(seen) < most
    report.states = len(seen)


def replay(flow: str, budget: Budget, path: Sequence[str], variant: Variant | None = None) -> list[str]:
    """Walk one path again: what was done, what happened, and what was wrong about it, line by line."""
    with _quiet():
        return _walk(Exploration(flow, budget, variant), path)


def _walk(exploration: Exploration, path: Sequence[str]) -> list[str]:
    lines: list[str] = []
    shown = 0
    exploration.history = history = History()
    world = exploration.first()
    for name in path:
        act = dict(exploration.actions(world)).get(name)
        outcome = act() if act is not None else None
        if outcome is None:
            possible = " ".join(name for name, _ in exploration.actions(world))
            raise ValueError(f"{name!r} cannot happen here. Possible are: {possible}")
        lines.append(exploration.describe(world, name))
        lines += [f"    {number}: {event}" for number, event in enumerate(history)][shown:]
        shown = len(history)
        world, found = outcome
        lines += [f"    {wrong}" for wrong in found]
    if exploration.is_end(world):
        lines += [f"    at the end: {wrong}" for wrong in exploration.at_end(world)]
    return lines


Plan = tuple[str, Budget]

BOUNDED: Sequence[Plan] = [
    *(
        (flow, budget)
        for flow in ("chain", "diamond", "foreach", "condition")
        for budget in (
            Budget(),
            Budget(doubles=1, drops=1),
            Budget(doubles=1, pauses=1),
            Budget(doubles=1, stops=1),
            Budget(pauses=1, stops=1),
            Budget(crashes=1),
        )
    ),
    ("chain", Budget(early=1)),
    ("chain", Budget(doubles=1, removals=1)),
    ("chain", Budget(removals=2)),
    ("chain", Budget(crashes=1, removals=1)),
    ("chain", Budget(crashes=1, drops=1)),
    ("chain", Budget(crashes=1, stops=1)),
    ("closing", Budget(doubles=1, stops=1)),
    ("once", Budget(doubles=1, drops=1)),
    ("closing", Budget(crashes=1)),
    ("retried", Budget(doubles=1, drops=1, pace=20)),
    ("retried", Budget(pauses=1, stops=1, pace=20)),
    ("retried", Budget(crashes=1, pace=20)),
]
"""What is explored in every run of the tests."""

LONG: Sequence[Plan] = [
    *BOUNDED,
    *(
        (flow, budget)
        for flow in ("chain", "diamond", "foreach", "condition")
        for budget in (
            Budget(doubles=2),
            Budget(drops=2),
            Budget(early=1),
            Budget(crashes=1, drops=1),
            Budget(crashes=1, stops=1),
            Budget(crashes=1, doubles=1),
            Budget(crashes=1, pauses=1),
            Budget(doubles=1, pauses=1, stops=1),
        )
    ),
    ("chain", Budget(crashes=2)),
    ("chain", Budget(doubles=1, drops=1, crashes=1)),
    ("closing", Budget(crashes=1, stops=1)),
    ("retried", Budget(crashes=1, doubles=1, pace=20)),
    ("retried", Budget(crashes=1, pauses=1, pace=20)),
    ("retried", Budget(crashes=1, stops=1, pace=20)),
]
"""What the long form explores."""


def explore_all(plans: Iterable[Plan] = BOUNDED, *, most: int | None = None, jobs: int = 1) -> Iterator[Report]:
    """Explore one after the other, or as many at a time as there are `jobs`; each report as soon as it is there."""
    if jobs == 1:
        for flow, budget in plans:
            yield explore(flow, budget, most=most)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(explore, flow, budget, most=most) for flow, budget in plans]):
            yield done.result()


def main(arguments: Sequence[str] | None = None) -> int:
    """Explore, or walk one path, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.battery.explore", description="Explore small flows.")
    parser.add_argument("--flow", choices=FLOWS, help="this one, with the faults named")
    for name in LEFT:
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--pace", type=float, default=3600.0, help="seconds from one tick to the next")
    parser.add_argument("--no-losses", action="store_true", help="a crashed worker's message always comes again")
    parser.add_argument("--path", help="walk this path only, and print what happens")
    parser.add_argument("--mutant", help="with the fault of this name in mutants")
    parser.add_argument("--long", action="store_true", help="more faults at a time")
    parser.add_argument("--most", type=int, help="stop each after so many states")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    chosen = parser.parse_args(arguments)
    budget = Budget(**{name: getattr(chosen, name) for name in LEFT}, losses=not chosen.no_losses, pace=chosen.pace)
    variant = _mutant(chosen.mutant) if chosen.mutant else None
    if chosen.path:
        print(*replay(chosen.flow, budget, chosen.path.split(), variant), sep="\n")
        return 0
    if chosen.flow:
        reports = iter([explore(chosen.flow, budget, variant, most=chosen.most)])
    else:
        reports = explore_all(LONG if chosen.long else BOUNDED, most=chosen.most, jobs=chosen.jobs)
    return _printed(reports)


def _printed(reports: Iterable[Report]) -> int:
    states, seconds, is_green = 0, 0.0, True
    for report in reports:
        print(report, flush=True)
        states, seconds = states + report.states, seconds + report.seconds
        is_green &= not report.violations and report.is_complete
    print(f"{states:,} states, {seconds:.0f} s")
    return 0 if is_green else 1


def _mutant(name: str) -> Variant:
    from tests.battery.mutants import MUTANTS

    return MUTANTS[name].variant


@contextmanager
def _quiet() -> Iterator[None]:
    """What the engine would log of thousands of runs is of no use."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _must(commands: frozenset[str]) -> bool:
    return bool(commands & _MUST)


def _less(left: tuple[int, ...], which: int) -> tuple[int, ...]:
    return _with(left, which, left[which] - 1)


def _with(values: tuple[int, ...], place: int, value: int) -> tuple[int, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _without(queue: tuple[tuple[int, bool], ...], entry: tuple[int, bool]) -> tuple[tuple[int, bool], ...]:
    place = queue.index(entry)
    return queue[:place] + queue[place + 1 :]


def _is_in(key: str, prefixes: tuple[str, ...]) -> bool:
    return key.startswith(prefixes)


def _versions(answer: Any) -> frozenset[tuple[str, int]]:
    """The versions that an answer tells, by key."""
    if not isinstance(answer, tuple):
        return frozenset()
    entries = answer[1] if len(answer) == 2 and not isinstance(answer[1], Entry) and answer[0] == () else answer
    return frozenset(
        (pair[0], pair[1].version)
        for pair in entries
        if isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Entry)
    )


def _short(argument: Any) -> str:
    text = repr(argument)
    return text if len(text) < 400 else text[:400] + "…"


if __name__ == "__main__":
    sys.exit(main())
