"""A process that hosts an engine and dies by its own hand: SIGKILL before or after the operation whose turn it is.

Operations are the round trips to the state store and the data store, the calls, the messages handed to the queue (one
by one, as a gateway takes them), and the answer to whoever asked for something. The rest of the world (functions,
queue, callers and the time) is the parent process at the other end of a pipe.
"""

from __future__ import annotations

import logging
import math
import os
import random
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NoReturn, TypeVar

from faasflow.engine.engine import Engine
from faasflow.engine.parts import Parts
from faasflow.errors import FaasflowError, ForwardError, StoreUnavailableError, TryAgainError
from faasflow.ports import DataStore, Forward, OutgoingCall, Response, StateStore
from faasflow.runtime import definer
from faasflow.stores import open_data_store, open_state_store
from faasflow.testing.wrappers import DataStoreWrapper, StateStoreWrapper
from tests.battery.history import Event, History, RecordingStore

T = TypeVar("T")

INLINE_LIMIT = 8
"""In bytes: most results of the battery's flows go through the data store."""

LEFT = "left"
"""Asks which keys are left; everything else that is asked is a method of the engine."""

KEY = b"a key for the battery"

Note = Callable[[str, str], None]
"""Tells the parent that code of the handler ran: what, and on which data."""


@dataclass(frozen=True)
class Life:
    """What one worker is started for. It dies at point `at`: 2k - 1 is before its k-th operation, 2k after it, and 0
    never comes."""

    flow: str
    define: Callable[[Note], Callable[..., None]]
    state_url: str
    data_url: str
    retention: float
    at: int = 0


@dataclass(frozen=True)
class Ask:
    """Asks a worker to do something at a time. What is not `counted` neither counts as operations nor kills."""

    what: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    now: float
    is_counted: bool = True


class Refusal(Exception):
    """What the engine raised, named `kind`; `is_temporary` where the same may be asked again after `wait` seconds."""

    def __init__(self, kind: str, text: str, *, is_temporary: bool, wait: float) -> None:
        super().__init__(f"{kind}: {text}")
        self.is_temporary = is_temporary
        self.wait = wait


@dataclass(frozen=True)
class Told:
    """What a worker says it did: a value, or the arguments of a `Refusal`; and the names of its operations so far."""

    value: Any
    refusal: dict[str, Any] | None
    now: float
    operations: Sequence[str]


class Fuse:
    """Counts operations, and kills this process at one of them."""

    def __init__(self, at: int) -> None:
        self.names: list[str] = []
        self.is_armed = True
        self._at = at

    def pass_through(self, name: str, operation: Callable[[], T]) -> T:
        """What `operation` returns, unless the end comes before or after it."""
        if not self.is_armed:
            return operation()
        self.names.append(name)
        self._burn(2 * len(self.names) - 1)
        try:
            return operation()
        finally:
            self._burn(2 * len(self.names))

    def _burn(self, point: int) -> None:
        if point == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


class TellingHistory(History):
    """A history whose events go to the parent process."""

    def __init__(self, link: Connection) -> None:
        super().__init__()
        self._link = link

    def add(self, event: Event) -> None:
        self._link.send(event)


class FusedState(StateStoreWrapper):
    """A state store whose round trips may be the last."""

    def __init__(self, store: StateStore, fuse: Fuse) -> None:
        super().__init__(store)
        self._fuse = fuse

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        return self._fuse.pass_through(f"state {operation}", call)


class FusedData(DataStoreWrapper):
    """A data store whose round trips may be the last."""

    def __init__(self, store: DataStore, fuse: Fuse) -> None:
        super().__init__(store)
        self._fuse = fuse

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        return self._fuse.pass_through(f"data {operation}", call)


class PipeTransport:
    """Reaches the functions and the queue of the parent process."""

    def __init__(self, link: Connection, fuse: Fuse) -> None:
        self._link = link
        self._fuse = fuse

    def function_url(self, name: str) -> str:
        return f"http://gateway/function/{name}"

    def call(self, call: OutgoingCall) -> Response:
        response: Response = self._fuse.pass_through(f"call {call.function or call.url}", lambda: self._ask(call))
        return response

    def forward(self, messages: Sequence[Forward]) -> None:
        for message in messages:
            self._fuse.pass_through("forward", lambda message=message: self._ask(message))

    def _ask(self, what: OutgoingCall | Forward) -> Any:
        self._link.send(what)
        return self._link.recv()


class GivenClock:
    """The parent's time, and a millisecond more at every look at it."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        self.time += 0.001
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Worker:
    """An engine that does what it is asked for through `link`."""

    def __init__(self, link: Connection, life: Life) -> None:
        self._link = link
        self._life = life
        random.seed(life.flow.rpartition("-")[0])  # the same run does the same again
        self._fuse = Fuse(life.at)
        self._clock = GivenClock()
        self._state, self._data = open_state_store(life.state_url), open_data_store(life.data_url)
        self._engine = Engine(
            Parts(
                flow=life.flow,
                define=definer(life.define(lambda name, data: link.send((name, data)))),
                state=FusedState(RecordingStore(self._state, TellingHistory(link)), self._fuse),
                data=FusedData(self._data, self._fuse),
                transport=PipeTransport(link, self._fuse),
                clock=self._clock,
                key=KEY,
                inline_limit=INLINE_LIMIT,
                lease_after=math.inf,  # no thread beside the one that dies
                retention=life.retention,
                chance=lambda: 0.5,
            )
        )

    def serve(self) -> None:
        """Do everything that is asked for, until nobody asks any more."""
        while True:
            try:
                ask: Ask = self._link.recv()
            except EOFError:
                return
            self._clock.time = ask.now
            self._fuse.is_armed = ask.is_counted
            answer = self._do(ask)
            self._fuse.pass_through("answer", lambda answer=answer: self._tell(*answer))

    def _do(self, ask: Ask) -> tuple[Any, dict[str, Any] | None]:
        try:
            if ask.what == LEFT:
                return self._left(), None
            return getattr(self._engine, ask.what)(*ask.arguments, **ask.options), None
        except (TryAgainError, StoreUnavailableError, ForwardError) as error:
            return None, _refusal(error, is_temporary=True, wait=getattr(error, "retry_after", 0.0))
        except FaasflowError as error:
            return None, _refusal(error, is_temporary=False, wait=0.0)

    def _tell(self, value: Any, refusal: dict[str, Any] | None) -> None:
        self._link.send(Told(value, refusal, self._clock.time, self._fuse.names))

    def _left(self) -> list[str]:
        """Every key of the flow, in the state store and in the data store."""
        prefix = f"faasflow/{self._life.flow}/"
        return [*self._state.list(prefix), *self._data.list(prefix)]


def _refusal(error: FaasflowError, **fields: Any) -> dict[str, Any]:
    return {"kind": type(error).__name__, "text": str(error), **fields}


def live(link: Connection, life: Life) -> NoReturn:
    """Be a worker until the end of this process."""
    code = 1
    try:
        logging.disable(logging.CRITICAL)  # what is killed on purpose has no news for the log
        Worker(link, life).serve()
        code = 0
    except BaseException:
        link.send(RuntimeError(traceback.format_exc()))
    finally:
        os._exit(code)
