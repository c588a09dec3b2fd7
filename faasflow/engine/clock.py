"""The clock of a flow: what is due is done, whoever lets it tick.

A tick lists the timers that are due, claims each by moving it ahead (a compare-and-set, so of many clocks one has it,
and one that dies in between leaves it to the next) and acts on it. A timer with a step forwards that step. A timer
without one looks at its request, which has exactly one of these as long as it lives: it forwards what was lost, ends
what took too long, and sees to it that what runs after the end is run. Then the tick removes what retention has ended.

Nothing hangs on the clock's being right: a tick too early finds nothing to do, a tick too late delays what it does.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from faasflow.engine import repair, split
from faasflow.engine.closing import Closing, is_closing
from faasflow.engine.executor import Executor
from faasflow.engine.ledger import Ledger, StoredRequest, index_key, read_requests
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.message import Message
from faasflow.engine.parts import PARKED, Parts
from faasflow.engine.position import Step, load_step
from faasflow.engine.records import AttemptRecord, RequestRecord, dump, load
from faasflow.engine.repair import Ready
from faasflow.engine.timers import (
    Timer,
    clock_key,
    due_of,
    ended_key,
    ended_prefix,
    failed_key,
    forward_timer,
    timers_prefix,
)
from faasflow.errors import FaasflowError, ForwardError, StoreUnavailableError, TryAgainError
from faasflow.ports import Check, Delete, Entry, Op, Put
from faasflow.scope import Scope, entered

logger = logging.getLogger(__name__)

LATE = 120.0
"""A clock that did not tick for so many seconds does not run."""

_CLAIM = 60.0
_NOTED = 5.0
_PAGE = 100
_WIDEST = 512
_SHORTEST_PAUSE, _PAUSE_PER_STEP = 0.1, 0.02
_LONGEST_INTERVAL = 60.0
_LONGEST_BACKOFF = 60.0
_SWEEP_AFTER = 10.0
_SWEEP = 10


@dataclass(slots=True)
class Tick:
    """What a tick did: timers that were due, steps that were forwarded, requests that were removed."""

    fired: int = 0
    repaired: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """When the clock of the flow ticked last, whoever let it, and for how many seconds the oldest due timer waits."""

    last: float | None
    overdue: float
    is_late: bool


class _Ended(msgspec.Struct, frozen=True):
    """When a record of any kind was written."""

    ended: float


class FlowClock:
    """Does what is due for one flow. Thread-safe; any number may tick at a time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._executor = Executor(parts)
        self._closing = Closing(parts)
        self._ticked = self._noted = self._retained = float("-inf")

    def tick(self, *, limit: int = _PAGE) -> Tick:
        """Do everything that is due, `limit` timers at a time."""
        done = Tick()
        now = self._note()
        while due := self._due(now, limit):
            if not self._fire_all(due, now, done):
                break
        done.removed = self._retain(now)
        return done

    def sweep(self) -> None:
        """A few of the timers that are due, unless this process has seen to them a moment ago."""
        if 0 <= self._parts.clock.now() - self._ticked < _SWEEP_AFTER:
            return
        now = self._note()
        self._fire_all(self._due(now, _SWEEP), now, Tick())

    def status(self) -> ClockStatus:
        """Whether the clock runs."""
        now = self._parts.clock.now()
        flow, state = self._parts.flow, self._parts.state
        entry = state.read([clock_key(flow)]).get(clock_key(flow))
        last = load(entry.value, _Ended, "$clock").ended if entry is not None else None
        overdue = max(0.0, now - next(iter(self._timers(1)), (now, ""))[0])
        return ClockStatus(last, overdue, last is None or now - last > LATE)

    def next_timer(self) -> float | None:
        """When the next timer is due; `None` if there is none."""
        return next((due for due, _ in self._timers(1)), None)

    def repair(self, request_id: str, stored: StoredRequest) -> int:
        """Forward now whatever a request waits for that nobody works on; how many steps."""
        return self._repair(request_id, stored, float("-inf"), self._parts.clock.now(), at_once=True)[0]

    def remove(self, request_id: str, record: RequestRecord | None) -> None:
        """Remove all that is stored of an ended request."""
        flow, state = self._parts.flow, self._parts.state
        self._parts.data.configure(flow, request_id).cleanup()
        # What leads to the request goes before what says where that is, and the list of ended requests, which leads to
        # what is left to remove, goes last.
        if record is not None:
            state.delete(index_key(flow, request_id, record.created))
            state.delete(failed_key(flow, request_id, record.ended or 0.0))
        state.configure(flow, request_id).cleanup()
        if record is not None:
            state.delete(ended_key(flow, request_id, record.ended or 0.0))

    def _note(self) -> float:
        """Say that the clock runs."""
        now = self._ticked = self._parts.clock.now()
        if not 0 <= now - self._noted < _NOTED:
            self._parts.state.set(clock_key(self._parts.flow), dump(_Ended(now)))
            self._noted = now
        return now

    def _timers(self, limit: int) -> list[tuple[float, str]]:
        keys = self._parts.state.keys(timers_prefix(self._parts.flow), limit=limit)
        return [(due_of(key, self._parts.flow), key) for key in keys]

    def _due(self, now: float, limit: int) -> list[str]:
        keys = [key for due, key in self._timers(limit) if due <= now]
        random.shuffle(keys)  # so that clocks that tick together do not all want the same one
        return keys

    def _fire_all(self, keys: list[str], now: float, done: Tick) -> int:
        """Act on timers; how many were claimed."""
        entries = self._parts.state.read(keys)
        timers = {key: load(entry.value, Timer, key) for key, entry in entries.items()}
        requests = read_requests(self._parts.state, self._parts.flow, {timer.request for timer in timers.values()})
        claimed = 0
        for key, timer in timers.items():
            claimed += self._fire(key, entries[key], timer, requests.get(timer.request), now, done)
        done.fired += claimed
        return claimed

    def _fire(
        self, key: str, entry: Entry, timer: Timer, request: StoredRequest | None, now: float, done: Tick
    ) -> bool:
        if request is None or self._is_over(timer, request.record):
            return self._move(key, entry, [])
        claim = msgspec.structs.replace(timer, due=now + _CLAIM)
        if not self._move(key, entry, [claim]):
            return False
        following: Timer | None = claim
        with entered(Scope(self._parts.flow, timer.request)):
            try:
                following = self._act(timer, request, now, done)
            except StoreUnavailableError:
                raise
            except (FaasflowError, RecursionError) as error:
                logger.warning("The request could not be looked after: %s", error)
        if following is not claim:
            self._replace(claim, following)
        return True

    def _is_over(self, timer: Timer, record: RequestRecord) -> bool:
        if timer.run != record.run:
            return True
        if timer.step is not None:
            return record.state.has_ended and not is_closing(load_step(timer.step))
        return record.state.has_ended and not record.closing

    def _move(self, key: str, entry: Entry, to: list[Timer]) -> bool:
        """Replace a timer by others, if it is as it was read."""
        ops: list[Op] = [Check(key, entry.version), Delete(key)]
        ops += [Put(timer.key(self._parts.flow), dump(timer)) for timer in to]
        return self._parts.state.transact(ops).committed

    def _replace(self, claim: Timer, following: Timer | None) -> None:
        flow = self._parts.flow
        ops: list[Op] = []
        if following is not None:
            ops.append(Put(following.key(flow), dump(following)))
            self._parts.on_timer(following.due)
        if following is None or following.key(flow) != claim.key(flow):  # both may be due in the same millisecond
            ops.append(Delete(claim.key(flow)))
        self._parts.state.transact(ops)

    def _act(self, timer: Timer, request: StoredRequest, now: float, done: Tick) -> Timer | None:
        """Do what a timer is for; the timer that comes after it."""
        if timer.step is None:
            return self._look(timer, request, now, done)
        step = load_step(timer.step)
        message = Message(timer.request, step, request.record.query, attempt=timer.attempt, run=timer.run)
        try:
            self._parts.forward([message])
        except ForwardError as error:
            tries = timer.tries + 1
            wait = min(_LONGEST_BACKOFF, 2.0 ** min(tries, 10))
            logger.warning("%s It is tried again in %.0f s.", error, wait)
            due = now + wait
            return forward_timer(timer.request, step, due, attempt=timer.attempt, run=timer.run, tries=tries)
        done.repaired += 1
        return None

    def _look(self, timer: Timer, request: StoredRequest, now: float, done: Tick) -> Timer | None:
        """Look after a request; when to look again."""
        record, since, due = request.record, now, None
        if record.state.has_ended:
            forwarded, due = self._close(timer, record, now)
        elif record.state is RequestState.PAUSED:
            # What was lost before or during the pause is due when it is over. The time of the request goes on.
            forwarded, due, since = 0, now + self._interval(record, now), timer.since
            if record.deadline is not None and now >= record.deadline:
                work = self._executor.whole(timer.request, record)
                with work.delivering():
                    self._executor.overdue(work, request)
        else:
            try:
                forwarded, due = self._repair(timer.request, request, timer.since, now)
            except (ForwardError, TryAgainError) as error:
                logger.warning("%s", error)
                forwarded, due, since = 0, now + self._parts.repair_after / 2, timer.since
        done.repaired += forwarded
        if due is None:
            return None
        if record.deadline is not None and not record.state.has_ended:
            due = min(due, max(record.deadline, now + 1.0))
        # A timer in the same millisecond would be due in this tick again, and again.
        return msgspec.structs.replace(timer, due=max(due, now + _SHORTEST_PAUSE), since=since)

    def _close(self, timer: Timer, record: RequestRecord, now: float) -> tuple[int, float | None]:
        """Forward a message to an ended request whose closing steps are not all recorded."""
        delay = self._parts.repair_after
        waiting = self._closing.waiting(timer.request, record)
        if not waiting:
            return 0, None
        is_due = any(repair.is_due(since, timer.since, now, delay) for since in waiting)
        if is_due:
            self._parts.forward([self._executor.whole(timer.request, record).message])
        return int(is_due), min(repair.next_due(since, now, delay) for since in waiting)

    def _repair(
        self, request_id: str, stored: StoredRequest, last: float, now: float, *, at_once: bool = False
    ) -> tuple[int, float]:
        """Forward what is due of a running request; how many steps, and when to look again."""
        record = stored.record
        work = self._executor.whole(request_id, record)
        with work.delivering():
            if self._executor.overdue(work, stored) or self._executor.changed(work, stored):
                return 0, now + self._parts.repair_after
        keys = set(work.ledger.keys())
        if any(key.startswith(PARKED) for key in keys):
            self._parts.unpark_all(work.ledger, request_id)
        options = split.options_reader(work.ledger)
        found = list(repair.ready(work.definition, keys, options))
        if not at_once:  # else what was parked belongs to the run before, and counts no more
            found = [one for one in found if PARKED + one.step.key not in keys]
        if len(found) > _WIDEST:
            found = random.sample(found, _WIDEST)
        steps, due = self._judge(work.ledger, record, found, keys, last, now, at_once=at_once)
        messages = [Message(request_id, step, record.query, attempt=attempt, run=record.run) for step, attempt in steps]
        if messages:
            logger.warning("Forwarded again: %d of the steps that are ready.", len(messages))
            self._parts.forward(messages)
        # Of a wide request the branches are due one after the other; a look at it costs more the wider it is.
        soonest = now + _SHORTEST_PAUSE + _PAUSE_PER_STEP * len(found)
        return len(messages), min([now + self._interval(record, now), *(max(at, soonest) for at in due)])

    def _judge(
        self,
        ledger: Ledger,
        record: RequestRecord,
        found: list[Ready],
        keys: set[str],
        last: float,
        now: float,
        *,
        at_once: bool,
    ) -> tuple[list[tuple[Step, int]], list[float]]:
        """Of the steps that could run, those to forward now, each with its attempt; and when others are due."""
        numbers = _attempt_numbers(keys)
        wanted = {key for one in found for key in self._evidence(one, numbers, keys)}
        entries = ledger.read(sorted(wanted)).entries if wanted else {}
        delay, steps, later = self._parts.repair_after, [], []
        for one in found:
            number = numbers.get(one.step.attempts, 0)
            since, patience = self._since(one, number, entries, record, now), delay
            if since > now:
                later.append(since)
                continue
            if one.step.lease in entries:
                # Its holder let it end: there is nothing to be patient about.
                since, patience = since - delay, delay
            if at_once or repair.is_due(since, last, now, patience):
                steps.append((one.step, number + 1))
            later.append(repair.next_due(since, now, patience))
        return steps, later

    def _evidence(self, ready: Ready, numbers: dict[str, int], keys: set[str]) -> list[str]:
        """The records that say since when a step waits."""
        step = ready.step
        if step.lease in keys:
            return [step.lease]
        if number := numbers.get(step.attempts, 0):
            return [f"{step.attempts}{number}"]
        return list(ready.since)

    def _since(
        self, ready: Ready, number: int, entries: Mapping[str, bytes], record: RequestRecord, now: float
    ) -> float:
        step = ready.step
        if step.lease in entries:
            return now + self._parts.leases.left(entries[step.lease], step.lease)
        key = f"{step.attempts}{number}"
        if key in entries:
            times = [load(entries[key], AttemptRecord, key).next]
        else:
            times = [load(entries[key], _Ended, key).ended for key in ready.since if key in entries]
        # What a pause has parked was forwarded when it was resumed, and waits since then.
        return max(record.resumed, max(times, default=record.created))

    def _interval(self, record: RequestRecord, now: float) -> float:
        """A young request is looked at more often than an old one."""
        age = max(0.0, now - record.created)
        return min(max(self._parts.repair_after / 2, age / 4), max(_LONGEST_INTERVAL, self._parts.repair_after))

    def _retain(self, now: float) -> int:
        """Remove the requests that ended longer ago than they are kept."""
        every = min(60.0, self._parts.retention / 2)
        if 0 <= now - self._retained < every:
            return 0
        self._retained = now
        latest, removed = now - self._parts.retention, 0
        prefix = ended_prefix(self._parts.flow)
        while True:
            listed = self._parts.state.list(prefix, limit=_PAGE)
            old = {key: id for key, id in listed.items() if _ended_of(key, prefix) < latest}
            if not old:
                return removed
            requests = read_requests(self._parts.state, self._parts.flow, {id.decode() for id in old.values()})
            for key, id in old.items():
                removed += self._remove_listed(key, id.decode(), requests.get(id.decode()))

    def _remove_listed(self, key: str, request_id: str, request: StoredRequest | None) -> int:
        record = request.record if request is not None else None
        if record is not None and (
            record.ended is None or ended_key(self._parts.flow, request_id, record.ended) != key
        ):
            self._parts.state.delete(key)  # it went on after a failure, or ended again
            return 0
        self.remove(request_id, record)
        self._parts.state.delete(key)
        return 1


def _attempt_numbers(keys: Iterable[str]) -> dict[str, int]:
    """How many attempts are recorded, by the prefix of their keys."""
    numbers: dict[str, int] = {}
    for key in keys:
        if key.startswith("attempt/"):
            prefix, _, number = key.rpartition("/")
            numbers[prefix + "/"] = max(numbers.get(prefix + "/", 0), int(number))
    return numbers


def _ended_of(key: str, prefix: str) -> float:
    return int(key.removeprefix(prefix).partition("/")[0]) / 1000
