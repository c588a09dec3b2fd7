"""Requests that two clients pause, resume and stop at random while several workers deliver them, all at the same time.

Here threads race, on real stores: what a seed decides is who wants what, not who comes first. Each worker and each
client has an engine and stores of its own. In half of the races writes are recorded one at a time, so that the checker
sees them in their order; in the others nothing holds them back, and only what is known from outside is judged.

    python -m tests.battery.control_race --store consul --seeds 100
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from faasflow.engine.context import Context
from faasflow.engine.engine import Engine
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.parts import Parts
from faasflow.errors import FaasflowError, RequestConflictError, RequestNotFoundError, TryAgainError
from faasflow.ports import DataStore, Forward, OutgoingCall, Response, StateStore
from faasflow.runtime import definer
from faasflow.stores import open_data_store, open_state_store
from tests.battery.checker import Expected, check
from tests.battery.control_flows import CALLBACK, FLOWS, answered
from tests.battery.control_run import PAUSE, RESUME, STOP
from tests.battery.flows import evaluate
from tests.battery.history import (
    Accepted,
    Acknowledged,
    Actor,
    Began,
    Called,
    History,
    RecordingStore,
    RecordingTransport,
)
from tests.servers.consul import ConsulServer
from tests.support import wait_until

_KEY = b"a key for the battery"
_LIFETIME = 3600.0
_LONGEST = 60.0
_WORKERS, _CLIENTS = 3, 2
_BODY = b"x"


@dataclass(frozen=True)
class Order:
    """A command that a client gave: the places in the history of its begin and its end, and what it was answered."""

    request: str
    command: str
    begin: int
    end: int
    answer: str


class ShiftedClock:
    """The real time, and some more."""

    def __init__(self) -> None:
        self.shift = 0.0

    def now(self) -> float:
        return time.time() + self.shift

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Outside:
    """The functions, which take a moment, and a queue whose messages come in any order."""

    def __init__(self, seed: int) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.deepest = 0
        self._chance = random.Random(seed)
        self._waiting: deque[Forward] = deque()
        self._late: list[tuple[float, Forward]] = []
        self._busy = 0
        self._lock = threading.Lock()

    def function_url(self, name: str) -> str:
        return f"http://gateway/function/{name}"

    def call(self, call: OutgoingCall) -> Response:
        time.sleep(self._chance.random() * 0.002)
        if call.url == CALLBACK:
            headers = call.headers
            told = headers["X-Faas-Flow-Reqid"], headers["X-Faas-Flow-State"], headers["X-Faas-Flow-Event-Id"]
            self.told.append(told)
        return answered(call)

    def forward(self, messages: Sequence[Forward]) -> None:
        with self._lock:
            self._waiting.extend(messages)
            self.deepest = max(self.deepest, len(self._waiting))

    def take(self) -> Forward | None:
        """A message to deliver, after which `done` is told; `None` if there is none now."""
        with self._lock:
            self._waiting.extend(message for due, message in self._late if due <= time.monotonic())
            self._late = [one for one in self._late if one[0] > time.monotonic()]
            if not self._waiting:
                return None
            if self._chance.random() < 0.3:
                self._waiting.rotate(-1)
            self._busy += 1
            return self._waiting.popleft()

    def done(self, again: Forward | None = None, after: float = 0.0) -> None:
        """A message was delivered, or is to come again."""
        with self._lock:
            self._busy -= 1
            if again is not None:
                self._late.append((time.monotonic() + after, again))

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is queued or under way."""
        with self._lock:
            return not (self._waiting or self._late or self._busy)


OpenStores = Callable[[], tuple[StateStore, DataStore]]


@dataclass
class Race:
    """Some requests of the flow of six nodes in one race. `run` may be called once; `flaws` says what was wrong."""

    name: str
    seed: int
    open_stores: OpenStores
    requests: int = 6
    orders_each: int = 50
    stops: float = 0.02
    is_recorded: bool = True
    history: History = field(default_factory=History)
    orders: list[Order] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    repaired: int = 0
    ends: Counter[RequestState] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.outside = Outside(self.seed)
        self._clock = ShiftedClock()
        self._is_over = threading.Event()
        self._ids = [f"r{number}" for number in range(self.requests)]
        self._observer = self._engine()

    def run(self) -> None:
        """Start the requests, let clients and workers race, and go on until all requests have ended."""
        clients = [self._thread(self._steer, self._engine(), number) for number in range(_CLIENTS)]
        with self._at_work():
            self._start_all()
            for client in clients:
                client.join()
            self._wait_for_the_end()

    def stampede(self) -> None:
        """Pause all requests, and an hour later let each client resume them all at once, while the clock ticks."""
        self._start_all(then=PAUSE)
        with self._at_work():
            wait_until(lambda: self.outside.is_quiet, "all messages to be parked", timeout=_LONGEST)
            self._clock.shift += 3600.0
            self._tick()
            clients = [self._thread(self._resume_all, self._engine()) for _ in range(_CLIENTS)]
            while any(client.is_alive() for client in clients):
                self._tick()
                time.sleep(0.02)
            self._wait_for_the_end()

    def flaws(self) -> list[str]:
        """What was wrong, once all is over. Removes the requests."""
        self._let_timers_go()
        engine = self._observer
        answers = {id: engine.answer(id) for id in self._ids}
        self.ends = Counter(answer.state for answer in answers.values())
        flaws = [*self.errors, *self._wrong_handlers()]
        for id, answer in answers.items():
            flaws += [f"request {id!r}: {text}" for text in self._wrong_request(id, answer.state, answer.body)]
        if self.is_recorded:
            flaws += map(str, check(self.history, dict.fromkeys(self._ids, self._expected), is_drained=True))
        return flaws + self._left_over()

    # Who races

    def _engine(self) -> Engine:
        state, data = self.open_stores()
        if self.is_recorded:
            state = RecordingStore(state, self.history)
        parts = Parts(
            flow=self.name,
            define=definer(FLOWS["six"].define(lambda what, data: self.notes.append((what, data)))),
            state=state,
            data=data,
            transport=RecordingTransport(self.outside, self.history),
            clock=self._clock,
            key=_KEY,
            inline_limit=24,
            repair_delay=1.0,
            lease_after=float("inf"),
            retention=_LIFETIME,
        )
        return Engine(parts)

    def _thread(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments)
        thread.start()
        return thread

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Let workers deliver while the block lasts."""
        workers = [self._thread(self._work, self._engine()) for _ in range(_WORKERS)]
        try:
            yield
        finally:
            self._is_over.set()
            for worker in workers:
                worker.join()

    def _start_all(self, then: str = "") -> None:
        engine = self._engine()
        for id in self._ids:
            with self.history.acting(id):
                engine.start(_BODY, request_id=id, callback=CALLBACK)
            self.history.add(self._accepted(id))
            if then:
                self._order(engine, id, then)

    def _resume_all(self, engine: Engine) -> None:
        for id in self._ids:
            self._order(engine, id, RESUME)

    def _tick(self) -> None:
        with self.history.acting():
            self.repaired += self._observer.tick().repaired

    def _wait_for_the_end(self) -> None:
        try:
            wait_until(self._have_ended, "the end of all requests", timeout=_LONGEST)
        except AssertionError as error:
            self.errors.append(f"I1: {error}")

    def _work(self, engine: Engine) -> None:
        while not self._is_over.is_set():
            forward = self.outside.take()
            if forward is None:
                time.sleep(0.0005)
                continue
            again: tuple[Any, ...] = ()
            try:
                message = engine._parts.codec.decode(forward.body, forward.request_id, self._clock.now())
                with self.history.delivery(message):
                    engine.deliver(forward.request_id, forward.body)
            except TryAgainError as error:
                again = forward, error.retry_after or 0.1
            except Exception as error:
                self.errors.append(f"a delivery raised {error!r}")
            finally:
                self.outside.done(*again)

    def _steer(self, engine: Engine, number: int) -> None:
        chance = random.Random(f"{self.seed} {number}")
        for _ in range(self.orders_each):
            wanted = chance.choices((PAUSE, RESUME, STOP), weights=(1, 1, 2 * self.stops))[0]
            self._order(engine, chance.choice(self._ids), wanted)
            time.sleep(chance.random() * 0.004)

    def _order(self, engine: Engine, id: str, command: str) -> None:
        begin = len(self.history)
        try:
            with self.history.acting(id):
                answer = str(getattr(engine, command)(id))
        except (RequestConflictError, RequestNotFoundError) as error:
            answer = type(error).__name__
        except FaasflowError as error:
            self.errors.append(f"{command} raised {error!r}")
            return
        with self.history.lock:
            end = len(self.history)
            if answer in tuple(RequestState):
                self.history.add(Acknowledged(id, command, answer))
            self.orders.append(Order(id, command, begin, end, answer))

    def _have_ended(self) -> bool:
        """Resume what is paused, until everything has ended and is quiet."""
        states = {id: self._observer.state(id) for id in self._ids}
        for id, state in states.items():
            if state is RequestState.PAUSED:
                self._order(self._observer, id, RESUME)
        return all(state.has_ended for state in states.values()) and self.outside.is_quiet

    # What is judged

    @cached_property
    def _expected(self) -> Expected:
        definition = definer(FLOWS["six"].define(lambda what, data: None))(Context(self.name, "", ""))
        return evaluate(definition, _BODY)

    def _wrong_request(self, id: str, state: RequestState, body: bytes | None) -> Iterator[str]:
        expected, orders = self._expected, [order for order in self.orders if order.request == id]
        is_stopped = any(order.command == STOP and order.answer == RequestState.STOPPED for order in orders)
        if state is not (RequestState.STOPPED if is_stopped else RequestState.FINISHED):
            yield f"it is {state}"
        calls = Counter((one.step, one.operation) for _, one in self._calls.get(id, []))
        wanted = Counter({place: len(bodies) for place, bodies in expected.calls.items()})
        if calls - wanted:
            yield f"I6: it called too often: {dict(calls - wanted)}"
        if state is RequestState.FINISHED and wanted - calls:
            yield f"I9: it lost {dict(wanted - calls)}"
        if state is RequestState.FINISHED and body != expected.result:
            yield f"I4: its result is {body!r}"
        told = [(told_state, event) for told_id, told_state, event in self.outside.told if told_id == id]
        if len(set(told)) != 1 or told[0][0] != state:
            yield f"I13: its callback was told {told}"
        yield from self._wrong_records(id, state)
        yield from self._started_late(id, orders)
        yield from self._wrong_answers(id, state, orders)

    def _wrong_records(self, id: str, state: RequestState) -> Iterator[str]:
        story = self._observer.story(id)
        nodes: Any = story["nodes"]
        if [node["state"] for node in nodes if node["path"] == "$finally"] != ["FINISHED"]:
            yield "I10: finally_ is not recorded once"
        if story["parked"] and state is RequestState.FINISHED:
            yield f"I9: parked are still {story['parked']}"

    def _started_late(self, id: str, orders: Iterable[Order]) -> Iterator[str]:
        """Calls of deliveries that began when it was surely paused or stopped, and was still at the call: after a stop
        was acknowledged; after a pause was, where no resume was under way and nobody had begun another one."""
        resumes = [order for order in orders if order.command == RESUME]
        for order in orders:
            if order.command == RESUME or order.answer not in (RequestState.PAUSED, RequestState.STOPPED):
                continue
            until = len(self.history)
            if order.command == PAUSE:
                until = min((resume.begin for resume in resumes if resume.end > order.begin), default=until)
            for place, call in self._calls.get(id, []):
                if order.end < self._began.get(call.by, 0) and place < until:
                    yield f"{'I10' if order.command == STOP else 'I9'}: {call.operation!r} was called after {order}"

    def _wrong_answers(self, id: str, state: RequestState, orders: Iterable[Order]) -> Iterator[str]:
        accepted = self.history.events.index(self._accepted(id))
        for order in orders:
            if order.answer == RequestNotFoundError.__name__ and order.begin > accepted:
                yield f"it was not found by {order}"
            if (
                order.command == STOP
                and order.answer == RequestConflictError.__name__
                and state is RequestState.STOPPED
            ):
                yield f"it refused {order}, and is stopped"

    def _accepted(self, id: str) -> Accepted:
        return Accepted(id, self.name, _BODY, CALLBACK)

    @cached_property
    def _calls(self) -> dict[str, list[tuple[int, Called]]]:
        """The calls of functions for each request, with their places in the history."""
        found: dict[str, list[tuple[int, Called]]] = {}
        for place, event in enumerate(self.history):
            if isinstance(event, Called) and not event.event:
                found.setdefault(event.request, []).append((place, event))
        return found

    @cached_property
    def _began(self) -> dict[Actor, int]:
        """Where in the history each began to act."""
        return {event.by: place for place, event in enumerate(self.history) if isinstance(event, Began)}

    def _wrong_handlers(self) -> Iterator[str]:
        wanted = Counter({state.outcome: count for state, count in self.ends.items()})
        ran = Counter(data for what, data in self.notes if what == "finally")
        if ran != wanted:
            yield f"I10: finally_ ran for {dict(ran)}, where the requests ended with {dict(wanted)}"

    def _let_timers_go(self) -> None:
        self._clock.shift += 300.0
        self._tick()
        if self.repaired:
            self.errors.append(f"I9: the clock found {self.repaired} steps to forward")
        if self._observer.next_timer() is not None:
            self.errors.append("I12: a timer of an ended request is left")

    def _left_over(self) -> list[str]:
        self._clock.shift += 3 * _LIFETIME
        self._tick()
        state, data = self.open_stores()
        prefix = f"faasflow/{self.name}/"
        values = [key for id in self._ids for key in data.configure(self.name, id).list("")]
        keys = [*(key for key in state.keys(prefix) if key != f"{prefix}$clock"), *values]
        return [f"I12: {key!r} is left after retention" for key in keys]


def try_races(store: str, seeds: Iterable[int], **options: Any) -> list[str]:
    """Race once with each seed; what was wrong. The store is `sqlite`, a `consul` of its own, or named by a URL."""
    flaws: list[str] = []
    with url_of(store) as url:
        for seed in seeds:
            again = f"python -m tests.battery.control_race --store {store.partition(':')[0]} --first {seed} --seeds 1"
            found = race_at(url, seed, is_recorded=seed % 2 == 0, **options)[1]
            flaws += [f"seed {seed}: {flaw}. Again: {again}" for flaw in found]
    return flaws


def race_at(url: str, seed: int, *, stampede: bool = False, **options: Any) -> tuple[Race, list[str]]:
    """One race or stampede on the store at `url`, and what was wrong about it."""
    with TemporaryDirectory(prefix="race-") as folder, ExitStack() as opened:

        def open_stores() -> tuple[StateStore, DataStore]:
            state, data = open_state_store(url), open_data_store(f"sqlite://{folder}/data.db")
            for one in (state, data):
                one.init()
                opened.callback(one.close)
            return state, data

        race = Race(f"race-{seed}-{time.monotonic_ns()}", seed, open_stores, **options)
        (race.stampede if stampede else race.run)()
        return race, race.flaws()


@contextmanager
def url_of(store: str) -> Iterator[str]:
    """The URL of a store that goes with the block, unless it is one already."""
    with TemporaryDirectory(prefix="race-") as name, ExitStack() as opened:
        if store == "consul":
            server = ConsulServer(Path(name) / "consul")
            opened.callback(server.kill)
            server.start()
            yield server.url
        else:
            yield f"sqlite://{name}/state.db" if store == "sqlite" else store


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.battery.control_race", description=__doc__)
    parser.add_argument("--store", default="sqlite", help="sqlite, consul (started for this), or a store's URL")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    flaws = try_races(options.store, range(options.first, options.first + options.seeds))
    for flaw in flaws:
        print(flaw, file=sys.stderr)
    print(f"{options.seeds} races on {options.store}, {len(flaws)} flaws, {time.monotonic() - began:.1f} s")
    return 1 if flaws else 0


if __name__ == "__main__":
    raise SystemExit(_main())
