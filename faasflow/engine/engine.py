"""The engine of one flow, as its front uses it: start, deliver, steer, and look at requests."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import msgspec

from faasflow import graph
from faasflow.engine import plan, story
from faasflow.engine.aside import Faulty
from faasflow.engine.clock import ClockStatus, FlowClock
from faasflow.engine.closing import Closing, ended
from faasflow.engine.context import Context
from faasflow.engine.executor import Executor
from faasflow.engine.flow_time import APART
from faasflow.engine.kept import Part, value_of
from faasflow.engine.ledger import INPUT, Snapshot, StoredRequest
from faasflow.engine.lifecycle import Command, RequestState, transition
from faasflow.engine.lists import Lists, Page
from faasflow.engine.message import Message
from faasflow.engine.parts import Parts
from faasflow.engine.records import Failure, RequestRecord, dump
from faasflow.engine.redrive import Redrive, check_definition, watched
from faasflow.engine.removal import Removal
from faasflow.engine.round import Tick
from faasflow.engine.timers import start_timer
from faasflow.engine.work import Work
from faasflow.errors import (
    BadRequestError,
    FaasflowError,
    RequestConflictError,
    RequestNotFoundError,
    StoreUnavailableError,
    TryAgainError,
)
from faasflow.graph.steady import steady
from faasflow.naming import IdMaker
from faasflow.scope import Scope, entered

logger = logging.getLogger(__name__)

_LONGEST_ID = 1024
_LONGEST_START = 3600.0
_FIRST_LOOK = 0.01
_LAST_LOOK = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a request now. `body` is its result, or what `on_failure` returned; `None` where there is
    none.
    """

    request_id: str
    state: RequestState
    body: bytes | None = None
    failure: Failure | None = None


class Engine:
    """Runs the requests of one flow. Thread-safe; any number of engines may share the stores of a flow."""

    def __init__(
        self,
        parts: Parts,
        *,
        make_id: Callable[[], str] | None = None,
        make_incarnation: Callable[[], str] = lambda: secrets.token_hex(6),
    ) -> None:
        self._parts = parts
        self._make_id = make_id or IdMaker()
        self._make_incarnation = make_incarnation
        self._executor = Executor(parts)
        self._closing = Closing(parts)
        self._clock = FlowClock(parts)
        self._redrive = Redrive(parts, self._clock)
        self._removal = Removal(parts)
        self._lists = Lists(parts)

    @property
    def flow(self) -> str:
        """The flow's name."""
        return self._parts.flow

    def definition(self, query: str = "") -> graph.Definition:
        """The flow's graph for a request with this query; `DefinitionError` if it has a mistake."""
        return self._parts.define(Context(self.flow, "", query))

    def checked_definition(self, query: str = "") -> graph.Definition:
        """`definition`, which also raises if the flow is not the same when it is defined again."""
        return steady(lambda: self.definition(query))

    def start(
        self,
        body: bytes,
        *,
        query: str = "",
        request_id: str = "",
        callback: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Start a request. When it returns, the request is safe: ended, for a flow of one synchronous node; else
        recorded, with its first message in the queue. `headers` are the caller's, for event handlers to look at.

        The same id and body again join the first start: they run nothing, and give its answer as it is by then. Another
        body is a `RequestConflictError`.
        """
        if len(request_id) > _LONGEST_ID:
            raise BadRequestError(f"The request id has {len(request_id)} characters. Use at most {_LONGEST_ID}.")
        id, incarnation = request_id or self._make_id(), self._make_incarnation()
        context = Context(self.flow, id, query)
        definition = self._parts.define(context)
        record = RequestRecord(
            state=RequestState.RUNNING,
            fingerprint=definition.fingerprint,
            created=self._parts.time.now(),
            body_sha256=hashlib.sha256(body).hexdigest(),
            query=query,
            callback=callback,
            incarnation=incarnation,
        )
        step = plan.first_step(definition)
        message = Message(id, step, query, life=record.life)
        work = self._executor.work(message, context, definition)
        work.ledger.expect_start(start_timer(id, record.created + _LONGEST_START, incarnation, written=record.created))
        with work.delivering(), self._discarding(work):
            payload = work.payloads.store("input", body)
            work.message = msgspec.structs.replace(message, data=payload)
            work.extra = {INPUT: dump(payload)}
            work.reports.tell("request_start", headers=dict(headers or {}))
            trace = work.reports.tell_of("execution_forward", step)
            work.message = msgspec.structs.replace(work.message, trace=trace)
            record = self._watched(msgspec.structs.replace(record, trace=trace), definition)
            if definition.is_single_node and not request_id:
                return self._run_now(work, record)
            while not work.ledger.start(record, work.extra):
                if not self._removal.finish(id):
                    self._removal.discard(id, incarnation, work.ledger)
                    return self._repeat(work, record)
            return self._begin(work)

    def wait(self, request_id: str, seconds: float) -> Answer:
        """What is known of a request once it has ended, or after `seconds`."""
        clock = self._parts.clock
        deadline = clock.now() + seconds
        pause = _FIRST_LOOK
        while True:
            answer = self.answer(request_id)
            left = deadline - clock.now()
            if answer.state.has_ended or left <= 0:
                return answer
            clock.sleep(min(pause, left))
            pause = min(pause * 1.5, _LAST_LOOK)

    def answer(self, request_id: str) -> Answer:
        """What is known of a request now; `RequestNotFoundError` if nothing is."""
        return self._answer(request_id, self._request(request_id).record)

    def deliver(self, request_id: str, data: bytes, *, is_again: bool = False) -> None:
        """Carry out one message of the queue. When it returns, the message is done with; `MessageError` for one that is
        not ours; `TryAgainError`, `StoreUnavailableError` and `ForwardError` ask for it again. With `is_again` the
        queue has delivered it before."""
        message = self._parts.codec.decode(data, request_id, self._parts.time.now())
        self._parts.queue.measure(message, data, self._parts.repair_after)
        if not self._parts.time.has_looked and abs(self._parts.clock.now() - message.put) > APART:
            self._parts.time.agree()  # the message was put by another clock, or waited
        self._executor.deliver(msgspec.structs.replace(message, is_again=message.is_again or is_again))

    def pause(self, request_id: str) -> RequestState:
        """Let running nodes end and start no new one. `RequestConflictError` for a request that has ended."""
        return self._command(request_id, Command.PAUSE).record.state

    def resume(self, request_id: str) -> RequestState:
        """Go on with a paused request. `RequestConflictError` for one that has ended, or whose flow was changed, which
        stays paused."""
        stored = self._command(request_id, Command.RESUME)
        self._parts.unpark_all(self._parts.ledger(request_id), request_id)
        return stored.record.state

    def stop(self, request_id: str) -> RequestState:
        """End a request: running operations end, their results are refused. `RequestConflictError` for one that has
        ended in another way."""
        stored = self._command(request_id, Command.STOP)
        self._close(request_id, stored)
        return stored.record.state

    def state(self, request_id: str) -> RequestState:
        """The state of a request."""
        return self._request(request_id).record.state

    def story(self, request_id: str, *, is_folded: bool = False, node: str = "") -> dict[str, object]:
        """All that is recorded of a request, for JSON: times in seconds since the epoch, sizes in bytes. With
        `is_folded` the executions of a node in branches share a row, but those of the path `node`."""
        snapshot = self._parts.ledger(request_id).read([], story.PREFIXES)
        record = _known(request_id, snapshot).record
        definition, graph_error = self._shape(request_id, record)
        told = story.tell(record, snapshot.entries, definition, self._parts.time.now(), is_folded=is_folded, node=node)
        return {"flow": self.flow, "request_id": request_id, **told, "graph_error": graph_error}

    def data(self, request_id: str, node: str = "", part: Part = Part.RESULT) -> bytes:
        """A value of a node, by its path, or of the request itself; `NotKeptError` if it is not kept."""
        record = self._request(request_id).record
        payloads = self._parts.payloads(request_id, record.incarnation)
        return value_of(self._parts.ledger(request_id), payloads, record, node, part)

    def remove(self, request_id: str) -> None:
        """Remove all that is stored of an ended request. `RequestConflictError` for one that has not ended."""
        stored = self._request(request_id)
        if not stored.record.state.has_ended:
            raise RequestConflictError(
                f"Request {request_id!r} is {stored.record.state} and cannot be removed.", hint="Stop it first."
            )
        if not self._removal.remove(request_id, stored):
            raise RequestConflictError(f"Request {request_id!r} was changed by somebody else just now.")

    def requests(
        self,
        *,
        limit: int = 100,
        after: str = "",
        states: Collection[RequestState] = (),
        since: float = 0.0,
        before: float = float("inf"),
    ) -> Page:
        """The newest requests; see `Lists.requests`."""
        return self._lists.requests(limit=limit, after=after, states=states, since=since, before=before)

    def dead_letters(self, *, limit: int = 100, after: str = "") -> list[dict[str, object]]:
        """The requests that failed for good; see `Lists.dead_letters`."""
        return self._lists.dead_letters(limit=limit, after=after)

    def tick(self, *, limit: int = 100, wait: float = 0.0) -> Tick:
        """Begin everything that is due in this flow, and wait up to `wait` seconds for it to end; see `clock`. Only a
        store that is away stops it."""
        return self._clock.tick(limit=limit, wait=wait)

    def sweep(self) -> None:
        """A small tick, if this process has seen none for a while."""
        self._clock.sweep()

    def unreadable(self, *, limit: int = 100) -> list[Faulty]:
        """The requests, timers and entries of lists that this version cannot read."""
        return self._clock.unreadable(limit=limit)

    def restore_unreadable(self) -> int:
        """Go on now with what was set aside and can be read; how many entries. The clock does so each minute."""
        return self._clock.restore()

    def remove_unreadable(self, name: str) -> None:
        """Remove a request whose record cannot be read, or by its key an entry that names none.
        `RequestConflictError` for what can be read, `RequestNotFoundError` where nothing is."""
        self._clock.remove_unreadable(name)

    def beat(self) -> None:
        """Renew leases now; a thread of this process does so by itself, unless there are to be none."""
        self._parts.leases.beat()

    def clock_status(self) -> ClockStatus:
        """When the clock of the flow ran last."""
        return self._clock.status()

    def compare_clock(self, *, patience: float) -> float:
        """By how many seconds this process's clock is ahead of those of the others, for one that does not tick; hearing
        them takes up to `patience` seconds."""
        return self._clock.compare(patience=patience)

    def next_timer(self) -> float | None:
        """When the next timer is due, by the clock of this process; `None` if there is none."""
        return self._clock.next_timer()

    def retry(self, request_id: str, *, node: str = "", input: bytes | None = None) -> RequestState:
        """Go on with a failed request, from the node that failed or from `node` (its path), with what is recorded of
        the nodes before; `input` is what that node works on instead. `RequestConflictError` for a request that has not
        failed or whose flow was changed, `BadRequestError` for a node that was not reached."""
        return self._redrive.retry(request_id, self._request(request_id), node=node, input=input)

    def _watched(self, record: RequestRecord, definition: graph.Definition) -> RequestRecord:
        return watched(record, definition, record.created, self._parts.repair_after)

    def _run_now(self, work: Work, record: RequestRecord) -> Answer:
        """A flow of one node with an id of our own: nobody else can know of it, so one write records it all."""
        with self._later(work, is_recorded=False):
            logger.info("The request was started.")
            self._executor.run(work, StoredRequest(record, None), Snapshot(None, {}))
        return self._now(work)

    def _begin(self, work: Work) -> Answer:
        work.extra = {}
        logger.info("The request was started.")
        if work.definition.is_single_node:
            with self._later(work):
                self._executor.advance(work)
            return self._now(work)
        self._parts.send(work.ledger, [work.message])
        return Answer(work.message.request_id, RequestState.RUNNING)

    def _repeat(self, work: Work, record: RequestRecord) -> Answer:
        """Join the first start. Whether that is at work, waits in a queue or died, nobody can tell; what died is
        repeated by the clock, and a message from here would run the first node beside it."""
        id = work.message.request_id
        stored = self._request(id).record
        work.reports.tell("request_end", state=stored.state, is_recorded=False)
        if stored.body_sha256 != record.body_sha256:
            raise RequestConflictError(
                f"Request {id!r} was started with another body.",
                hint="Use a new request id, or send the same body.",
            )
        return self._answer(id, stored)

    @contextmanager
    def _discarding(self, work: Work) -> Iterator[None]:
        """Where no request comes of a start, remove the values that it has written."""
        try:
            yield
        except Exception:
            self._removal.discard(work.request_id, work.message.life.incarnation, work.ledger)
            raise

    @contextmanager
    def _later(self, work: Work, *, is_recorded: bool = True) -> Iterator[None]:
        """What could not be done in the caller's time is done by the queue, once the request is recorded."""
        try:
            yield
        except TryAgainError:
            if not is_recorded and work.ended is None:
                raise
            self._parts.send(work.ledger, [work.message])
        except StoreUnavailableError:
            if is_recorded:
                with suppress(FaasflowError):
                    self._parts.send(work.ledger, [work.message])
            raise

    def _now(self, work: Work) -> Answer:
        id = work.message.request_id
        return self._answer(id, work.ended) if work.ended else self.answer(id)

    def _answer(self, request_id: str, record: RequestRecord) -> Answer:
        body = None
        if record.result is not None:
            body = self._parts.payloads(request_id, record.incarnation).load(record.result)
        else:
            body = self._closing.failure_body(request_id, record)
        return Answer(request_id, record.state, body, record.failure)

    def _command(self, request_id: str, command: Command) -> StoredRequest:
        """Apply `command` by compare-and-set and give the request as it is then; without a version if that is new."""
        ledger = self._parts.ledger(request_id)
        while True:
            stored = self._request(request_id)
            state = transition(stored.record.state, command)
            if state is None:
                raise RequestConflictError(
                    f"Request {request_id!r} is {stored.record.state}; {command} does not apply.",
                    hint="Only a request that has not ended can be paused, resumed or stopped.",
                )
            if state is stored.record.state:
                return stored
            if command is Command.RESUME:
                check_definition(request_id, stored.record, self._defined(request_id, stored.record), "resume")
            change = self._changed(stored.record, state)
            if ledger.commit(stored, create={}, change=change).is_done:
                with entered(Scope(self.flow, request_id)):
                    logger.info("The request is %s now, by %s.", state, command)
                return StoredRequest(change, None)

    def _changed(self, record: RequestRecord, state: RequestState) -> RequestRecord:
        if not state.has_ended:
            resumed = self._parts.time.now() if state is RequestState.RUNNING else record.resumed
            return msgspec.structs.replace(record, state=state, resumed=resumed)
        return ended(record, state, self._definition_now(record), self._parts.time.now())

    def _definition_now(self, record: RequestRecord) -> graph.Definition | None:
        """The flow's graph, `None` if it cannot be defined now: to end a request that is not needed."""
        try:
            return self.definition(record.query)
        except FaasflowError as error:
            logger.warning("The flow cannot be defined now; what runs after the end is left to the clock: %s", error)
            return None

    def _close(self, request_id: str, stored: StoredRequest) -> None:
        record = stored.record
        if self._definition_now(record) is None:
            return
        work = self._executor.whole(request_id, record)
        with work.delivering():
            try:
                if stored.version is None:
                    work.reports.go_on(work.step.position.path, record.trace)
                    work.reports.tell("request_end", state=record.state)
                    self._closing.run(work, record)
                else:
                    self._closing.run_again(work, record)
            except TryAgainError:
                self._parts.send(work.ledger, [work.message])

    def _shape(self, request_id: str, record: RequestRecord) -> tuple[graph.Definition | None, str]:
        """The graph that a request runs on; if it cannot be known any more, why."""
        try:
            definition = self._defined(request_id, record)
        except FaasflowError as error:
            return None, f"The flow cannot be defined now: {error}"
        if not definition.has_fingerprint(record.fingerprint):
            return None, "The flow was changed after this request had started."
        return definition, ""

    def _defined(self, request_id: str, record: RequestRecord) -> graph.Definition:
        return self._parts.define(Context(self.flow, request_id, record.query))

    def _request(self, request_id: str) -> StoredRequest:
        return _known(request_id, self._parts.ledger(request_id).read())


def _known(request_id: str, snapshot: Snapshot) -> StoredRequest:
    if snapshot.request is None:
        raise RequestNotFoundError(
            f"Request {request_id!r} is not known.",
            hint="Check the id, and that this is the flow it was started on.",
        )
    return snapshot.request
