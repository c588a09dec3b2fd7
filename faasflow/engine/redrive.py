"""Going on with a request that failed for good: what is unrecorded so that it can run again, and what is kept.

The failed node's record becomes a failed attempt, and the request is RUNNING again in a new run. Everything else stays
as it is recorded. Messages and outcomes of the run before count no more: a delivery that was under way when the
request failed is refused, and its step is forwarded again like any other that has no outcome.
"""

from __future__ import annotations

import msgspec

from faasflow import graph
from faasflow.engine import rewind, split
from faasflow.engine.attempts import attempt_key, numbers_of
from faasflow.engine.clock import FlowClock
from faasflow.engine.closing import CALLBACK
from faasflow.engine.context import Context
from faasflow.engine.ledger import Ledger, StoredRequest
from faasflow.engine.lifecycle import Command, RequestState, transition
from faasflow.engine.message import Message
from faasflow.engine.parts import Parts
from faasflow.engine.plan import first_step
from faasflow.engine.position import Phase, Position, Step
from faasflow.engine.records import AttemptRecord, NodeRecord, RequestRecord, dump, load
from faasflow.engine.repair import ready
from faasflow.engine.timers import Timer, forward_timer
from faasflow.errors import BadRequestError, KeyNotFoundError, RequestConflictError


def watched(record: RequestRecord, definition: graph.Definition, now: float, repair_after: float) -> RequestRecord:
    """`record` with the time by which it has to end, and that of the clock's first look at it."""
    deadline = now + definition.timeout if definition.timeout is not None else None
    look = now + repair_after
    return msgspec.structs.replace(record, deadline=deadline, look=min(look, deadline or look))


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
        self._check_definition(request_id, record, definition)
        ledger = self._parts.ledger(request_id)
        write, delete = self._unrecorded(request_id, ledger, record, definition, node, input)
        change = self._running(record, definition)
        if not ledger.commit(stored, create={}, put=write, delete=delete, change=change).is_done:
            raise _changed(request_id)
        fresh = ledger.read().request
        if fresh is not None and fresh.record.run == change.run:
            self._clock.repair(request_id, fresh)
        return change.state

    def _definition(self, request_id: str, record: RequestRecord) -> graph.Definition:
        return self._parts.define(Context(self._parts.flow, request_id, record.query))

    def _check_definition(self, request_id: str, record: RequestRecord, definition: graph.Definition) -> None:
        if record.fingerprint != definition.fingerprint:
            raise RequestConflictError(
                f"Request {request_id!r} cannot go on: its flow was changed after it had started.",
                hint="Deploy the former definition and retry, or start a new request.",
            )

    def _running(self, record: RequestRecord, definition: graph.Definition) -> RequestRecord:
        change = msgspec.structs.replace(
            record, state=RequestState.RUNNING, run=record.run + 1, ended=None, result=None, failure=None, closing=()
        )
        return watched(change, definition, self._parts.clock.now(), self._parts.repair_after)

    def _unrecorded(
        self,
        request_id: str,
        ledger: Ledger,
        record: RequestRecord,
        definition: graph.Definition,
        node: str,
        input: bytes | None,
    ) -> tuple[dict[str, bytes], list[str]]:
        """What to write and to delete so that the node can run again."""
        keys = set(ledger.keys())
        failed = record.failure.node if record.failure is not None else ""
        target = node or failed
        if not target:  # it took too long: nothing has failed
            if input is not None:
                raise BadRequestError("No node has failed for which an input could be given.", hint="Name one.")
            return {}, []
        if not keys & {f"node/{target}", f"branches/{target}"}:
            raise BadRequestError(
                f"Node {target!r} has no outcome in this request, and so cannot be retried.",
                hint="Name a node by its path, as the story of the request shows it.",
            )
        options = split.options_reader(ledger)
        delete = {f"node/{target}"}
        if target != failed:
            delete |= rewind.keys_behind(definition, target, keys, options)
        if f"node/{failed}" in keys:
            delete.add(f"node/{failed}")
        steps = {one.step.outcome: one.step for one in ready(definition, keys - delete, options)}
        step = steps.get(f"node/{target}")
        if step is None:
            raise BadRequestError(f"Node {target!r} is not one that can be run by itself.", hint="Name another.")
        again = [steps[outcome] for outcome in dict.fromkeys((step.outcome, f"node/{failed}")) if outcome in steps]
        write: dict[str, bytes] = {}
        for one in again:
            if one.outcome in keys:
                write |= self._as_attempt(ledger, one, keys - delete, record.run)
        if input is not None:
            if step.phase is Phase.JOIN:
                raise BadRequestError(f"Node {target!r} joins branches and has no input of its own.")
            write[step.override] = dump(self._parts.payloads(request_id).store(f"input/{target}", input))
        return write, sorted(delete - write.keys())

    def _as_attempt(self, ledger: Ledger, step: Step, keys: set[str], run: int) -> dict[str, bytes]:
        """The record of a step that failed, as that of an attempt; nothing for one that did not."""
        outcome = load(ledger.get(step.outcome), NodeRecord, step.outcome)
        number = len(numbers_of(step, keys)) + 1
        if outcome.failure is None:
            return {}
        attempt = AttemptRecord(outcome.started, outcome.ended, outcome.failure, self._parts.clock.now(), run)
        return {attempt_key(step, number): dump(attempt)}

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
        due = self._parts.clock.now() + self._parts.repair_after
        again = forward_timer(request_id, Step(Position((), name), Phase.NODE), due, attempt=1, run=record.run)
        timers = [again, Timer(request_id, due, since=due, run=record.run)]
        if not ledger.commit(stored, create={}, delete=old, timers=timers, is_alive=True).is_done:
            raise _changed(request_id)
        definition = self._definition(request_id, record)
        self._parts.send(ledger, [Message(request_id, first_step(definition), record.query, run=record.run)])
        return record.state


def _changed(request_id: str) -> RequestConflictError:
    return RequestConflictError(f"Request {request_id!r} was changed by somebody else just now; look at it again.")
