"""One delivery: verify, read, run, record, forward.

A message asks for one step. Whatever the queue does with it (twice, late, out of order), the outcome is decided here
by what stands in the ledger, in this order:

1. Read the request, this step's record and the records its input comes from, together.
2. Ended: run what is left to run after the end. Paused: park the message. Recorded already: see to it that what
   follows was started. Otherwise run the step.
3. Record the outcome, the arrivals at the joins that it feeds and, after the last step, the end of the request in one
   transaction that requires the request to be as it was read. Where somebody was faster, their outcome counts.
4. Forward what is ready. A join is ready when the arrivals, read back in the same transaction, are complete.

A crash between any two lines leaves the message unacknowledged, or the ledger with everything that is needed to
repeat what is missing. Nothing is removed before the end of the request.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Mapping

from faasflow import graph
from faasflow.engine import joins, operations, plan, split
from faasflow.engine.closing import Closing, ended
from faasflow.engine.context import Context
from faasflow.engine.ledger import Snapshot, StoredRequest
from faasflow.engine.lifecycle import Command, NodeState, RequestState, transition
from faasflow.engine.message import Message
from faasflow.engine.operations import Caller, OperationError
from faasflow.engine.parts import Parts
from faasflow.engine.payload import Payload
from faasflow.engine.plan import After, Target
from faasflow.engine.position import Phase, Step
from faasflow.engine.records import BranchesRecord, Failure, NodeRecord, RequestRecord, dump, load
from faasflow.engine.work import Work
from faasflow.errors import (
    DefinitionChangedError,
    DefinitionError,
    FaasflowError,
    StoreUnavailableError,
    TryAgainError,
)

logger = logging.getLogger(__name__)
_LONGEST_TRACEBACK = 8000
_LONGEST_MESSAGE = 4000
_ARRIVALS_AT_ONCE = 24  # two operations each, and older Consul servers take 64 in a transaction

Next = tuple[Step, Payload | None]
"""A step to forward, with the value it works on where that is one."""


class Executor:
    """Carries out deliveries for one flow. Holds no state of its own; used by many threads."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._closing = Closing(parts)

    def work(self, message: Message, context: Context, definition: graph.Definition) -> Work:
        """What a delivery needs, for a flow that was defined with `context`."""
        parts = self._parts
        return Work(
            message=message,
            definition=definition,
            context=context,
            ledger=parts.ledger(message.request_id),
            payloads=parts.payloads(message.request_id),
            started=parts.clock.now(),
        )

    def deliver(self, message: Message) -> None:
        """Carry out one delivery. When it returns, the outcome is in the ledger and what follows is in the queue;
        `TryAgainError`, `StoreUnavailableError` or `ForwardError` ask for the same message again."""
        context = Context(self._parts.flow, message.request_id, message.query)
        try:
            definition = self._parts.define(context)
        except DefinitionError as error:  # it could be defined at the start, and may be again
            raise TryAgainError(f"The flow cannot be defined now: {error}", hint=error.hint) from error
        self.advance(self.work(message, context, definition))

    def advance(self, work: Work) -> None:
        """Do what the ledger says is to be done for the step of `work`."""
        try:
            needs = work.needs()
        except DefinitionError:  # the flow was changed; whether that matters, the request's record says
            needs = ([work.step.key], [])
        snapshot = work.ledger.read(*needs)
        request = snapshot.request
        if request is None:
            logger.info("Request %s is not known (any more); its message for %s ends here.", *_names(work))
            return
        if request.record.state.has_ended:
            self._closing.run_again(work.request_id, request.record, work.definition, work.context)
        elif request.record.state is RequestState.PAUSED:
            self._park(work, request)
        elif work.step.key in snapshot.entries:
            self._again(work, snapshot)
        else:
            self.run(work, request, snapshot)

    def run(self, work: Work, request: StoredRequest, snapshot: Snapshot) -> None:
        """Run the step and record its outcome."""
        try:
            commit = self._outcome(work, request, snapshot)
        except (StoreUnavailableError, TryAgainError):
            raise
        except OperationError as failed:
            self._fail(work, request, failed.error, failed.operation)
        except (Exception, SystemExit) as error:  # sys.exit() ends a node, not the thread that serves it
            self._fail(work, request, error)
        else:
            commit()

    def _outcome(self, work: Work, request: StoredRequest, snapshot: Snapshot) -> Callable[[], None]:
        """Do the step's work; what is given back records it."""
        self._check_definition(work, request)
        work.context._bind(work.ledger, work.payloads, work.definition, work.step)
        if work.step.phase is Phase.SPLIT:
            record, branches = self._split(work, snapshot)
            return lambda: self._commit_split(work, request, record, branches)
        data = work.joined(snapshot) if work.step.phase is Phase.JOIN else self._node(work, snapshot)
        result = work.payloads.store(f"result/{work.step.position.path}", data)
        return lambda: self._commit_result(work, request, result)

    def _check_definition(self, work: Work, request: StoredRequest) -> None:
        if request.record.fingerprint != work.definition.fingerprint:
            raise DefinitionChangedError(
                "The flow was changed after this request had started.",
                hint="Start a new request, or deploy the former definition.",
            )

    def _node(self, work: Work, snapshot: Snapshot) -> bytes:
        return operations.run(work.node, work.input(snapshot), self._caller(work))

    def _caller(self, work: Work) -> Caller:
        parts = self._parts
        return Caller(parts.transport, parts.flow, work.request_id, work.step, parts.default_method, parts.call_timeout)

    def _split(self, work: Work, snapshot: Snapshot) -> tuple[BranchesRecord, split.Branches]:
        node, data = work.node, work.input(snapshot)
        if isinstance(node.body, graph.Foreach):
            values = split.foreach_values(node, node.body, data)
            ended = self._parts.clock.now()
            return split.store_foreach(work.ledger, work.payloads, work.step, values, work.started, ended)
        assert isinstance(node.body, graph.Condition)
        options = split.condition_options(node, node.body, data)
        shared = work.payloads.store(f"branch/{work.step.position.path}", data)
        ended = self._parts.clock.now()
        names = tuple((option, shared) for option in options)
        return BranchesRecord(work.started, ended, len(options), _without_values(names), shared), list(names)

    def _commit_result(self, work: Work, request: StoredRequest, result: Payload) -> None:
        record = NodeRecord(NodeState.FINISHED, work.started, self._parts.clock.now(), result=result)
        following = plan.after(work.definition, work.step)
        places = [joins.place(target) for target in following.targets if target.arrival]
        at_once = places if len(places) <= _ARRIVALS_AT_ONCE else []
        while True:
            change = self._ended(work, request.record, Command.FINISH, result=result) if following.is_end else None
            commit = work.ledger.commit(
                request,
                create={work.step.key: dump(record), **work.extra},
                put={place.key: b"" for place in at_once},
                listing=[place.group for place in at_once],
                change=change,
            )
            if commit.is_done:
                break
            faster = self._retry_commit(work)
            if faster is None:
                return
            request = faster
        logger.info("Request %s: node %s finished.", *_names(work))
        if change is not None:
            work.ended = change
            self._closing.run(work.request_id, change, work.definition, work.context)
            return
        entries = commit.entries if at_once else self._arrived(work, places)
        self._forward(work, self._ready(work, following, entries, result))

    def _commit_split(
        self, work: Work, request: StoredRequest, record: BranchesRecord, branches: split.Branches
    ) -> None:
        while not work.ledger.commit(request, create={work.step.key: dump(record), **work.extra}).is_done:
            faster = self._retry_commit(work)
            if faster is None:
                return
            request = faster
        logger.info("Request %s: node %s opened %d branches.", *_names(work), len(branches))
        width = plan.start_width(work.definition, work.step, len(branches))
        self._forward(work, self._opened(work, branches, range(width)))

    def _opened(self, work: Work, branches: split.Branches, which: Iterable[int]) -> list[Next]:
        if not branches:
            return [(Step(work.step.position, Phase.JOIN), None)]
        of = len(branches)
        return [
            (plan.branch(work.definition, work.step, branches[index][0], index, of), branches[index][1])
            for index in which
        ]

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

    def _retry_commit(self, work: Work) -> StoredRequest | None:
        """What to commit against after somebody was faster; `None` if nothing is left to commit."""
        snapshot = work.ledger.read([work.step.key])
        request = snapshot.request
        if request is None:
            return None
        if request.record.state.has_ended:
            logger.info("Request %s has ended; the result of %s is refused.", *_names(work))
            self._closing.run_again(work.request_id, request.record, work.definition, work.context)
            return None
        if work.step.key in snapshot.entries:
            self._again(work, snapshot)
            return None
        return request

    def _fail(self, work: Work, request: StoredRequest, error: BaseException, operation: str = "") -> None:
        failure = _failure(work.step, error, operation)
        logger.warning("Request %s: node %s failed with %s.", *_names(work), failure.error_type)
        record = NodeRecord(NodeState.FAILED, work.started, self._parts.clock.now(), failure=failure)
        key = f"node/{work.step.position.path}" if work.step.phase is Phase.SPLIT else work.step.key
        current: StoredRequest | None = request
        while current is not None:
            change = self._ended(work, current.record, Command.FAIL, failure=failure)
            commit = work.ledger.commit(current, create={key: dump(record), **work.extra}, change=change)
            if commit.is_done:
                work.ended = change
                self._closing.run(work.request_id, change, work.definition, work.context, error)
                return
            current = self._retry_commit(work)

    def _again(self, work: Work, snapshot: Snapshot) -> None:
        """The step is recorded: forward what follows it and has no record yet."""
        data = snapshot.entries[work.step.key]
        if work.step.phase is Phase.SPLIT:
            opened = load(data, BranchesRecord, work.step.key)
            self._forward_again(work, opened.ended, self._unopened(work, opened))
            return
        record = load(data, NodeRecord, work.step.key)
        following = plan.after(work.definition, work.step)
        places = [joins.place(target) for target in following.targets if target.arrival]
        entries = self._arrived(work, places)
        self._forward_again(work, record.ended, self._ready(work, following, entries, record.result))

    def _arrived(self, work: Work, places: list[joins.Place]) -> dict[str, bytes]:
        """Record arrivals, which follow from the node's record and may be repeated by anybody; who has arrived."""
        entries: dict[str, bytes] = {}
        for first in range(0, len(places), _ARRIVALS_AT_ONCE):
            some = places[first : first + _ARRIVALS_AT_ONCE]
            entries.update(work.ledger.arrive([place.key for place in some], [place.group for place in some]).entries)
        return entries

    def _forward_again(self, work: Work, recorded: float, following: list[Next]) -> None:
        missing = self._unrecorded(work, following)
        if missing and self._parts.clock.now() - recorded < self._parts.repair_delay:
            # A double of a message that is being worked on looks the same as the repetition of one that got lost.
            # Forwarding at once would multiply doubles at every level; waiting a moment tells the two apart.
            raise TryAgainError(f"What follows {str(work.step)!r} is not recorded yet.")
        self._forward(work, missing)

    def _unopened(self, work: Work, record: BranchesRecord) -> list[Next]:
        chunks = work.ledger.read([], [split.chunks_prefix(work.step)]) if record.run else Snapshot(None, {})
        branches = split.read_branches(record, work.step, chunks.entries)
        if record.input is not None:
            branches = [(option, record.input) for option, _ in branches]
        width = plan.start_width(work.definition, work.step, len(branches))
        return self._opened(work, branches, range(width))

    def _unrecorded(self, work: Work, following: list[Next]) -> list[Next]:
        if not following:
            return []
        known = work.ledger.read([step.key for step, _ in following]).entries
        return [(step, data) for step, data in following if step.key not in known]

    def _ready(self, work: Work, following: After, entries: Mapping[str, bytes], result: Payload) -> list[Next]:
        """Those of the following steps that wait for nobody else."""
        ready: list[Next] = []
        for target in following.targets:
            if target.arrival is None:
                ready.append((target.step, None if target.step.phase is Phase.JOIN else result))
            elif self._is_complete(work, target, entries):
                ready.append((target.step, None))
        if following.next_branch is not None:
            ready.append(self._held_back(work, following))
        return ready

    def _is_complete(self, work: Work, target: Target, entries: Mapping[str, bytes]) -> bool:
        level, place = 0, joins.place(target)
        while sum(key.startswith(place.group) for key in entries) == place.size:
            if place.is_top:
                return True
            level += 1
            place = joins.place(target, level)
            entries = work.ledger.arrive([place.key], [place.group]).entries
        return False

    def _held_back(self, work: Work, following: After) -> Next:
        opened, index = following.split, following.next_branch
        assert opened is not None
        assert index is not None
        record = load(work.ledger.get(opened.key), BranchesRecord, opened.key)
        option, value = split.read_branch(work.ledger, record, opened, index)
        return plan.branch(work.definition, opened, option, index, record.count), record.input or value

    def _forward(self, work: Work, following: list[Next]) -> None:
        if following:
            request_id, query = work.request_id, work.message.query
            self._parts.forward([Message(request_id, step, query, data) for step, data in following])

    def _park(self, work: Work, request: StoredRequest) -> None:
        if not self._parts.park(work.ledger, request, work.message):
            self.deliver(work.message)


def _names(work: Work) -> tuple[str, Step]:
    return work.request_id, work.step


def _without_values(branches: Iterable[tuple[str, Payload]]) -> tuple[tuple[str, Payload], ...]:
    return tuple((option, Payload()) for option, _ in branches)


def _failure(step: Step, error: BaseException, operation: str) -> Failure:
    text = "".join(traceback.format_exception(error))
    return Failure(
        node=step.position.path,
        error_type=type(error).__name__,
        message=str(error)[:_LONGEST_MESSAGE],
        operation=operation,
        traceback=text[-_LONGEST_TRACEBACK:],
        hint=error.hint if isinstance(error, FaasflowError) else "",
    )
