"""Which of the steps that could run are forwarded again at a look of the clock, each by a claim (`again`).

How long a step has been ready is compared with the clock's patience, which is longer than messages are known to wait in
the queue. A request of which something was recorded since the last look is making progress, and is left alone for
longer: its queue works, and what it waits for is more likely late than lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from faasflow.engine import again, attempts, repair
from faasflow.engine.flow_time import is_believed
from faasflow.engine.ledger import Ledger, StoredRequest
from faasflow.engine.parts import Parts
from faasflow.engine.position import Step
from faasflow.engine.records import AttemptRecord, LeaseRecord, load
from faasflow.engine.repair import Ready

_MOST_SEEN = 10_000
_MOVING = 4
"""So many times the patience for a request that is making progress."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a running request: as it was read, its keys, when. With `at_once` nothing is waited for;
    with `has_moved` something was recorded since the last look."""

    ledger: Ledger
    request: StoredRequest
    keys: set[str]
    now: float
    at_once: bool = False
    has_moved: bool = False


class Repair(NamedTuple):
    """A step to forward again, and which attempt at it."""

    step: Step
    attempt: int


class _Ended(msgspec.Struct, frozen=True):
    """When a record of any kind was written."""

    ended: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A step that waits `since` then; `rounds` is what the claims on it start with. The round `first` can be claimed
    at once, `last` is the last one that was."""

    repair: Repair
    since: float
    rounds: str
    first: int
    last: int

    def due(self, now: float, patience: float) -> str:
        """The claim that is due, if one is."""
        number = repair.round_of(now - self.since, patience)
        is_due = now >= self.since and number >= self.first and number > self.last
        return f"{self.rounds}{number}" if is_due else ""

    def next(self, now: float, patience: float) -> float:
        return self.since if self.since > now else repair.next_due(self.since, now, patience)


class Repairs:
    """Decides for one flow what is forwarded again. Thread-safe."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._seen: dict[str, float] = {}

    def judge(self, look: Look, found: Iterable[Ready]) -> tuple[list[Repair], list[float]]:
        """Of the steps that could run, those to forward now, which are claimed; and when others are due."""
        waiting = self._waiting(look, list(found))
        patience = self._parts.patience()
        if _due(look, waiting, patience):
            patience = self._parts.patience(read=True)
        repairs = again.claimed(look.ledger, look.request, _due(look, waiting, patience))
        return repairs, [one.next(look.now, patience) for one in waiting]

    def _waiting(self, look: Look, found: list[Ready]) -> list[_Waiting]:
        numbers, last = attempts.counts(look.keys), again.rounds(look.keys)
        wanted = {key for one in found for key in _evidence(one, numbers, look.keys)}
        entries = look.ledger.read(sorted(wanted)).entries if wanted else {}
        waiting = []
        for one in found:
            attempt = numbers.get(one.step.attempts, 0) + 1
            since, name = self._since(one, attempt - 1, entries, look)
            rounds = again.rounds_key(look.request.record.run, one.step, attempt, name)
            first = 0 if look.at_once or one.step.lease in entries else 1
            waiting.append(_Waiting(Repair(one.step, attempt), since, rounds, first, last.get(rounds, -1)))
        return waiting

    def _since(self, ready: Ready, number: int, entries: Mapping[str, bytes], look: Look) -> tuple[float, str]:
        """Since when a step waits, and what names that in a claim."""
        lease = ready.step.lease
        if lease in entries:  # its holder let it end: there is nothing to be patient about
            left = self._parts.leases.left(entries[lease], lease)
            return look.now + left, load(entries[lease], LeaseRecord, lease).owner
        key = f"{ready.step.attempts}{number}"
        record = look.request.record
        name = f"{int(record.resumed * 1000)}"
        if key in entries:
            failed = load(entries[key], AttemptRecord, key)
            times, written = [failed.next], failed.ended
        else:
            times = [load(entries[key], _Ended, key).ended for key in ready.since if key in entries]
            written = max(times, default=record.created)
        if not is_believed(max(written, record.resumed), look.now):
            return self._first_seen(look, ready.step), name
        # What a pause has parked was forwarded when it was resumed, and waits since then.
        return max(record.resumed, max(times, default=record.created)), name

    def _first_seen(self, look: Look, step: Step) -> float:
        """Since when a step waits that became ready in the future, by a clock that was ahead: since this process sees
        it, and for so long before that it is forwarded once."""
        life = look.request.record.life
        place = f"{look.ledger.request_id}/{life.incarnation}/{life.run}/{step.key}"
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()
        return self._seen.setdefault(place, look.now - self._parts.patience())


def _due(look: Look, waiting: Iterable[_Waiting], patience: float) -> dict[str, Repair]:
    """What is to be forwarded, by the claims for it."""
    due = {}
    for one in waiting:
        is_patient = look.has_moved and one.first > 0
        if claim := one.due(look.now, patience * _MOVING if is_patient else patience):
            due[claim] = one.repair
    return due


def _evidence(ready: Ready, numbers: Mapping[str, int], keys: set[str]) -> list[str]:
    """The records that say since when a step waits."""
    step = ready.step
    if step.lease in keys:
        return [step.lease]
    if number := numbers.get(step.attempts, 0):
        return [f"{step.attempts}{number}"]
    return list(ready.since)
