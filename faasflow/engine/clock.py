"""The clock of a flow: what is due is done, whoever lets it tick.

A tick lists the timers that are due, claims each and hands it to the workers (`firing`), so that nothing slow holds
up the others. A timer with a step forwards that step. A timer without one looks at its request, which has
exactly one of these as long as it lives: it forwards what was lost, ends what took too long, and sees to it that what
runs after the end is run. Then the tick removes what retention has ended. What cannot be read is set aside (`aside`),
and a look that fails is repeated later and later: of its request nothing else is affected.

Nothing hangs on the clock's being right: a tick too early finds nothing to do, a tick too late delays what it does.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass

import msgspec

from faasflow.engine import repair, split
from faasflow.engine.aside import Aside, Faulty
from faasflow.engine.closing import Closing
from faasflow.engine.executor import Executor
from faasflow.engine.firing import Firing, backoff, due_at
from faasflow.engine.flow_time import LATE, is_believed
from faasflow.engine.last_net import LOOKS
from faasflow.engine.ledger import StoredRequest
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.message import message_for
from faasflow.engine.parts import PARKED, Parts
from faasflow.engine.position import load_step
from faasflow.engine.rebase import Rebase
from faasflow.engine.records import RequestRecord
from faasflow.engine.removal import Removal
from faasflow.engine.repairs import Look, Repairs
from faasflow.engine.retention import Retention
from faasflow.engine.rewinder import Rewinder
from faasflow.engine.round import Round, Tick
from faasflow.engine.settlement import AGAIN
from faasflow.engine.timers import (
    Timer,
    ended_key,
    forward_timer,
    timers_prefix,
)
from faasflow.engine.work import Work
from faasflow.errors import DefinitionError, ForwardError, TryAgainError

logger = logging.getLogger(__name__)

_PAGE, _FEW = 100, 10
_WIDEST = 512
_SHORTEST_PAUSE, _PAUSE_PER_STEP = 0.1, 0.02
_LONGEST_INTERVAL = 60.0
_SWEEP_AFTER = 10.0
_SWEEP = 10
_OUTCOMES = ("node/", "branches/", "attempt/")


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """When the clock of the flow ticked last, whoever let it, and for how many seconds the oldest due timer waits. This
    process's own clock is so many seconds `ahead` of the time of the flow, or behind where that is negative."""

    last: float | None
    overdue: float
    is_late: bool
    ahead: float = 0.0


class FlowClock:
    """Does what is due for one flow. Thread-safe; any number may tick at a time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._executor = Executor(parts)
        self._closing = Closing(parts)
        self._aside = Aside(parts)
        self._repairs = Repairs(parts)
        self._firing = Firing(parts, self._aside, self._act)
        self._retention = Retention(parts, self._aside, self._remove_listed)
        self._removal = Removal(parts)
        self._longest_look = max(_LONGEST_INTERVAL, parts.repair_after)
        self._rebase = Rebase(parts, longest=self._longest_look)
        self._ticked = float("-inf")

    def tick(self, *, limit: int = _PAGE, wait: float = 0.0) -> Tick:
        """Begin everything that is due, `limit` timers at a time, and wait up to `wait` seconds for it to end."""
        round, now = Round(), self._note()
        self._firing.renew(now)
        if not self._parts.time.is_sure:
            return round.wait(0)
        self._rebase.run(now)
        self._aside.restore(now)
        after = ""
        while keys := self._parts.state.keys(timers_prefix(self._parts.flow), after=after, limit=limit):
            due = self._firing.due(keys, now)
            self._firing.fire(due, now, round)
            if len(due) < len(keys) or len(keys) < limit:
                break
            after = keys[-1]
        self._retention.begin(now, round)
        return round.wait(wait)

    def sweep(self) -> None:
        """A few of the timers that are due, unless this process has seen to them a moment ago."""
        if 0 <= self._parts.time.now() - self._ticked < _SWEEP_AFTER:
            return
        now = self._note()
        if self._parts.time.is_sure:
            keys = self._parts.state.keys(timers_prefix(self._parts.flow), limit=_SWEEP)
            self._firing.fire(self._firing.due(keys, now), now, Round())

    def status(self) -> ClockStatus:
        """Whether the clock runs."""
        time = self._parts.time
        now, sign, due = time.now(), time.last(), self._next_due()
        last = sign.ended if sign is not None else None
        overdue = max(0.0, now - due) if due is not None else 0.0
        return ClockStatus(last, overdue, last is None or now - last > LATE, time.ahead)

    def compare(self, *, patience: float) -> float:
        """How far this process's clock is ahead; see `FlowTime.compare`."""
        return self._parts.time.compare(patience=patience)

    def next_timer(self) -> float | None:
        """When the next timer is due, by the clock of this process; `None` if there is none."""
        due = self._next_due()
        return self._parts.time.begins(due) if due is not None else None

    def _next_due(self) -> float | None:
        keys = self._parts.state.keys(timers_prefix(self._parts.flow), limit=_FEW)
        return next((due for key in keys if (due := due_at(key, self._parts.flow)) is not None), None)

    def unreadable(self, *, limit: int = _PAGE) -> list[Faulty]:
        """What this version cannot read; see `Aside.faulty`."""
        return self._aside.faulty(limit=limit)

    def restore(self) -> int:
        """Put back now what was set aside and can be read; how many."""
        return self._aside.restore_now()

    def remove_unreadable(self, name: str) -> None:
        """Remove what cannot be read; see `Aside.remove`."""
        self._aside.remove(name)

    def repair(self, request_id: str, stored: StoredRequest) -> int:
        """Forward now whatever a request waits for that nobody works on; how many steps."""
        return self._repair(request_id, stored, 0, self._parts.time.now(), at_once=True)[0]

    def _note(self) -> float:
        """Say that the clock runs, and what time it is then."""
        self._parts.time.agree()
        now = self._ticked = self._parts.time.now()
        return now

    def _act(self, timer: Timer, request: StoredRequest | None, now: float, round: Round) -> Timer | None:
        """Do what a timer is for; the timer that comes after it."""
        if timer.is_start or request is None:
            self._removal.remove_start(timer.request, timer.incarnation)
            return None
        if timer.step is None:
            return self._guarded(timer, request, now, round)
        step = load_step(timer.step)
        message = message_for(timer.request, request.record, step, attempt=timer.attempt)
        try:
            self._parts.forward([message])
        except ForwardError as error:
            tries = timer.tries + 1
            wait = backoff(tries)
            logger.warning("%s It is tried again in %.0f s.", error, wait)
            due = now + wait
            return forward_timer(
                timer.request, step, due, written=now, attempt=timer.attempt, life=timer.life, tries=tries
            )
        round.add(repaired=1)
        return None

    def _guarded(self, timer: Timer, request: StoredRequest, now: float, round: Round) -> Timer | None:
        """Look after a request; one at which that fails again and again, for a reason that nobody foresaw, fails."""
        try:
            return self._look(timer, request, now, round)
        except (*AGAIN, DefinitionError):
            raise
        except Exception as error:
            if timer.tries + 1 < LOOKS or not self._executor.give_up(timer.request, request, error):
                raise
            logger.exception("The request could not be looked after: %s", type(error).__name__)
            return msgspec.structs.replace(timer, due=now + self._parts.repair_after / 2, tries=0)

    def _look(self, timer: Timer, request: StoredRequest, now: float, round: Round) -> Timer | None:
        """Look after a request; when to look again."""
        record, since, due = request.record, now, None
        recorded = timer.recorded
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
                forwarded, due, recorded = self._repair(timer.request, request, timer.recorded, now)
            except TryAgainError as error:
                logger.warning("%s", error)
                forwarded, due, since = 0, now + self._parts.repair_after / 2, timer.since
        round.add(repaired=forwarded)
        if due is None:
            return None
        if record.deadline is not None and not record.state.has_ended:
            due = min(due, max(record.deadline, now + 1.0))
        # A timer in the same millisecond would be due in this tick again, and again.
        return msgspec.structs.replace(
            timer,
            due=min(max(due, now + _SHORTEST_PAUSE), now + self._longest_look),
            since=since,
            tries=0,
            recorded=recorded,
        )

    def _close(self, timer: Timer, record: RequestRecord, now: float) -> tuple[int, float | None]:
        """Forward a message to an ended request whose closing steps are not all recorded."""
        delay = self._parts.patience(read=True)
        waiting = self._closing.waiting(timer.request, record)
        if not waiting:
            return 0, None
        is_due = any(repair.is_due(since, timer.since, now, delay) for since in waiting)
        if is_due:
            self._parts.forward([self._executor.whole(timer.request, record).message])
        return int(is_due), min(repair.next_due(since, now, delay) for since in waiting)

    def _repair(
        self, request_id: str, stored: StoredRequest, before: int, now: float, *, at_once: bool = False
    ) -> tuple[int, float, int]:
        """Forward what is due of a running request, which had so many outcomes `before`; how many steps, when to look
        again, and how many outcomes it has."""
        record = stored.record
        work = self._executor.whole(request_id, record)
        self._bound(work, stored, now)
        with work.delivering():
            if self._executor.overdue(work, stored) or self._executor.changed(work, stored):
                return 0, now + self._parts.repair_after, before
        if record.rewinds:  # by who retried the request, and died or is at it just now
            fresh = Rewinder(work.ledger, work.definition, now=now).finish(stored)
            if fresh is None:
                return 0, now + self._parts.repair_after, before
            stored, record, at_once = fresh, fresh.record, True
        keys = set(work.ledger.keys())
        if any(key.startswith(PARKED) for key in keys):
            self._parts.unpark_all(work.ledger, request_id)
        options = split.options_reader(work.ledger)
        found = list(repair.ready(work.definition, keys, options))
        if not at_once:  # else what was parked belongs to the run before, and counts no more
            found = [one for one in found if PARKED + one.step.key not in keys]
        if len(found) > _WIDEST:
            found = random.sample(found, _WIDEST)
        recorded = sum(key.startswith(_OUTCOMES) for key in keys)
        look = Look(work.ledger, stored, keys, now, at_once=at_once, has_moved=recorded != before)
        steps, due = self._repairs.judge(look, found)
        if steps:
            messages = [message_for(request_id, record, step, attempt=number, is_again=True) for step, number in steps]
            logger.warning("Forwarded again: %d of the steps that are ready.", len(messages))
            self._parts.send(work.ledger, messages)
        # Of a wide request the branches are due one after the other; a look at it costs more the wider it is.
        soonest = now + _SHORTEST_PAUSE + _PAUSE_PER_STEP * len(found)
        return len(steps), min([now + self._interval(record, now), *(max(at, soonest) for at in due)]), recorded

    def _bound(self, work: Work, stored: StoredRequest, now: float) -> None:
        """Let a request that was started by a clock that was ahead end in the time that it has."""
        deadline, timeout = stored.record.deadline, work.definition.timeout
        if deadline is not None and timeout is not None and not is_believed(deadline - timeout, now):
            work.ledger.commit(stored, create={}, change=msgspec.structs.replace(stored.record, deadline=now + timeout))
            raise TryAgainError("The request was started by a clock that is ahead; its time begins now.")

    def _interval(self, record: RequestRecord, now: float) -> float:
        """A young request is looked at more often than an old one."""
        age = max(0.0, now - record.created)
        return min(max(self._parts.repair_after / 2, age / 4), self._longest_look)

    def _remove_listed(self, key: str, request_id: str, request: StoredRequest | None) -> int:
        record = request.record if request is not None else None
        is_listed = record is not None and ended_key(self._parts.flow, request_id, record.ended or 0.0) == key
        if request is None or not is_listed:
            self._parts.state.delete(key)  # it was removed, or went on after a failure, or ended again
            return 0
        return int(self._removal.remove(request_id, request))
