"""Retrying a failed request: what is removed so that it can run again, and what is kept.

The failed node's record becomes a failed attempt, and the request is RUNNING again in a new run. Where a node is named,
its records and those of all that followed from it go; where a foreach failed because too many branches did, those of
its failed branches. That may be more than fits into a transaction, so that it is recorded first, and then done by
`rewinder`. Everything else stays as it is recorded. Messages and outcomes of the run before count no more: a delivery
that was under way when the request failed is refused, and its step is forwarded again like any other that has no
outcome.
"""

from __future__ import annotations

from functools import cache

import msgspec

from faasflow import graph
from faasflow.engine import rewind, split
from faasflow.engine.attempts import attempt_key, numbers_of
from faasflow.engine.clock import FlowClock
from faasflow.engine.closing import CALLBACK
from faasflow.engine.context import Context
from faasflow.engine.ledger import Ledger, StoredRequest
from faasflow.engine.lifecycle import Command, RequestState, transition
from faasflow.engine.message import message_for
from faasflow.engine.parts import Parts
from faasflow.engine.payload import Payloads
from faasflow.engine.plan import first_step, key_of_result
from faasflow.engine.position import Phase, Position, Step, recorded_path
from faasflow.engine.records import NodeRecord, RequestRecord, Rewind, dump, load
from faasflow.engine.rewinder import as_attempt, failed_step, is_over_tolerance
from faasflow.engine.timers import forward_timer, look_timer
from faasflow.errors import BadRequestError, KeyNotFoundError, RequestConflictError


def watched(record: RequestRecord, definition: graph.Definition, now: float, repair_after: float) -> RequestRecord:
    """`record` with the time by which it has to end, and that of the clock's first look at it."""
    deadline = now + definition.timeout if definition.timeout is not None else None
    look = now + repair_after
    return msgspec.structs.replace(record, deadline=deadline, look=min(look, deadline or look))


def check_definition(request_id: str, record: RequestRecord, definition: graph.Definition, command: str) -> None:
    """`RequestConflictError` for a request that was started with another shape of its flow."""
    if not definition.has_fingerprint(record.fingerprint):
        raise RequestConflictError(
            f"Request {request_id!r} cannot go on: its flow was changed after it had started.",
            hint=f"Deploy the former definition and {command} it, or start a new request with another id.",
        )


class _Again:
    """What a retry writes and deletes at once, and what it leaves to be removed before the request goes on."""

    def __init__(self, ledger: Ledger, definition: graph.Definition, record: RequestRecord, *, now: float) -> None:
        self._ledger = ledger
        self._definition = definition
        self._record = record
        self._now = now
        self._options = cache(split.options_reader(ledger))
        self.put: dict[str, bytes] = {}
        self.delete: list[str] = []
        self.rewinds = record.rewinds  # those of a retry that was cut off, and whose request has failed again

    def plan(self, node: str, payloads: Payloads, input: bytes | None) -> None:
        """Let the request go on from `node`, or from where it failed. `BadRequestError` if it cannot."""
        keys = self._keys()
        node = recorded_path(node, keys)
        failed = self._record.failure.node if self._record.failure is not None else ""
        target = node or failed
        if not target:  # it took too long: nothing has failed
            if input is not None:
                raise BadRequestError("No node has failed for which an input could be given.", hint="Name one.")
            return
        position = self._position(target, keys)
        step = failed_step(self._definition, position, keys)
        if node and step.phase is Phase.JOIN:
            step = Step(position, Phase.SPLIT)
        is_whole = bool(node) and (target != failed or step.phase is Phase.SPLIT)
        behind = rewind.keys_behind(self._definition, target, keys, self._options) if is_whole else set()
        kept = self._as_attempt(step, keys - behind, is_known=step == failed_step(self._definition, position, keys))
        kept += self._override(step, payloads, input)
        if failed and failed != target and f"node/{failed}" not in behind:
            self._failed(failed, keys)
        elif not is_whole:
            self._failed_branches(target, keys)
        if is_whole:
            self._others_of_branches(position, keys)
            self.rewinds += (Rewind(target, kept=tuple(kept)),)
        self.delete += sorted({f"node/{target}", f"node/{failed}"} & keys)

    def _keys(self) -> set[str]:
        keys = set(self._ledger.keys())
        for rewound in self.rewinds:
            if not rewound.is_partial:
                keys -= rewind.keys_behind(self._definition, rewound.node, keys, self._options) - set(rewound.kept)
        return keys

    def _position(self, target: str, keys: set[str]) -> Position:
        if not keys & {f"node/{target}", f"branches/{target}"}:
            raise BadRequestError(
                f"Node {target!r} has no outcome in this request, and so cannot be retried.",
                hint="Name a node by its path, as the story of the request shows it.",
            )
        position = rewind.position_of(self._definition, target, self._options)
        if position is None:
            raise BadRequestError(f"Node {target!r} is not one that can be run by itself.", hint="Name another.")
        outcome = self._outcome(target, keys)
        if outcome is not None and outcome.failure is not None and outcome.failure.node != target:
            raise BadRequestError(
                f"Node {target!r} was not reached: its branch failed at {outcome.failure.node!r} before.",
                hint=f"Retry node {outcome.failure.node!r}.",
            )
        return position

    def _outcome(self, path: str, keys: set[str]) -> NodeRecord | None:
        key = f"node/{path}"
        return load(self._ledger.get(key), NodeRecord, key) if key in keys else None

    def _as_attempt(self, step: Step, keys: set[str], *, is_known: bool = True) -> list[str]:
        """Record a step that failed as an attempt that did; its key."""
        outcome = self._outcome(step.position.path, keys | {step.outcome}) if is_known else None
        if outcome is None or outcome.failure is None:
            return []
        key = attempt_key(step, len(numbers_of(step, keys)) + 1)
        self.put[key] = as_attempt(outcome, self._now, self._record.run)
        return [key]

    def _override(self, step: Step, payloads: Payloads, input: bytes | None) -> list[str]:
        if input is None:
            return []
        path = step.position.path
        if step.phase is Phase.JOIN:
            raise BadRequestError(
                f"Node {path!r} joins branches and has no input of its own.",
                hint=f"Name it to open all its branches again with this input: node={path!r}.",
            )
        self.put[step.override] = dump(payloads.store(f"input/{path}", input))
        return [step.override]

    def _failed(self, path: str, keys: set[str]) -> None:
        """Let the node at which the request failed run again, beside the one that was named."""
        position = rewind.position_of(self._definition, path, self._options)
        if position is not None:
            self._as_attempt(failed_step(self._definition, position, keys), keys)
            self._failed_branches(path, keys)

    def _failed_branches(self, path: str, keys: set[str]) -> None:
        outcome = self._outcome(path, keys)
        if outcome is not None and is_over_tolerance(outcome, keys):
            self.rewinds += (Rewind(path, is_partial=True),)

    def _others_of_branches(self, position: Position, keys: set[str]) -> None:
        """Where the node is in a branch that has failed, all that failed in it has to run again for it to end well."""
        while position.frames:
            frame, position = position.frames[-1], position.parent
            body = rewind.node_of(self._definition, position).body
            if isinstance(body, graph.Foreach) and body.tolerated is not None:
                end = key_of_result(body.dag, position.inside(frame, body.dag.end))
                outcome = self._outcome(end.removeprefix("node/"), keys)
                if outcome is not None and outcome.has_failed:
                    self.rewinds += (Rewind(position.path, is_partial=True, branch=frame.option),)


class Redrive:
    """Goes on with failed requests of one flow."""

    def __init__(self, parts: Parts, clock: FlowClock) -> None:
        self._parts = parts
        self._clock = clock

    def retry(self, request_id: str, stored: StoredRequest, *, node: str, input: bytes | None) -> RequestState:
        """Go on; see `Engine.retry`."""
        try:
            return self._retry(request_id, stored, node, input)
        except (BadRequestError, KeyNotFoundError):
            # Of two who retry at a time the second may find that the first has taken away what it is about to look at.
            fresh = self._parts.ledger(request_id).read().request
            if fresh is not None and fresh.version != stored.version:
                raise _changed(request_id) from None
            raise

    def _retry(self, request_id: str, stored: StoredRequest, node: str, input: bytes | None) -> RequestState:
        if node == CALLBACK:
            return self._tell_again(request_id, stored)
        record, definition = stored.record, self._definition(request_id, stored.record)
        if transition(record.state, Command.RETRY) is None:
            raise RequestConflictError(
                f"Request {request_id!r} is {record.state} and cannot be retried.",
                hint="Only a failed request can go on; start a new one instead.",
            )
        check_definition(request_id, record, definition, "retry")
        ledger = self._parts.ledger(request_id)
        again = _Again(ledger, definition, record, now=self._parts.time.now())
        again.plan(node, self._parts.payloads(request_id, record.incarnation), input)
        change = self._running(record, definition, again.rewinds)
        if not ledger.commit(stored, create={}, put=again.put, delete=again.delete, change=change).is_done:
            raise _changed(request_id)
        fresh = ledger.read().request
        if fresh is not None and fresh.record.life == change.life:
            self._clock.repair(request_id, fresh)
        return change.state

    def _definition(self, request_id: str, record: RequestRecord) -> graph.Definition:
        return self._parts.define(Context(self._parts.flow, request_id, record.query))

    def _running(
        self, record: RequestRecord, definition: graph.Definition, rewinds: tuple[Rewind, ...]
    ) -> RequestRecord:
        change = msgspec.structs.replace(
            record,
            state=RequestState.RUNNING,
            run=record.run + 1,
            ended=None,
            result=None,
            failure=None,
            closing=(),
            rewinds=rewinds,
        )
        return watched(change, definition, self._parts.time.now(), self._parts.repair_after)

    def _tell_again(self, request_id: str, stored: StoredRequest) -> RequestState:
        """Give a callback that was given up another round of attempts."""
        record, ledger = stored.record, self._parts.ledger(request_id)
        name = next((name for name in record.closing if name.startswith(CALLBACK)), None)
        keys = set(ledger.keys())
        if name is None or f"node/{name}" not in keys:
            raise RequestConflictError(
                f"Request {request_id!r} has no callback that was given up.",
                hint="It has none, or it is still being delivered.",
            )
        if load(ledger.get(f"node/{name}"), NodeRecord, name).failure is None:
            raise RequestConflictError(f"The callback of request {request_id!r} was delivered.")
        old = [f"node/{name}", *(key for key in keys if key.startswith(f"attempt/node/{name}/"))]
        # Once it is no dead letter, the clock alone knows of it if the message below is lost.
        now = self._parts.time.now()
        due = now + self._parts.repair_after
        again = forward_timer(
            request_id, Step(Position((), name), Phase.NODE), due, written=now, attempt=1, life=record.life
        )
        timers = [again, look_timer(request_id, due, due, record.life)]
        if not ledger.commit(stored, create={}, delete=old, timers=timers, is_alive=True).is_done:
            raise _changed(request_id)
        definition = self._definition(request_id, record)
        self._parts.send(ledger, [message_for(request_id, record, first_step(definition))])
        return record.state


def _changed(request_id: str) -> RequestConflictError:
    return RequestConflictError(f"Request {request_id!r} was changed by somebody else just now; look at it again.")
