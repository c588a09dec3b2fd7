"""What an engine is made of: its ports and settings, and the few things done with them from several places."""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from faasflow import graph
from faasflow.engine.beside import Inline, Workers
from faasflow.engine.context import Context
from faasflow.engine.flow_time import FlowTime
from faasflow.engine.leases import Leases
from faasflow.engine.ledger import Ledger, StoredRequest
from faasflow.engine.message import Message, MessageCodec
from faasflow.engine.payload import INLINE_LIMIT, Payload, Payloads
from faasflow.engine.position import StepData, dump_step, load_step
from faasflow.engine.queue_wait import QueueWait
from faasflow.engine.records import Life, dump, load
from faasflow.engine.reports import Reports
from faasflow.engine.timers import forward_timer
from faasflow.errors import ForwardError
from faasflow.events import EventHandler
from faasflow.ports import Clock, DataStore, Forward, StateStore, Transport

PARKED = "parked/"

logger = logging.getLogger(__name__)
_TIMERS_AT_ONCE = 20
_REFUSED_DELAY = 2.0


class _Parked(msgspec.Struct, frozen=True, omit_defaults=True):
    step: StepData
    query: str = ""
    data: Payload | None = None
    attempt: int = 1
    run: int = 0
    trace: dict[str, str] = {}
    incarnation: str = ""


def _no_timer(due: float) -> None:
    """Nobody waits for timers in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the engine of one flow. `key` signs messages and callbacks; `callback_allow` has patterns of the
    hosts that callbacks may go to, none for any. `inline_limit` is in bytes; times are in seconds. A join loads
    at most `loads_at_once` stored values at the same time.

    A repeated delivery forwards what follows its recorded step only when that has had no record for `repair_delay`. The
    clock forwards a step again that has been ready for `repair_after`. Both wait for twice as long as messages are
    known to wait in the queue, if that is longer. A step is leased after `lease_after` of work, infinity for never, for
    the time of `lease`. Ended requests are kept for `retention`. `on_timer` is told when a timer that was set here is
    due; `events` are told what happens; `chance` gives numbers from 0 to 1 for jitter. `workers` run what the clock
    finds due. `sender` names this engine in the messages that it puts into the queue, and measures how long these wait;
    an empty one measures nothing and goes by
    its own clock. `clock` is that of this process; `time` is what the processes of the flow agree on.
    """

    flow: str
    define: Callable[[Context], graph.Definition]
    state: StateStore
    data: DataStore
    transport: Transport
    clock: Clock
    key: bytes | None = field(default=None, repr=False)
    callback_allow: tuple[str, ...] = ()
    default_method: str = "POST"
    call_timeout: float = 60.0
    inline_limit: int = INLINE_LIMIT
    loads_at_once: int = 1
    repair_delay: float = 2.0
    repair_after: float = 30.0
    lease_after: float = 1.5
    lease: float = 20.0
    retention: float = 7 * 86400.0
    on_timer: Callable[[float], None] = _no_timer
    events: Sequence[EventHandler] = ()
    chance: Callable[[], float] = random.random
    workers: Workers = field(default_factory=Inline, repr=False)
    sender: str = field(default_factory=lambda: secrets.token_hex(4))
    leases: Leases = field(init=False, repr=False)
    queue: QueueWait = field(init=False, repr=False)
    time: FlowTime = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", FlowTime(self.state, self.flow, self.clock, self.sender))
        object.__setattr__(self, "leases", Leases(self.time, after=self.lease_after, duration=self.lease))
        object.__setattr__(self, "queue", QueueWait(self.state, self.flow, self.clock, self.sender))

    @property
    def codec(self) -> MessageCodec:
        return MessageCodec(self.flow, self.key, sender=self.sender)

    def ledger(self, request_id: str) -> Ledger:
        """The ledger of one request."""
        return Ledger(self.state, self.flow, request_id)

    def payloads(self, request_id: str, incarnation: str, before_write: Callable[[], None] = lambda: None) -> Payloads:
        """The values of one incarnation of a request."""
        view = self.values(request_id, incarnation)
        return Payloads(view, limit=self.inline_limit, before_write=before_write, loads_at_once=self.loads_at_once)

    def values(self, request_id: str, incarnation: str) -> DataStore:
        """What the data store holds of one incarnation of a request. Each has a place of its own, so that a late write
        or removal of an earlier one reaches nothing of a later one."""
        place = f"{request_id}.{incarnation}" if incarnation else request_id
        return self.data.configure(self.flow, place)

    def reports(self, request_id: str) -> Reports:
        """Who is told of one delivery of a request."""
        return Reports(self.events, self.flow, request_id, now=self.time.now)

    def forward(self, messages: Iterable[Message]) -> None:
        """Sign messages and hand them to the queue; `ForwardError` if it does not take them all."""
        codec, now, put = self.codec, self.time.now(), self.clock.now()
        self.transport.forward(
            [Forward(self.flow, message.request_id, codec.encode(message, now, put=put)) for message in messages]
        )

    def wake(self, due: float) -> None:
        """Tell who waits for timers in this process of one."""
        self.on_timer(self.time.own(due))

    def patience(self, *, read: bool = False) -> float:
        """For how many seconds a step may be ready before it is forwarded again: long enough for a message that only
        waits. With `read` what others know of the queue is looked up."""
        return max(self.repair_after, 2 * self.queue.longest(self.repair_after, read=read))

    def park(self, ledger: Ledger, request: StoredRequest, message: Message) -> bool:
        """Keep a message until its paused request is resumed; False if the request has changed since it was read."""
        step = dump_step(message.step)
        life = message.life
        parked = _Parked(step, message.query, message.data, message.attempt, life.run, message.trace, life.incarnation)
        return ledger.commit(request, create={}, put={PARKED + message.step.key: dump(parked)}).is_done

    def unpark(self, request_id: str, key: str, value: bytes) -> Message:
        """The message that was kept under `key`."""
        parked = load(value, _Parked, key)
        step = load_step(parked.step)
        life = Life(parked.incarnation, parked.run)
        return Message(request_id, step, parked.query, parked.data, parked.attempt, life, parked.trace)

    def unpark_all(self, ledger: Ledger, request_id: str) -> None:
        """Forward every message that was kept for a request, each by whoever removes it. A few are removed at a time,
        so that few are missing if that is cut off; where the queue takes no more, the rest is left to the clock."""
        taken = ledger.take(PARKED)
        while some := [self.unpark(request_id, key, value) for key, value in islice(taken, _TIMERS_AT_ONCE)]:
            if not self.send(ledger, some):
                break

    def send(self, ledger: Ledger, messages: Sequence[Message]) -> bool:
        """Forward messages of one request. If the queue does not take them all (False), they are left to the clock, so
        that nothing hangs on the caller."""
        if not messages:
            return True
        try:
            self.forward(messages)
            return True
        except ForwardError as error:
            logger.warning("%s The clock repeats it.", error)
            now = self.time.now()
            due = now + _REFUSED_DELAY
            timers = (
                forward_timer(one.request_id, one.step, due, written=now, attempt=one.attempt, life=one.life)
                for one in messages
            )
            while some := list(islice(timers, _TIMERS_AT_ONCE)):
                ledger.set_timers(some)
            self.wake(due)
            return False
