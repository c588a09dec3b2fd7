"""One delivery: verify, read, run, record, forward.

A message asks for one attempt at one step. Whatever the queue does with it (twice, late, out of order), the outcome is
decided here by what stands in the ledger, in this order:

1. Read the request, what is recorded of this step, and the records its input comes from, together.
2. Ended: run what is left to run after the end. Paused: park the message. Recorded already: see to it that what
   follows was started. Held by another delivery: leave it alone. Otherwise run the step, under a lease if that takes
   longer than a moment.
3. Settle the outcome (`settlement`): record it, the arrivals at the joins that it feeds and, after the last step, the
   end of the request in one transaction that requires the request to be as it was read.
4. Forward what is ready (`following`). A join is ready when the arrivals, read back in the same transaction, are
   complete.

A crash between any two lines leaves the message unacknowledged, or the ledger with everything that is needed to
repeat what is missing, which the clock does. Nothing is removed before the end of the request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

import msgspec

from faasflow import graph
from faasflow.engine import attempts, operations, plan, split
from faasflow.engine.closing import Closing
from faasflow.engine.context import Context
from faasflow.engine.guard import UserCodeError
from faasflow.engine.last_net import LastNet
from faasflow.engine.leases import LOST_STARTS, Running
from faasflow.engine.ledger import Snapshot, StoredRequest
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.message import Message, message_for
from faasflow.engine.operations import Caller, OperationError
from faasflow.engine.parts import Parts
from faasflow.engine.payload import Payload
from faasflow.engine.position import Phase, Step
from faasflow.engine.records import BranchesRecord, RequestRecord
from faasflow.engine.settlement import AGAIN, Failed, Settlement
from faasflow.engine.work import NotRecordedError, Work
from faasflow.errors import (
    DefinitionChangedError,
    DefinitionError,
    LostStartError,
    RequestTimeoutError,
    TryAgainError,
)
from faasflow.graph.steady import STEADY_HINT, unsteady
from faasflow.scope import Scope, entered

logger = logging.getLogger(__name__)


class Executor:
    """Carries out deliveries for one flow. Holds no state of its own; used by many threads."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._closing = Closing(parts)
        self._settlement = Settlement(parts, self._closing)
        self._net = LastNet(parts, self._settlement, self._closing)

    def work(self, message: Message, context: Context, definition: graph.Definition) -> Work:
        """What a delivery needs, for a flow that was defined with `context`."""
        parts = self._parts
        ledger = parts.ledger(message.request_id)
        return Work(
            message=message,
            definition=definition,
            context=context,
            ledger=ledger,
            payloads=parts.payloads(message.request_id, message.life.incarnation, ledger.reserve),
            reports=parts.reports(message.request_id),
            started=parts.time.now(),
        )

    def defined(self, message: Message) -> Work:
        """`work` for a flow that is defined now. `TryAgainError` if it cannot be: it could be at the start, and may be
        again."""
        context = Context(self._parts.flow, message.request_id, message.query)
        try:
            definition = self._parts.define(context)
        except DefinitionError as error:
            raise TryAgainError(f"The flow cannot be defined now: {error}", hint=error.hint) from error
        return self.work(message, context, definition)

    def whole(self, request_id: str, record: RequestRecord) -> Work:
        """`work` for what concerns a request as a whole; its message asks for the first step, as any would do."""
        context = Context(self._parts.flow, request_id, record.query)
        definition = self._parts.define(context)
        step = plan.first_step(definition)
        message = msgspec.structs.replace(message_for(request_id, record, step), trace=record.trace)
        return self.work(message, context, definition)

    def deliver(self, message: Message) -> None:
        """Carry out one delivery. When it returns, the outcome is in the ledger and what follows is in the queue, or
        left to the clock; `TryAgainError`, `StoreUnavailableError` or `ForwardError` ask for the same message again."""
        work = self.defined(message)
        with work.delivering():
            try:
                self._advance(work)
            except Exception:
                self._forget(work)
                raise
            self._forget(work)

    def _advance(self, work: Work) -> None:
        try:
            self.advance(work)
        except NotRecordedError as error:
            self._net.catch(work, error)
        except AGAIN:
            raise
        except Exception as error:
            self._net.catch(work, error)

    def give_up(self, request_id: str, request: StoredRequest, error: Exception) -> bool:
        """Fail a request that the clock cannot look at because of `error`; False if it has ended."""
        if request.record.state.has_ended:
            return False
        work = self.whole(request_id, request.record)
        with work.delivering():
            self._net.end(work, request, error)
        return True

    def _forget(self, work: Work) -> None:
        """Where the request of a message was removed: remove the values that this delivery, or one that died, has
        stored since."""
        incarnation = work.message.life.incarnation
        if work.ledger.is_gone and incarnation:
            self._parts.values(work.request_id, incarnation).cleanup()

    def advance(self, work: Work) -> None:
        """Do what the ledger says is to be done for the step of `work`."""
        try:
            needs = work.needs()
        except DefinitionError:  # the flow was changed; whether that matters, the request's record says
            needs = work.own()
        snapshot = work.ledger.read(*needs)
        request = snapshot.request
        if request is None:
            logger.info("The request is not known (any more); its message for %s ends here.", work.step)
        elif work.message.life != request.record.life:
            logger.info("The message for %s is from before a retry, or an earlier request; it ends here.", work.step)
            work.ledger.is_gone = work.message.life.incarnation != request.record.incarnation
        elif request.record.state.has_ended:
            self._closing.run_again(work, request.record)
        elif request.record.state is RequestState.PAUSED:
            self._park(work, request)
        elif work.step.key in snapshot.entries or work.step.outcome in snapshot.entries:
            self._settlement.again(work, snapshot)
        else:
            self._attempt(work, request, snapshot)

    def run(self, work: Work, request: StoredRequest, snapshot: Snapshot) -> None:
        """Run the step and record its outcome."""
        with entered(Scope(work.context.name, work.request_id, work.step.position.path, work.attempt)):
            self._run(work, request, snapshot)

    def _run(self, work: Work, request: StoredRequest, snapshot: Snapshot) -> None:
        try:
            self._leased(work, request, snapshot)()
        except AGAIN:
            if work.running is not None:
                self._parts.leases.release(work.running)
            raise
        except OperationError as failed:
            outcome = Failed(failed.error, failed.operation, failed.index, failed.data, failed.is_unsent)
            self._settlement.fail(work, request, outcome)
        except UserCodeError as failed:
            self._settlement.fail(work, request, Failed(failed.error))
        except Exception as error:  # also where the outcome cannot be recorded: nothing is, if it was
            self._settlement.fail(work, request, Failed(error))

    def overdue(self, work: Work, request: StoredRequest) -> bool:
        """Fail a request that has not ended in time, if it is one."""
        deadline = request.record.deadline
        if deadline is None or not self._parts.time.is_sure or self._parts.time.now() < deadline:
            return False
        allowed = deadline - request.record.created
        error = RequestTimeoutError(f"The request did not end within {allowed:g} s.", hint="See flow.timeout().")
        self._settlement.end(work, request, error)
        return True

    def changed(self, work: Work, request: StoredRequest) -> bool:
        """Fail a request whose flow was changed, if it is one."""
        try:
            self._check_definition(work, request)
        except DefinitionChangedError as error:
            self._settlement.end(work, request, error)
            return True
        return False

    def _attempt(self, work: Work, request: StoredRequest, snapshot: Snapshot) -> None:
        work.attempts = attempts.recorded(work.step, snapshot.entries)
        number, done = work.message.attempt, len(work.attempts.failed)
        if number <= done:
            logger.info("%s waits for its next attempt; the message for another ends here.", work.step)
        elif number > done + 1:
            raise TryAgainError(f"Attempt {number - 1} of {str(work.step)!r} is not recorded yet.")
        elif not self.overdue(work, request):
            self.run(work, request, snapshot)

    def _leased(self, work: Work, request: StoredRequest, snapshot: Snapshot) -> Callable[[], None]:
        running = work.running = self._running(work, request)
        stood = self._parts.leases.take_over(running, snapshot.entries.get(work.step.lease))
        if not stood and self._is_doubtful(work, request) and not self._parts.leases.take(running):
            raise TryAgainError(f"Another delivery of {str(work.step)!r} was faster.")
        with self._parts.leases.working(running):
            return self._outcome(work, request, snapshot)

    def _is_doubtful(self, work: Work, request: StoredRequest) -> bool:
        """Whether the step may have been started before: forwarded twice, so that both messages may come within the
        moment before a lease appears by itself; or by a process that ended in that moment."""
        if request.version is None or self._parts.lease_after == float("inf"):
            return False
        put = work.message.put or work.started  # what a start runs at once was never put into the queue
        return work.message.is_again or work.started - put > self._parts.repair_after / 2

    def _running(self, work: Work, request: StoredRequest) -> Running:
        # Nobody else can know of a request that is not recorded yet.
        started = work.started if request.version is not None else float("inf")
        return Running(work.ledger, request, work.step.lease, work.message.attempt, started)

    def _outcome(self, work: Work, request: StoredRequest, snapshot: Snapshot) -> Callable[[], None]:
        """Do the step's work; what is given back records it."""
        self._begin(work, request)
        self._check_definition(work, request)
        _check_lost(work)
        work.context._bind(work.ledger, work.payloads, work.definition, work.step)
        self._watch(work, request)
        if work.step.phase is Phase.SPLIT:
            record, branches = self._split(work, snapshot)
            self._check_time(work)
            return lambda: self._settlement.open(work, request, record, branches)
        data = work.joined(snapshot) if work.step.phase is Phase.JOIN else self._node(work, request, snapshot)
        self._check_time(work)
        result = work.payloads.store(f"result/{work.step.position.path}", data)
        return lambda: self._settlement.finish(work, request, result)

    def _begin(self, work: Work, request: StoredRequest) -> None:
        logger.info("%s started.", work.step)
        work.reports.go_on(work.step.position.path, work.message.trace or request.record.trace, phase=work.step.phase)
        work.reports.tell_of("node_start", work.step, attempt=work.attempt)

    def _check_definition(self, work: Work, request: StoredRequest) -> None:
        if not work.definition.has_fingerprint(request.record.fingerprint):
            raise self._changed_error(work)

    def _changed_error(self, work: Work) -> DefinitionChangedError:
        again = self._parts.define(Context(self._parts.flow, work.request_id, work.message.query))
        if again.fingerprint != work.definition.fingerprint:
            return DefinitionChangedError(unsteady(work.definition, again), hint=STEADY_HINT)
        return DefinitionChangedError(
            "The flow was changed after this request had started, or define() gives another graph in each process.",
            hint="Start a new request, or deploy the former definition. Sort what define() takes from a set.",
        )

    def _watch(self, work: Work, request: StoredRequest) -> None:
        """Let the node fail when it has not ended in time, whatever its code is still doing."""
        if work.node.timeout is not None and work.running is not None:
            work.running.expire = lambda: self._expire(work, request)
            work.running.deadline = work.started + work.node.timeout + _LATE

    def _expire(self, work: Work, request: StoredRequest) -> None:
        # The late code may still use its context, so that what runs now gets one of its own.
        try:
            fresh = self.defined(work.message)
            fresh = replace(
                fresh, started=work.started, attempts=work.attempts, running=work.running, reports=work.reports
            )
            with fresh.delivering():
                self._settlement.fail(fresh, request, Failed(operations.too_late(work.node)))
        except Exception as error:
            logger.warning("Request %s: the end of %s by timeout was not recorded: %s", *_names(work), error)

    def _node(self, work: Work, request: StoredRequest, snapshot: Snapshot) -> bytes:
        self._check_start(work, snapshot)
        last = work.attempts.last
        if last is not None and last.scope is not None:
            first, data = last.scope, work.payloads.load(last.data)
        else:
            first, data = 0, work.input(snapshot)
        if work.node.at_most_once:
            self._start_once(work, request)
        return operations.run(work.node, data, self._caller(work), first=first)

    def _check_time(self, work: Work) -> None:
        if self._left(work) <= 0:
            raise operations.too_late(work.node)

    def _check_start(self, work: Work, snapshot: Snapshot) -> None:
        """Fail what may run at most once and was started before."""
        assert work.running is not None
        if work.step.start in snapshot.entries:
            work.running.start = work.step.start
            raise LostStartError(
                f"Node {work.node.id!r} was started before, and may run at most once; what became of it is not known.",
                hint="Find out what it did, then retry the request, or give it a result another way.",
            )

    def _start_once(self, work: Work, request: StoredRequest) -> None:
        """Record the start of what may run at most once: at the last moment before it, since what fails or dies while
        its input is loaded was not started."""
        if request.version is None:
            return
        assert work.running is not None
        if not self._parts.leases.start_once(work.running, work.step.start, work.step.outcome):
            raise TryAgainError(f"The start of {str(work.step)!r} could not be recorded.")

    def _caller(self, work: Work) -> Caller:
        parts = self._parts
        return Caller(
            parts.transport,
            parts.flow,
            work.request_id,
            work.step,
            parts.default_method,
            parts.call_timeout,
            context=work.context,
            attempt=work.attempt,
            left=lambda: self._left(work),
            groups=work.attempts.groups,
            incarnation=work.message.life.incarnation,
            can_wait=attempts.can_wait(work.node, work.attempts, work.message.life.run),
            reports=work.reports,
        )

    def _left(self, work: Work) -> float:
        if work.node.timeout is None:
            return float("inf")
        return work.started + work.node.timeout - self._parts.time.now()

    def _split(self, work: Work, snapshot: Snapshot) -> tuple[BranchesRecord, split.Branches]:
        node, data = work.node, work.input(snapshot)
        if isinstance(node.body, graph.Foreach):
            values = split.foreach_values(node, node.body, data)
            ended = self._parts.time.now()
            return split.store_foreach(work.ledger, work.payloads, work.step, values, work.started, ended)
        assert isinstance(node.body, graph.Condition)
        options = split.condition_options(node, node.body, data)
        shared = work.payloads.store(f"branch/{work.step.position.path}", data)
        ended = self._parts.time.now()
        names = tuple((option, shared) for option in options)
        return BranchesRecord(work.started, ended, len(options), _without_values(names), shared), list(names)

    def _park(self, work: Work, request: StoredRequest) -> None:
        if not self._parts.park(work.ledger, request, work.message):
            self.advance(self.defined(work.message))


_LATE = 0.5  # seconds in which the node's own thread may say that it is late


def _check_lost(work: Work) -> None:
    """Fail a step whose starts come to nothing. The first time it may be somebody else who ends its processes; an
    attempt after that is over with its first start."""
    lost = work.running.lost if work.running is not None else 0
    allowed = 1 if work.attempts.is_lost(work.message.life.run) else LOST_STARTS
    if lost >= allowed:
        times = "again, and" if allowed == 1 else f"{lost} times, and each time"
        raise LostStartError(
            f"Node {work.node.id!r} was started {times} its process ended before the outcome was recorded.",
            hint="See in the log of the function what ended it: too little memory, a crash in a library, os._exit().",
        )
    if lost:
        logger.warning("%s was started before, and its process ended: %d of %d times.", work.step, lost, allowed)


def _names(work: Work) -> tuple[str, Step]:
    return work.request_id, work.step


def _without_values(branches: Iterable[tuple[str, Payload]]) -> tuple[tuple[str, Payload], ...]:
    return tuple((option, Payload()) for option, _ in branches)
