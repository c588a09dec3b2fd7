"""What becomes of a step once its outcome is known: record it, and have forwarded what follows.

An outcome is recorded in one transaction that requires the request to be as it was read and the step to have no other
outcome; with it go the arrivals at the joins that the step feeds and, after the last step, the end of the request.
Where somebody was faster, their outcome counts. A failure that is to be tried again is recorded as an attempt,
together with the timer of the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from faasflow.engine import attempts, joins, plan, split
from faasflow.engine.attempts import CONNECTING, attempt_key
from faasflow.engine.closing import Closing, ended
from faasflow.engine.following import Following, arrivals_at_once
from faasflow.engine.ledger import Snapshot, StoredRequest
from faasflow.engine.lifecycle import Command, NodeState, transition
from faasflow.engine.parts import Parts
from faasflow.engine.payload import EMPTY, Payload
from faasflow.engine.plan import After
from faasflow.engine.position import Phase
from faasflow.engine.records import AttemptRecord, BranchesRecord, Failure, NodeRecord, RequestRecord, dump
from faasflow.engine.reports import What
from faasflow.engine.timers import forward_timer
from faasflow.engine.work import Work
from faasflow.errors import (
    CallError,
    DefinitionChangedError,
    DefinitionError,
    ForwardError,
    StoreError,
    StoreUnavailableError,
    TryAgainError,
)

AGAIN = (StoreUnavailableError, TryAgainError, ForwardError)
"""What asks for the delivery to be repeated, and says nothing about its step."""

logger = logging.getLogger(__name__)
_LONGEST_OUTPUT = 64 * 1024

Kept = tuple[Payload | None, Payload | None]
"""The input and the output of a failed operation, where they are kept."""


@dataclass(frozen=True, slots=True)
class Failed:
    """How a step failed: the error, and the operation that raised it with its place and the data it worked on. With
    `is_unsent` its call could not be made, and is to be made later."""

    error: BaseException
    operation: str = ""
    index: int = -1
    data: bytes | None = None
    is_unsent: bool = False


@dataclass(frozen=True, slots=True)
class _Outcome:
    record: NodeRecord
    following: After
    also: Mapping[str, bytes] = field(default_factory=dict)


class Settlement:
    """Records outcomes for one flow. Holds no state of its own."""

    def __init__(self, parts: Parts, closing: Closing) -> None:
        self._parts = parts
        self._closing = closing
        self._following = Following(parts)

    def finish(self, work: Work, request: StoredRequest, result: Payload) -> None:
        """Record the result of a NODE or JOIN."""
        record = NodeRecord(NodeState.FINISHED, work.started, self._parts.time.now(), work.attempt, result=result)
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
                work.reports.tell_of("node_end", work.step, attempt=work.attempt, state=NodeState.FINISHED)
                return self._following.begin_branches(work, record, branches)
            current = self._faster(work)
        return None

    def fail(self, work: Work, request: StoredRequest, failed: Failed) -> None:
        """Record a failure: as an attempt that is followed by another one, as an outcome that the flow tolerates, or as
        that of the request. One that cannot be recorded as it is, is recorded without its details."""
        try:
            self._fail(work, request, failed)
        except AGAIN:
            raise
        except Exception as error:
            logger.warning("The failure of %s cannot be recorded with its details: %s", work.step, type(error).__name__)
            self._give_up(work, request, attempts.short_failure(work.step, failed.error, error), failed.error)

    def _fail(self, work: Work, request: StoredRequest, failed: Failed) -> None:
        failure = attempts.failure_of(
            work.step, failed.error, attempt=work.attempt, operation=failed.operation, index=failed.index
        )
        if isinstance(failed.error, DefinitionChangedError | DefinitionError):
            return self._fail_request(work, request, failure, failed.error)
        if failed.is_unsent:
            return self._connect_later(work, request, failed, failure)
        policy, scope = attempts.policy_of(work.definition, work.node, failure)
        now = self._parts.time.now()
        count = work.attempts.count(work.message.life.run, scope) + 1
        wait = attempts.wait(policy, failed.error, count, chance=self._parts.chance(), now=now)
        if wait is not None:
            data = EMPTY if scope is None else self._worked_on(work, failed)
            record = AttemptRecord(work.started, now, failure, now + wait, work.message.life.run, scope, data)
            return self._try_later(work, request, record, failed.error)
        return self._give_up(work, request, failure, failed.error, self._kept(work, failed))

    def _give_up(
        self, work: Work, request: StoredRequest, failure: Failure, error: BaseException, kept: Kept = (None, None)
    ) -> None:
        """Record a failure that is followed by no other attempt."""
        outcome = self._tolerated(work, failure, self._parts.time.now(), kept)
        if outcome is None:
            return self._fail_request(work, request, failure, error, kept)
        return self._settle(work, request, outcome, error)

    def again(self, work: Work, snapshot: Snapshot) -> None:
        """The step has an outcome: forward what follows it and has none yet."""
        self._following.begin_again(work, snapshot)

    def end(self, work: Work, request: StoredRequest, error: BaseException, *, node: str = "") -> None:
        """Fail the request for a reason that is not the outcome of a step."""
        current: StoredRequest | None = request
        failure = attempts.failure_of(work.step, error, attempt=0)
        failure = Failure(node, failure.error_type, failure.message, hint=failure.hint, attempt=0)
        while current is not None and not current.record.state.has_ended and current.record.life == work.message.life:
            change = self._ended(work, current.record, Command.FAIL, failure=failure)
            if work.ledger.commit(current, create={}, change=change).is_done:
                self._tell_end(work, change, error)
                return self._closing.run(work, change, error)
            current = work.ledger.read().request
        return None

    def _settle(
        self, work: Work, request: StoredRequest, outcome: _Outcome, error: BaseException | None = None
    ) -> None:
        following, also, record = outcome.following, outcome.also, outcome.record
        at_once = arrivals_at_once(following)
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
                also, following, at_once = {}, After(is_over=True), []
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
        self._following.begin(work, following, record, commit.entries if at_once else None)

    def _connect_later(self, work: Work, request: StoredRequest, failed: Failed, failure: Failure) -> None:
        """Make a call later whose target cannot be connected to; what the node did before it is not done again."""
        if request.version is None:  # a caller waits, who learns more from being refused than from an id
            raise TryAgainError(failure.message, hint=failure.hint) from failed.error
        now, run = self._parts.time.now(), work.message.life.run
        due = now + CONNECTING.wait(work.attempts.connecting(run) + 1, chance=self._parts.chance())
        data = self._worked_on(work, failed)
        record = AttemptRecord(work.started, now, failure, due, run, failed.index, data, unsent=True)
        self._try_later(work, request, record, failed.error)

    def _worked_on(self, work: Work, failed: Failed) -> Payload:
        return work.payloads.store(f"attempt/{work.step.position.path}", failed.data or b"")

    def _try_later(self, work: Work, request: StoredRequest, record: AttemptRecord, error: BaseException) -> None:
        number = work.message.attempt
        timer = forward_timer(
            work.request_id, work.step, record.next, written=record.ended, attempt=number + 1, life=work.message.life
        )
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
                return self._parts.wake(record.next)
            current = self._faster(work)
        return None

    def _kept(self, work: Work, failed: Failed) -> Kept:
        """What a failed operation worked on, and the beginning of what it was answered, for people to look at."""
        if failed.data is None:
            return None, None
        # An exception of the handler's own may have a `body` that is anything.
        path, answer = work.step.position.path, failed.error.body if isinstance(failed.error, CallError) else b""
        try:
            output = work.payloads.store(f"output/{path}", answer[:_LONGEST_OUTPUT]) if answer else None
            return work.payloads.store(f"failed/{path}", failed.data), output
        except StoreError as error:  # the failure counts, and the operation is not run again for this
            logger.warning("What %s worked on when it failed is not kept: %s", work.step, error)
            return None, None

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
        record = _failed_record(work, failure, self._parts.time.now(), kept)
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
        return ended(record, state, work.definition, self._parts.time.now(), result=result, failure=failure)

    def _tell_outcome(
        self, work: Work, state: NodeState, error: BaseException | None, *, wait: float | None = None
    ) -> None:
        """Say how a node ended, to the log and to event handlers."""
        attempt = work.attempt
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
        work.reports.tell_of("node_end", work.step, attempt=work.attempt, is_recorded=False)

    def _spent(self, work: Work) -> str:
        return f"{max(0.0, self._parts.time.now() - work.started):.3f} s"

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
        if request.record.life != work.message.life or attempt in snapshot.entries:
            self._tell_refused(work, "it was given up before")
            return None
        if request.record.state.has_ended:
            self._tell_refused(work, "the request has ended")
            self._closing.run_again(work, request.record)
            return None
        if work.step.key in snapshot.entries or work.step.outcome in snapshot.entries:
            self._tell_refused(work, "another delivery was faster")
            self._following.begin_again(work, snapshot)
            return None
        return request


def _failed_record(work: Work, failure: Failure, now: float, kept: Kept) -> NodeRecord:
    state, attempt = NodeState.FAILED, work.attempt
    return NodeRecord(state, work.started, now, attempt, failure=failure, input=kept[0], output=kept[1])
