"""What becomes of a step once its outcome is known: record it, and forward what follows.

An outcome is recorded in one transaction that requires the request to be as it was read and the step to have no other
outcome; with it go the arrivals at the joins that the step feeds and, after the last step, the end of the request.
Where somebody was faster, their outcome counts. A failure that is to be tried again is recorded as an attempt,
together with the timer of the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from faasflow.engine import attempts, joins, plan, split
from faasflow.engine.attempts import attempt_key
from faasflow.engine.closing import Closing, ended
from faasflow.engine.ledger import Snapshot, StoredRequest
from faasflow.engine.lifecycle import Command, NodeState, transition
from faasflow.engine.message import Message
from faasflow.engine.parts import Parts
from faasflow.engine.payload import EMPTY, Payload
from faasflow.engine.plan import After, Target
from faasflow.engine.position import Phase, Step
from faasflow.engine.records import AttemptRecord, BranchesRecord, Failure, NodeRecord, RequestRecord, dump, load
from faasflow.engine.reports import What
from faasflow.engine.timers import forward_timer
from faasflow.engine.work import Work
from faasflow.errors import DefinitionChangedError, DefinitionError, TryAgainError

logger = logging.getLogger(__name__)
_ARRIVALS_AT_ONCE = 24  # two operations each, and older Consul servers take 64 in a transaction

_LONGEST_OUTPUT = 64 * 1024

Kept = tuple[Payload | None, Payload | None]
"""The input and the output of a failed operation, where they are kept."""


@dataclass(frozen=True, slots=True)
class Failed:
    """How a step failed: the error, and the operation that raised it with its place and the data it worked on."""

    error: BaseException
    operation: str = ""
    index: int = -1
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """A step to forward, with the value it works on where that is one, and since when it could be run."""

    step: Step
    data: Payload | None
    since: float


@dataclass(frozen=True, slots=True)
class _Outcome:
    record: NodeRecord
    following: After
    also: Mapping[str, bytes] = field(default_factory=dict)


class Settlement:
    """Records outcomes for one flow and forwards what follows. Holds no state of its own."""

    def __init__(self, parts: Parts, closing: Closing) -> None:
        self._parts = parts
        self._closing = closing

    def finish(self, work: Work, request: StoredRequest, result: Payload) -> None:
        """Record the result of a NODE or JOIN."""
        record = NodeRecord(
            NodeState.FINISHED, work.started, self._parts.clock.now(), work.message.attempt, result=result
        )
        self._settle(work, request, _Outcome(record, plan.after(work.definition, work.step)))

    def open(self, work: Work, request: StoredRequest, record: BranchesRecord, branches: split.Branches) -> None:
        """Record the branches of a SPLIT and start them."""
        current: StoredRequest | None = request
        while current is not None:
            commit = work.ledger.commit(
                current,
                create={work.step.key: dump(record), **work.extra},
                absent=[work.step.outcome, self._attempt(work)],
                delete=work.leased,
            )
            if commit.is_done:
                logger.info("%s ended: %d branches in %s.", work.step, len(branches), self._spent(work))
                work.reports.tell_of("node_end", work.step, attempt=work.message.attempt, state=NodeState.FINISHED)
                width = plan.start_width(work.definition, work.step, len(branches))
                return self._forward(work, self._opened(work, branches, range(width), record.ended))
            current = self._faster(work)
        return None

    def fail(self, work: Work, request: StoredRequest, failed: Failed) -> None:
        """Record a failure: as an attempt that is followed by another one, as an outcome that the flow tolerates, or as
        that of the request."""
        failure = attempts.failure_of(
            work.step, failed.error, attempt=work.message.attempt, operation=failed.operation, index=failed.index
        )
        if isinstance(failed.error, DefinitionChangedError | DefinitionError):
            return self._fail_request(work, request, failure, failed.error)
        policy, scope = attempts.policy_of(work.definition, work.node, failure)
        now = self._parts.clock.now()
        count = work.attempts.count(work.message.run, scope) + 1
        wait = attempts.wait(policy, failed.error, count, chance=self._parts.chance(), now=now)
        if wait is not None:
            worked_on = failed.data or b""
            data = EMPTY if scope is None else work.payloads.store(f"attempt/{work.step.position.path}", worked_on)
            record = AttemptRecord(work.started, now, failure, now + wait, work.message.run, scope, data)
            return self._try_later(work, request, record, failed.error)
        kept = self._kept(work, failed)
        outcome = self._tolerated(work, failure, now, kept)
        if outcome is None:
            return self._fail_request(work, request, failure, failed.error, kept)
        return self._settle(work, request, outcome, failed.error)

    def end(self, work: Work, request: StoredRequest, error: BaseException, *, node: str = "") -> None:
        """Fail the request for a reason that is not the outcome of a step."""
        current: StoredRequest | None = request
        failure = attempts.failure_of(work.step, error, attempt=0)
        failure = Failure(node, failure.error_type, failure.message, hint=failure.hint, attempt=0)
        while current is not None and not current.record.state.has_ended and current.record.run == work.message.run:
            change = self._ended(work, current.record, Command.FAIL, failure=failure)
            if work.ledger.commit(current, create={}, change=change).is_done:
                self._tell_end(work, change, error)
                return self._closing.run(work, change, error)
            current = work.ledger.read().request
        return None

    def again(self, work: Work, snapshot: Snapshot) -> None:
        """The step has an outcome: forward what follows it and has none yet."""
        if work.step.key in snapshot.entries and work.step.phase is Phase.SPLIT:
            opened = load(snapshot.entries[work.step.key], BranchesRecord, work.step.key)
            return self._forward_again(work, self._unopened(work, opened))
        record = load(snapshot.entries[work.step.outcome], NodeRecord, work.step.outcome)
        following = self._after(work, record)
        places = [joins.place(target) for target in following.targets if target.arrival]
        entries = self._arrived(work, places, record.ended)
        return self._forward_again(work, self._ready(work, following, entries, record))

    def _settle(
        self, work: Work, request: StoredRequest, outcome: _Outcome, error: BaseException | None = None
    ) -> None:
        following, also, record = outcome.following, outcome.also, outcome.record
        places = [joins.place(target) for target in following.targets if target.arrival]
        at_once = places if len(places) <= _ARRIVALS_AT_ONCE else []
        while True:
            change = None
            if following.is_end:
                change = self._ended(work, request.record, Command.FINISH, result=record.result)
            commit = work.ledger.commit(
                request,
                create={work.step.outcome: dump(record), **also, **work.extra},
                put={place.key: joins.stamp(record.ended) for place in at_once},
                listing=[place.group for place in at_once],
                change=change,
                absent=self._other_outcomes(work),
                delete=work.leased,
            )
            if commit.is_done:
                break
            if commit.conflicts and commit.conflicts <= also.keys():
                # Another node of the same branch failed first, and ended the branch.
                also, following, places, at_once = {}, After(is_over=True), [], []
                continue
            faster = self._faster(work)
            if faster is None:
                return
            request = faster
        self._tell_outcome(work, record.state, error)
        if change is not None:
            self._tell_end(work, change)
            self._closing.run(work, change)
            return
        entries = commit.entries if at_once else self._arrived(work, places, record.ended)
        self._forward(work, self._ready(work, following, entries, record))

    def _try_later(self, work: Work, request: StoredRequest, record: AttemptRecord, error: BaseException) -> None:
        number = work.message.attempt
        timer = forward_timer(work.request_id, work.step, record.next, attempt=number + 1, run=work.message.run)
        current: StoredRequest | None = request
        while current is not None:
            commit = work.ledger.commit(
                current,
                create={attempt_key(work.step, number): dump(record), **work.extra},
                change=current.record if current.version is None else None,
                absent=dict.fromkeys((work.step.key, work.step.outcome)),
                delete=work.leased,
                timers=[timer],
            )
            if commit.is_done:
                self._tell_outcome(work, NodeState.RETRYING, error, wait=record.next - record.ended)
                return self._parts.on_timer(record.next)
            current = self._faster(work)
        return None

    def _kept(self, work: Work, failed: Failed) -> Kept:
        """What a failed operation worked on, and the beginning of what it was answered, for people to look at."""
        if failed.data is None:
            return None, None
        path, answer = work.step.position.path, getattr(failed.error, "body", b"")
        output = work.payloads.store(f"output/{path}", answer[:_LONGEST_OUTPUT]) if answer else None
        return work.payloads.store(f"failed/{path}", failed.data), output

    def _tolerated(self, work: Work, failure: Failure, now: float, kept: Kept) -> _Outcome | None:
        """The outcome of a failed step after which the request goes on, if it does."""
        record = _failed_record(work, failure, now, kept)
        if work.node.continues:
            record = msgspec.structs.replace(record, continues=True)
            return _Outcome(record, plan.after(work.definition, work.step))
        caught = plan.caught(work.definition, work.step)
        if caught is None:
            return None
        also = {} if caught.branch == work.step.outcome else {caught.branch: dump(record)}
        return _Outcome(record, caught.after, also)

    def _fail_request(
        self, work: Work, request: StoredRequest, failure: Failure, error: BaseException, kept: Kept = (None, None)
    ) -> None:
        record = _failed_record(work, failure, self._parts.clock.now(), kept)
        current: StoredRequest | None = request
        while current is not None:
            change = self._ended(work, current.record, Command.FAIL, failure=failure)
            commit = work.ledger.commit(
                current,
                create={work.step.outcome: dump(record), **work.extra},
                change=change,
                absent=self._other_outcomes(work),
                delete=work.leased,
            )
            if commit.is_done:
                self._tell_outcome(work, NodeState.FAILED, error)
                self._tell_end(work, change, error)
                return self._closing.run(work, change, error)
            current = self._faster(work)
        return None

    def _ended(
        self,
        work: Work,
        record: RequestRecord,
        command: Command,
        *,
        result: Payload | None = None,
        failure: Failure | None = None,
    ) -> RequestRecord:
        state = transition(record.state, command)
        assert state is not None
        return ended(record, state, work.definition, self._parts.clock.now(), result=result, failure=failure)

    def _tell_outcome(
        self, work: Work, state: NodeState, error: BaseException | None, *, wait: float | None = None
    ) -> None:
        """Say how a node ended, to the log and to event handlers."""
        attempt = work.message.attempt
        if error is None:
            logger.info("%s ended: %s in %s.", work.step, state, self._spent(work))
            work.reports.tell_of("node_end", work.step, attempt=attempt, state=state)
            return
        after = f"; it is tried again in {wait:.1f} s" if wait is not None else ""
        # The record says more: the error's text may quote what the node worked on.
        logger.warning(
            "%s ended: %s with %s in %s%s.", work.step, state, type(error).__name__, self._spent(work), after
        )
        work.reports.tell_of("node_failure", work.step, attempt=attempt, state=state, error=error)

    def _tell_end(self, work: Work, record: RequestRecord, error: BaseException | None = None) -> None:
        work.ended = record
        spent = (record.ended or 0.0) - record.created
        logger.log(logging.WARNING if error else logging.INFO, "The request ended: %s in %.3f s.", record.state, spent)
        work.reports.go_on(work.step.position.path, work.message.trace or record.trace)
        what: What = "request_failure" if error is not None else "request_end"
        work.reports.tell(what, state=record.state, error=error)

    def _tell_refused(self, work: Work, why: str) -> None:
        logger.info("%s ended: what it came to is refused, %s.", work.step, why)
        work.reports.tell_of("node_end", work.step, attempt=work.message.attempt, is_recorded=False)

    def _spent(self, work: Work) -> str:
        return f"{max(0.0, self._parts.clock.now() - work.started):.3f} s"

    def _attempt(self, work: Work) -> str:
        return attempt_key(work.step, work.message.attempt)

    def _other_outcomes(self, work: Work) -> list[str]:
        """What stands in the way of an outcome beside one like it: the attempt was given up, or the SPLIT opened."""
        others = [self._attempt(work)]
        return [work.step.key, *others] if work.step.phase is Phase.SPLIT else others

    def _faster(self, work: Work) -> StoredRequest | None:
        """What to commit against after somebody was faster; `None` if nothing is left to commit."""
        attempt = self._attempt(work)
        snapshot = work.ledger.read([*dict.fromkeys((work.step.key, work.step.outcome)), attempt])
        request = snapshot.request
        if request is None:
            return None
        if request.record.run != work.message.run or attempt in snapshot.entries:
            self._tell_refused(work, "it was given up before")
            return None
        if request.record.state.has_ended:
            self._tell_refused(work, "the request has ended")
            self._closing.run_again(work, request.record)
            return None
        if work.step.key in snapshot.entries or work.step.outcome in snapshot.entries:
            self._tell_refused(work, "another delivery was faster")
            self.again(work, snapshot)
            return None
        return request

    def _after(self, work: Work, record: NodeRecord) -> After:
        if not record.has_failed:
            return plan.after(work.definition, work.step)
        caught = plan.caught(work.definition, work.step)
        return caught.after if caught is not None else After(is_over=True)

    def _opened(self, work: Work, branches: split.Branches, which: Iterable[int], opened: float) -> list[Next]:
        if not branches:
            return [Next(Step(work.step.position, Phase.JOIN), None, opened)]
        of = len(branches)
        return [
            Next(plan.branch(work.definition, work.step, branches[index][0], index, of), branches[index][1], opened)
            for index in which
        ]

    def _unopened(self, work: Work, record: BranchesRecord) -> list[Next]:
        branches = split.all_branches(work.ledger, record, work.step)
        width = plan.start_width(work.definition, work.step, len(branches))
        return self._opened(work, branches, range(width), record.ended)

    def _arrived(self, work: Work, places: list[joins.Place], recorded: float) -> dict[str, bytes]:
        """Record arrivals, which follow from the node's record and may be repeated by anybody; who has arrived."""
        entries: dict[str, bytes] = {}
        for first in range(0, len(places), _ARRIVALS_AT_ONCE):
            some = places[first : first + _ARRIVALS_AT_ONCE]
            put = {place.key: joins.stamp(recorded) for place in some}
            entries.update(work.ledger.arrive(put, [place.group for place in some]).entries)
        return entries

    def _forward_again(self, work: Work, following: list[Next]) -> None:
        missing = self._missing(work, following)
        latest = self._parts.clock.now() - self._parts.repair_delay
        if any(one.since > latest for one in missing):
            # A double of a message that is being worked on looks the same as the repetition of one that got lost.
            # Forwarding at once would multiply doubles at every level; waiting a moment tells the two apart.
            raise TryAgainError(
                f"What follows {str(work.step)!r} is not recorded yet.", retry_after=self._parts.repair_delay
            )
        self._forward(work, missing)

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

    def _ready(self, work: Work, following: After, entries: Mapping[str, bytes], record: NodeRecord) -> list[Next]:
        """Those of the following steps that wait for nobody else."""
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

    def _forward(self, work: Work, following: list[Next]) -> None:
        query, run = work.message.query, work.message.run
        messages = [
            Message(
                work.request_id,
                one.step,
                query,
                one.data,
                run=run,
                trace=work.reports.tell_of("execution_forward", one.step),
            )
            for one in following
        ]
        self._parts.send(work.ledger, messages)


def _failed_record(work: Work, failure: Failure, now: float, kept: Kept) -> NodeRecord:
    state, attempt = NodeState.FAILED, work.message.attempt
    return NodeRecord(state, work.started, now, attempt, failure=failure, input=kept[0], output=kept[1])
