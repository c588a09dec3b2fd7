"""What follows a recorded step is forwarded: right after it was recorded, and again by whoever finds it recorded.

A step that waits for several others (a join) is forwarded by the one that arrives last. Where a message comes again,
what follows it is forwarded again only if that has been ready for longer than messages wait in the queue, nobody is
known to work on it, and no other double has done so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from faasflow.engine import joins, plan, split
from faasflow.engine.again import claimed, double_key
from faasflow.engine.attempts import attempt_key
from faasflow.engine.flow_time import is_believed
from faasflow.engine.ledger import Snapshot, StoredRequest
from faasflow.engine.message import Message
from faasflow.engine.parts import Parts
from faasflow.engine.payload import Payload
from faasflow.engine.plan import After, Target
from faasflow.engine.position import Phase, Step
from faasflow.engine.records import BranchesRecord, NodeRecord, load
from faasflow.engine.work import Work
from faasflow.errors import TryAgainError

_ARRIVALS_AT_ONCE = 24  # two operations each, and older Consul servers take 64 in a transaction


@dataclass(frozen=True, slots=True)
class Next:
    """A step to forward, with the value it works on where that is one, and since when it could be run."""

    step: Step
    data: Payload | None
    since: float


class Following:
    """Forwards what follows the steps of one flow. Holds no state of its own."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def begin_branches(self, work: Work, record: BranchesRecord, branches: split.Branches) -> None:
        """Forward the first steps of the branches that a SPLIT has just opened."""
        self._forward(work, self._opened(work, record, branches))

    def begin(self, work: Work, following: After, record: NodeRecord, entries: Mapping[str, bytes] | None) -> None:
        """Forward what follows an outcome that has just been recorded; `entries` says who has arrived at the joins, if
        this step's arrival was recorded too."""
        self._forward(work, self._ready(work, following, record, entries))

    def begin_again(self, work: Work, snapshot: Snapshot) -> None:
        """The step has an outcome: forward what follows it and has none yet."""
        if work.step.key in snapshot.entries and work.step.phase is Phase.SPLIT:
            opened = load(snapshot.entries[work.step.key], BranchesRecord, work.step.key)
            branches = split.all_branches(work.ledger, opened, work.step)
            return self._forward_again(work, snapshot.request, self._opened(work, opened, branches))
        record = load(snapshot.entries[work.step.outcome], NodeRecord, work.step.outcome)
        following = self._after(work, record)
        return self._forward_again(work, snapshot.request, self._ready(work, following, record, None))

    def _after(self, work: Work, record: NodeRecord) -> After:
        if not record.has_failed:
            return plan.after(work.definition, work.step)
        caught = plan.caught(work.definition, work.step)
        return caught.after if caught is not None else After(is_over=True)

    def _opened(self, work: Work, record: BranchesRecord, branches: split.Branches) -> list[Next]:
        """The first steps of as many branches as may run at a time."""
        if not branches:
            return [Next(Step(work.step.position, Phase.JOIN), None, record.ended)]
        of = len(branches)
        return [
            Next(plan.branch(work.definition, work.step, option, index, of), value, record.ended)
            for index, (option, value) in enumerate(branches[: plan.start_width(work.definition, work.step, of)])
        ]

    def _arrived(self, work: Work, places: list[joins.Place], recorded: float) -> dict[str, bytes]:
        """Record arrivals, which follow from the node's record and may be repeated by anybody; who has arrived."""
        entries: dict[str, bytes] = {}
        for first in range(0, len(places), _ARRIVALS_AT_ONCE):
            some = places[first : first + _ARRIVALS_AT_ONCE]
            put = {place.key: joins.stamp(recorded) for place in some}
            entries.update(work.ledger.arrive(put, [place.group for place in some]).entries)
        return entries

    def _forward_again(self, work: Work, request: StoredRequest | None, following: list[Next]) -> None:
        missing = self._missing(work, following)
        now, delay = self._parts.time.now(), self._parts.repair_delay
        if any(is_believed(one.since, now) and one.since > now - delay for one in missing):
            # A double of a message that is being worked on looks the same as the repetition of one that got lost.
            # Forwarding at once would multiply doubles at every level; waiting a moment tells the two apart.
            raise TryAgainError(f"What follows {str(work.step)!r} is not recorded yet.", retry_after=delay)
        if not missing or request is None:
            return
        wait = 2 * self._parts.queue.longest(self._parts.repair_after, read=True)
        run = work.message.life.run
        waiting = [one for one in missing if is_believed(one.since, now) and one.since > now - wait]
        late = {double_key(run, one.step, 1): one for one in missing if one not in waiting}
        self._forward(work, claimed(work.ledger, request, late), is_again=True)  # the clock sees to the others

    def _missing(self, work: Work, following: list[Next]) -> list[Next]:
        """Those that have no outcome, that nobody is known to work on, and that do not wait for another attempt."""
        if not following:
            return []
        keys = [
            key
            for step in (one.step for one in following)
            for key in dict.fromkeys((step.key, step.outcome, step.lease, attempt_key(step, 1)))
        ]
        known = work.ledger.read(keys).entries
        return [one for one in following if not self._is_seen_to(one.step, known)]

    def _is_seen_to(self, step: Step, known: Mapping[str, bytes]) -> bool:
        if step.key in known or (step.phase is Phase.SPLIT and step.outcome in known):
            return True
        if attempt_key(step, 1) in known:  # the next attempt has a timer
            return True
        return step.lease in known and self._parts.leases.left(known[step.lease], step.lease) > 0

    def _ready(
        self, work: Work, following: After, record: NodeRecord, entries: Mapping[str, bytes] | None
    ) -> list[Next]:
        """Those of the following steps that wait for nobody else."""
        if entries is None:
            entries = self._arrived(work, _places(following), record.ended)
        ready: list[Next] = []
        for target in following.targets:
            if target.arrival is None:
                data = None if target.step.phase is Phase.JOIN else record.result
                ready.append(Next(target.step, data, record.ended))
            elif (since := self._complete(work, target, entries)) is not None:
                ready.append(Next(target.step, None, since))
        if following.next_branch is not None:
            ready.append(self._held_back(work, following, record.ended))
        return ready

    def _complete(self, work: Work, target: Target, entries: Mapping[str, bytes]) -> float | None:
        """Since when all have arrived at a join; `None` if some have not."""
        level, place = 0, joins.place(target)
        while True:
            group = [value for key, value in entries.items() if key.startswith(place.group)]
            if len(group) < place.size:
                return None
            if place.is_top:
                return joins.time_of(group)
            level += 1
            place = joins.place(target, level)
            entries = work.ledger.arrive({place.key: joins.stamp(joins.time_of(group))}, [place.group]).entries

    def _held_back(self, work: Work, following: After, recorded: float) -> Next:
        opened, index = following.split, following.next_branch
        assert opened is not None
        assert index is not None
        record = load(work.ledger.get(opened.key), BranchesRecord, opened.key)
        option, value = split.read_branch(work.ledger, record, opened, index)
        return Next(plan.branch(work.definition, opened, option, index, record.count), record.input or value, recorded)

    def _forward(self, work: Work, following: list[Next], *, is_again: bool = False) -> None:
        query, life = work.message.query, work.message.life
        messages = [
            Message(
                work.request_id,
                one.step,
                query,
                one.data,
                life=life,
                is_again=is_again,
                trace=work.reports.tell_of("execution_forward", one.step),
            )
            for one in following
        ]
        self._parts.send(work.ledger, messages)


def arrivals_at_once(following: After) -> list[joins.Place]:
    """The arrivals that are recorded together with an outcome: all, unless there are too many for one transaction."""
    places = _places(following)
    return places if len(places) <= _ARRIVALS_AT_ONCE else []


def _places(following: After) -> list[joins.Place]:
    return [joins.place(target) for target in following.targets if target.arrival]
