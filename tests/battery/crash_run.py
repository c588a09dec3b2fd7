"""One run of a flow whose workers are killed at given points, and what was wrong about it.

The functions, the queue, the callers and the time live here, in the parent of the workers, and survive them. One
worker is at work at a time; when it dies, the next one is forked and goes on with what is left: the messages of a
queue that redelivers, or the ledger alone.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from faasflow.engine.context import Context
from faasflow.engine.engine import Answer
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.message import Message, MessageCodec
from faasflow.engine.plan import first_step
from faasflow.engine.position import Step
from faasflow.engine.records import RequestRecord, load
from faasflow.ports import Forward, OutgoingCall, Response
from faasflow.runtime import definer
from tests.battery.crash_flows import LIFETIME, CrashFlow
from tests.battery.crash_worker import KEY, LEFT, Ask, Life, Refusal, Told, live
from tests.battery.history import (
    Accepted,
    Acknowledged,
    Answered,
    Began,
    Cleared,
    Done,
    Fault,
    History,
    Wrote,
    called,
    forwarded,
)

REQUEST_ID = "request"
BODY = b"x"

_BEGINNING = 1_700_000_000.0
_UNTIL_NEXT_LIFE = 0.1
_UNTIL_NEXT_TRY = 1.0
_LONGEST = 200
_NOT_LEFT_OVER = "$clock"


class Queue(StrEnum):
    """What becomes of a message whose delivery did not end well. A queue that loses takes it for delivered, as that of
    OpenFaaS CE does; its callers repeat only a command that did not take hold."""

    RETRIES = "retries"
    LOSES = "loses"


@dataclass(frozen=True)
class Stores:
    """Where runs keep their state and their data. In a URL `{run}` stands for the name of the run."""

    state_url: str
    data_url: str

    def of(self, run: str) -> tuple[str, str]:
        """The two URLs for one run."""
        return self.state_url.replace("{run}", run), self.data_url.replace("{run}", run)


@dataclass(frozen=True)
class Effect:
    """A call, or code of the handler that ran, as the world outside saw it."""

    what: str
    body: bytes
    attempt: str = ""
    key: str = ""
    life: int = 0


class WorkerDied(Exception):
    """The worker was killed while it did what it was asked for."""


class Stuck(Exception):
    """Nothing goes on any more, or for ever."""


@dataclass
class _Waiting:
    due: float
    message: Forward


@dataclass
class Run:
    """The world around the workers of one run. `name` is the flow's in the stores; the first worker dies at point
    `kills[0]` of its operations, the second at `kills[1]`, and so on."""

    name: str
    flow: CrashFlow
    stores: Stores
    queue: Queue
    kills: Sequence[int] = ()
    now: float = _BEGINNING
    history: History = field(default_factory=History)
    effects: list[Effect] = field(default_factory=list)
    operations: list[Sequence[str]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    seen_keys: set[str] = field(default_factory=set)
    steps: dict[str, Step] = field(default_factory=dict)
    deaths: list[float] = field(default_factory=list)
    answer: Answer | None = None
    ended: float = 0.0

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._sent = Counter[str]()
        self._waiting: list[_Waiting] = []
        self._link: Connection | None = None
        self._pid = 0
        self._life = -1
        self._rounds = 0
        self._is_over = False
        self._codec = MessageCodec(self.name, KEY)
        self.definition = definer(self.flow.define(lambda name, data: None))(Context(self.name, "", ""))

    def play(self) -> None:
        """Start the request, do what its caller does, and go on until nothing of it is left."""
        self.command("start")
        self.flow.script(self)
        self._clean_up()

    def command(self, name: str) -> None:
        arguments = (BODY,) if name == "start" else (REQUEST_ID,)
        while not self._took_hold(name):
            try:
                answer = self._ask(name, *arguments)
            except WorkerDied:
                continue
            except Refusal as refusal:
                if self.deaths and not refusal.is_temporary and self._is_done(name):
                    break
                self._wait_for(refusal)
                continue
            self._answered(name, answer)
            return
        self._answered(name, self._record.state)

    def until_called(self, function: str) -> None:
        while not any(effect.what == function for effect in self.effects):
            self._step()

    def until_quiet(self) -> None:
        for _ in range(2):
            while self._waiting:
                self._step()
            self.now += 60.0
            self._tick()
        while self._waiting:
            self._step()

    def until_ended(self) -> None:
        while not self._is_ended or self._waiting:
            self._step()
        self.ended = self.now
        self.answer = self._ask("answer", REQUEST_ID, is_counted=False)

    def until_removed(self) -> None:
        self.now += LIFETIME + 1.0
        while self.stored:
            self._tick()
            self.now += 60.0
            self._count_round()

    def end_worker(self) -> None:
        """End the worker that is still there."""
        if self._link is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._link.close()
            self._link = None

    @property
    def repair(self) -> float:
        """Virtual seconds from the last death to the end, 0 without one before it."""
        deaths = [death for death in self.deaths if death < self.ended]
        return self.ended - deaths[-1] if deaths else 0.0

    @property
    def _record(self) -> RequestRecord:
        return load(self.stored["request"], RequestRecord, "request")

    @property
    def _is_ended(self) -> bool:
        record = self._record
        return record.state.has_ended and all(f"node/{name}" in self.stored for name in record.closing)

    def _took_hold(self, command: str) -> bool:
        """Whether a caller who was not answered leaves it at that, because the command had its effect."""
        return self.queue is Queue.LOSES and bool(self.deaths) and self._is_done(command)

    def _is_done(self, command: str) -> bool:
        if "request" not in self.stored:
            return False
        state = self._record.state
        effects = {
            "start": True,
            "pause": state is RequestState.PAUSED,
            "resume": state is not RequestState.PAUSED,
            "stop": state is RequestState.STOPPED,
            "retry": state is not RequestState.FAILED,
        }
        return effects[command]

    def _answered(self, command: str, answer: Answer | RequestState) -> None:
        if command == "start":
            self.history.add(Accepted(REQUEST_ID, self.name, BODY, self.flow.callback))
        else:
            self.history.add(Acknowledged(REQUEST_ID, command, str(answer)))

    def _step(self) -> None:
        self._count_round()
        if self._waiting:
            self._deliver()
            return
        due = self._ask("next_timer", is_counted=False)
        if due is None:
            raise Stuck(f"no message is queued and no timer set, and the request is {self._record.state}")
        self.now = max(self.now, due)
        self._tick()

    def _count_round(self) -> None:
        self._rounds += 1
        if self._rounds > _LONGEST:
            raise Stuck(f"{_LONGEST} deliveries and ticks were not enough")

    def _deliver(self) -> None:
        waiting = min(self._waiting, key=lambda one: one.due)
        self._waiting.remove(waiting)
        self.now = max(self.now, waiting.due)
        message = waiting.message
        try:
            self._ask("deliver", message.request_id, message.body)
        except WorkerDied:
            self._redeliver(message, 0.0)
        except Refusal as refusal:
            if not refusal.is_temporary:
                raise
            self._redeliver(message, refusal.wait or _UNTIL_NEXT_TRY)

    def _redeliver(self, message: Forward, delay: float) -> None:
        if self.queue is Queue.RETRIES:
            self._waiting.append(_Waiting(self.now + delay, message))

    def _tick(self) -> None:
        with suppress(WorkerDied):  # the next one comes by itself
            self._ask("tick")

    def _wait_for(self, refusal: Refusal) -> None:
        if not refusal.is_temporary:
            raise refusal
        self._count_round()
        self.now += refusal.wait or _UNTIL_NEXT_TRY

    def _clean_up(self) -> None:
        """What comes late changes nothing, and after its time nothing is left. Nobody dies any more."""
        self._is_over = True
        self.now += 60.0
        self._tick()
        while self._waiting:
            self._step()
        if self.stored:
            self.until_removed()

    def left(self) -> list[str]:
        """What the stores still hold of the flow."""
        keys = self._ask(LEFT, REQUEST_ID, is_counted=False)
        return [key for key in keys if not key.endswith(_NOT_LEFT_OVER)]

    def _ask(self, what: str, *arguments: Any, is_counted: bool = True) -> Any:
        """What a worker answers; a new one where there is none. `WorkerDied` if it dies over it."""
        by = next(self._numbers)
        message = self._codec.decode(arguments[1], REQUEST_ID, self.now) if what == "deliver" else None
        self._begin(what, by, message)
        link = self._worker()
        options = {"request_id": REQUEST_ID, "callback": self.flow.callback} if what == "start" else {}
        link.send(Ask(what, arguments, options, self.now, is_counted and not self._is_over))
        while True:
            try:
                said = link.recv()
            except (EOFError, ConnectionResetError):
                self._bury()
                self.history.add(Done(by, "killed"))
                raise WorkerDied from None
            if isinstance(said, Told):
                return self._told(said, by)
            self._hear(said, by, message, link)

    def _told(self, said: Told, by: int) -> Any:
        self.now = said.now
        self.operations[self._life] = said.operations
        self.history.add(Done(by, said.refusal["kind"] if said.refusal else ""))
        if self._point == 2 * len(said.operations) > 0:
            self._bury()  # it answered with its last breath
        if said.refusal is not None:
            raise Refusal(**said.refusal)
        return said.value

    def _begin(self, what: str, by: int, message: Message | None) -> None:
        if message is None:
            self.history.add(Began("" if what == "tick" else REQUEST_ID, by))
        else:
            self.steps[message.step.key] = message.step
            incarnation, run = message.life
            self.history.add(Began(REQUEST_ID, by, message.step.key, message.attempt, run=run, incarnation=incarnation))

    def _hear(self, said: Any, by: int, message: Message | None, link: Connection) -> None:
        match said:
            case OutgoingCall():
                # A flow of one node is run by whoever starts it.
                step = message.step if message else first_step(self.definition)
                link.send(self._call(said, by, step.key))
            case Forward():
                self._take(said, by)
                link.send(None)
            case Wrote() | Cleared():
                self._wrote(replace(said, by=by))
            case (name, data):
                self.effects.append(Effect(name, data.encode(), life=self._life))
            case RuntimeError():
                raise said

    def _call(self, call: OutgoingCall, by: int, step: str) -> Response:
        event = called(call, self.history, step=step, by=by, number=next(self._numbers))
        self.history.add(event)
        headers = {name.lower(): value for name, value in call.headers.items()}
        key = event.event or event.key
        self.effects.append(Effect(event.operation, call.body, headers.get("x-faas-flow-attempt", ""), key, self._life))
        response = self._response(event.operation, call.body)
        self.history.add(Answered(event.call, response.status))
        return response

    def _response(self, function: str, body: bytes) -> Response:
        answer = self.flow.answers.get(function)
        if answer is None:
            return Response(200, {}, f"{function}({body.decode()})".encode())
        # A function that keeps to the idempotency key does the same for the same key.
        keys = dict.fromkeys(effect.key for effect in self.effects if (effect.what, effect.body) == (function, body))
        return answer(list(keys).index(self.effects[-1].key) + 1, body)

    def _take(self, message: Forward, by: int) -> None:
        self.history.add(forwarded(message, by, request=REQUEST_ID))
        step = self._codec.decode(message.body, REQUEST_ID, self.now).step.key
        self._sent[step] += 1
        if self._sent[step] > self.flow.drops.get(step, 0):
            self._waiting.append(_Waiting(self.now, message))

    def _wrote(self, event: Wrote | Cleared) -> None:
        self.history.add(event)
        if event.request != REQUEST_ID:
            return
        if isinstance(event, Cleared):
            self.stored.clear()
        elif event.value is None:
            self.stored.pop(event.key, None)
        else:
            self.stored[event.key] = event.value
            self.seen_keys.add(event.key)

    @property
    def _point(self) -> int:
        return self.kills[self._life] if self._life < len(self.kills) else 0

    def _worker(self) -> Connection:
        if self._link is None:
            self._life += 1
            self.operations.append([])
            life = Life(self.name, self.flow.define, *self.stores.of(self.name), LIFETIME, self._point)
            self._link, self._pid = _fork(life)
        return self._link

    def _bury(self) -> None:
        assert self._link is not None
        self._link.close()
        self._link = None
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if status != -signal.SIGKILL:
            raise RuntimeError(f"A worker ended with {status}, and not by the point it was to die at.")
        self.deaths.append(self.now)
        self.history.add(Fault("killed", REQUEST_ID))
        self.now += _UNTIL_NEXT_LIFE


def _fork(life: Life) -> tuple[Connection, int]:
    ours, theirs = Pipe()
    pid = os.fork()
    if not pid:
        ours.close()
        live(theirs, life)
    theirs.close()
    return ours, pid
