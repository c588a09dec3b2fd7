"""What runs once after a request has ended: `on_failure`, then `finally_`, then the callback.

They are nodes after the end, `node/$on_failure` and so on: each is recorded once, whoever ends the request runs them
in the same delivery, and any later delivery for the request runs those that have no record yet.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from faasflow import graph
from faasflow.codec import encode
from faasflow.config import redirection
from faasflow.engine import callback
from faasflow.engine.attempts import Attempts, failure_of
from faasflow.engine.callback import EVENT_HEADER, REQUEST_ID_HEADER, SIGNATURE_HEADER, STATE_HEADER
from faasflow.engine.flow_time import is_believed
from faasflow.engine.guard import UserCodeError, user_code
from faasflow.engine.leases import LOST_STARTS, Running
from faasflow.engine.ledger import Ledger
from faasflow.engine.lifecycle import NodeState, RequestState
from faasflow.engine.parts import Parts
from faasflow.engine.payload import Payload
from faasflow.engine.position import Phase, Position, Step
from faasflow.engine.records import AttemptRecord, Failure, NodeRecord, RequestRecord, dump, load, node_error
from faasflow.engine.timers import forward_timer
from faasflow.engine.user_code import call
from faasflow.engine.work import Work
from faasflow.errors import (
    CallError,
    CallTimeoutError,
    DefinitionChangedError,
    FaasflowError,
    KeyNotFoundError,
    LostStartError,
    StoreUnavailableError,
    TransportError,
    TryAgainError,
    UnreachableError,
)
from faasflow.graph.policy import Retry
from faasflow.naming import header_text, readable_path
from faasflow.ports import OutgoingCall
from faasflow.scope import Scope, entered

logger = logging.getLogger(__name__)

ON_FAILURE = "$on_failure"
FINALLY = "$finally"
_FINALLY_IF_ANY = "$finally-if-any"
CALLBACK = "$callback"

CALLBACK_RETRY = Retry(
    attempts=40, delay=1.0, factor=2.0, max_delay=1800.0, codes=range(100, 600), exceptions=(TransportError,)
)
"""A callback is tried again for most of a day. Any answer but 2xx may be that of a target that is being mended."""


def ended(
    record: RequestRecord,
    state: RequestState,
    definition: graph.Definition | None,
    now: float,
    *,
    result: Payload | None = None,
    failure: Failure | None = None,
) -> RequestRecord:
    """`record` as it is after the request ended in `state`. Where the flow cannot be defined now, it may have a handler
    for its end, which is looked for once it can."""
    steps = []
    if definition is not None and state is RequestState.FAILED and definition.on_failure is not None:
        steps.append(ON_FAILURE)
    if definition is None:
        steps.append(_FINALLY_IF_ANY)
    elif definition.finally_ is not None:
        steps.append(FINALLY)
    if record.callback:
        steps.append(CALLBACK)
    # Each end of a request that went on after a failure has closing steps of its own.
    names = tuple(f"{step}.{record.run}" if record.run else step for step in steps)
    return msgspec.structs.replace(record, state=state, ended=now, result=result, failure=failure, closing=names)


@dataclass(slots=True)
class _Told:
    """What is to be told of a closing step."""

    error: BaseException | None = None
    state: NodeState = NodeState.FAILED
    why: str = ""


class Closing:
    """Runs the closing steps of ended requests."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def run(
        self, work: Work, record: RequestRecord, error: BaseException | None = None, *, is_again: bool = False
    ) -> None:
        """Run and record the closing steps that are not recorded, for one who has just ended the request in the
        delivery of `work`. A callback that is not taken is tried again by the clock. With `is_again` they may have been
        started before."""
        for name, known in self._missing(work.ledger, record).items():
            started = self._parts.time.now()
            running = Running(work.ledger, None, _lease(name), 1, started)
            stood = self._parts.leases.take_over(running, known.get(_lease(name)))
            attempts = closing_attempts(name, known)
            if name.startswith(CALLBACK):
                if attempts.last is None or self._due(attempts.last) <= self._parts.time.now():
                    self._tell(work, record, name, attempts)
                continue
            if is_again and not stood:
                self._take(work, running)
            outcome = self._leased(work, record, name, error, running)
            work.ledger.create(_key(name), dump(outcome), delete=[_lease(name)] if running.held else [])

    def _take(self, work: Work, running: Running) -> None:
        """Have a lease before a handler is started that may have ended its process before."""
        running.request = work.ledger.read().request
        has_leases = self._parts.lease_after != float("inf")
        if has_leases and running.request is not None and not self._parts.leases.take(running):
            raise TryAgainError(f"Another delivery of {running.key!r} was faster.")

    def _leased(
        self, work: Work, record: RequestRecord, name: str, error: BaseException | None, running: Running
    ) -> NodeRecord:
        started = running.started
        try:
            with self._parts.leases.working(running):
                return self._outcome(work, record, name, error, started, lost=running.lost)
        except (StoreUnavailableError, TryAgainError):
            self._parts.leases.release(running)
            raise

    def run_again(self, work: Work, record: RequestRecord) -> None:
        """`run`, for one who finds the request ended. Two at a time would call a handler twice: as long as who ended it
        may still be at it, `TryAgainError` asks for a repetition. A callback may come twice, it has an event id."""
        time, ended = self._parts.time, record.ended or 0.0
        recent = is_believed(ended, time.now()) and time.now() - ended < self._parts.repair_delay
        missing = self._missing(work.ledger, record)
        if (recent or not time.is_sure) and not all(name.startswith(CALLBACK) for name in missing):
            raise TryAgainError(
                f"What runs after the end of request {work.request_id!r} is not recorded yet.",
                retry_after=self._parts.repair_delay,
            )
        if missing:
            self.run(work, record, is_again=True)

    def waiting(self, request_id: str, record: RequestRecord) -> list[float]:
        """Since when each closing step that is not recorded could be run: the end, the end of its lease, or the time of
        its next attempt."""
        since = []
        for name, known in self._missing(self._parts.ledger(request_id), record).items():
            last = closing_attempts(name, known).last
            begun = self._due(last) if last is not None else self._ended(record)
            if lease := known.get(_lease(name)):
                begun = max(begun, self._parts.time.now() + self._parts.leases.left(lease, name))
            since.append(begun)
        return since

    def _due(self, last: AttemptRecord) -> float:
        """When the attempt after `last` may begin. One that has failed in the future says nothing of that."""
        now = self._parts.time.now()
        return last.next if is_believed(last.ended, now) else now

    def _ended(self, record: RequestRecord) -> float:
        """When a request ended. If that is in the future, it was long ago."""
        now, ended = self._parts.time.now(), record.ended or 0.0
        return ended if is_believed(ended, now) else now - self._parts.patience()

    def _missing(self, ledger: Ledger, record: RequestRecord) -> dict[str, dict[str, bytes]]:
        """The closing steps that have no record, each with its lease and attempts."""
        if not record.closing:
            return {}
        keys = [key for name in record.closing for key in (_key(name), _lease(name))]
        known = ledger.read(keys, [_attempts(name) for name in record.closing]).entries
        return {name: dict(known) for name in record.closing if _key(name) not in known}

    def failure_body(self, request_id: str, record: RequestRecord) -> bytes | None:
        """What `on_failure` returned, `None` if it did not run or returned nothing."""
        name = next((name for name in record.closing if name.startswith(ON_FAILURE)), None)
        if name is None:
            return None
        try:
            outcome = load(self._parts.ledger(request_id).get(_key(name)), NodeRecord, name)
        except KeyNotFoundError:
            return None
        return self._parts.payloads(request_id, record.incarnation).load(outcome.result) or None

    def _handler(
        self, work: Work, record: RequestRecord, name: str, error: BaseException | None
    ) -> Callable[[], bytes]:
        """The handler's own code that runs as this step."""
        definition, context = work.definition, work.context
        root = Step(Position((), definition.root.start), Phase.NODE)
        context._bind(work.ledger, work.payloads, definition, root)
        context.node, context.node_input, context.state = "", {}, record.state.outcome
        if name.startswith(FINALLY):
            if (finally_ := definition.finally_) is None:
                if name.startswith(_FINALLY_IF_ANY):
                    return bytes
                raise _gone("finally_")
            return lambda: encode(call(finally_, record.state.outcome), "finally_")
        if (on_failure := definition.on_failure) is None:
            raise _gone("on_failure")
        assert record.failure is not None
        reason = node_error(record.failure, error)
        return lambda: encode(call(on_failure, reason), "on_failure")

    def _outcome(
        self,
        work: Work,
        record: RequestRecord,
        name: str,
        error: BaseException | None,
        started: float,
        *,
        lost: int,
    ) -> NodeRecord:
        with self._told(work, record, name, 1) as told:
            try:
                _check_lost(name, lost)
                handler = self._handler(work, record, name, error)
                with user_code():
                    data = handler()
                result = work.payloads.store(f"result/{name}", data)
            except (StoreUnavailableError, TryAgainError):
                raise
            except Exception as raised:
                told.error = raised.error if isinstance(raised, UserCodeError) else raised
                failure = _failure(name, told.error, 1)
                return NodeRecord(NodeState.FAILED, started, self._parts.time.now(), failure=failure)
        return NodeRecord(NodeState.FINISHED, started, self._parts.time.now(), result=result)

    def _tell(self, work: Work, record: RequestRecord, name: str, attempts: Attempts) -> None:
        """Call back; when that fails, set the timer of the next attempt, or after the last make it a dead letter."""
        started, number = self._parts.time.now(), len(attempts.failed) + 1
        state, failure, wait = NodeState.FINISHED, None, None
        with self._told(work, record, name, number) as told:
            try:
                self._call_back(work, record, name, number)
            except StoreUnavailableError:
                raise
            except FaasflowError as error:
                told.error, told.why = error, f": {error}"
                state, failure = NodeState.FAILED, _failure(name, error, number)
                if number < CALLBACK_RETRY.attempts and CALLBACK_RETRY.covers(error):
                    told.state = NodeState.RETRYING
                    wait = CALLBACK_RETRY.wait(number, chance=self._parts.chance())
        now = self._parts.time.now()
        if wait is None or failure is None:
            outcome = NodeRecord(state, started, now, number, failure=failure)
            work.ledger.create(_key(name), dump(outcome), dead=record if failure is not None else None)
            return
        attempt = AttemptRecord(started, now, failure, now + wait, record.run)
        timer = forward_timer(
            work.request_id, _step(name), attempt.next, written=now, attempt=number + 1, life=record.life
        )
        work.ledger.create(f"{_attempts(name)}{number}", dump(attempt), timers=[timer])
        self._parts.wake(attempt.next)

    @contextmanager
    def _told(self, work: Work, record: RequestRecord, name: str, attempt: int) -> Iterator[_Told]:
        """Log a closing step and tell event handlers of it."""
        told, started = _Told(), self._parts.time.now()
        with entered(Scope(work.context.name, work.request_id, name, attempt)):
            work.reports.go_on(name, record.trace)
            work.reports.tell("node_start", node=name, attempt=attempt)
            yield told
            spent = max(0.0, self._parts.time.now() - started)
            if told.error is None:
                logger.info("%s ended: FINISHED in %.3f s.", name, spent)
                work.reports.tell("node_end", node=name, attempt=attempt, state=NodeState.FINISHED)
            else:
                # The record says more: an exception of the handler may quote what it was given, which is not for a log.
                what = (name, told.state, type(told.error).__name__, spent, told.why or ".")
                logger.warning("%s ended: %s with %s in %.3f s%s", *what)
                work.reports.tell("node_failure", node=name, attempt=attempt, state=told.state, error=told.error)

    def _call_back(self, work: Work, record: RequestRecord, name: str, attempt: int) -> None:
        target = urlsplit(record.callback)
        what = {"node": name, "operation": f"callback to {target.hostname}", "attempt": attempt}
        url = f"{target.scheme}://{target.hostname}"
        headers = work.reports.tell("operation_start", method="POST", url=url, **what)
        try:
            self._send(work.request_id, record, name, headers)
        except FaasflowError as error:
            work.reports.tell("operation_failure", error=error, **what)
            raise
        work.reports.tell("operation_end", **what)

    def _send(self, request_id: str, record: RequestRecord, name: str, headers: Mapping[str, str]) -> None:
        callback.check_target(record.callback, self._parts.callback_allow)
        body = self._callback_body(request_id, record)
        call = OutgoingCall(
            method="POST",
            url=record.callback,
            headers={**headers, **self._callback_headers(request_id, record, name, body)},
            query=[],
            body=body,
            timeout=self._parts.call_timeout,
        )
        try:
            response = self._parts.transport.call(call)
        except TransportError as error:
            # Without the error's own text: a path of the callback's URL may be as good as a password.
            raise TransportError(f"{_callback(request_id, record)} {_outcome_of(error)}.") from None
        if not response.is_success:
            moved = redirection(record.callback, response.header("Location"), secret_path=True)
            text = f"{_callback(request_id, record)} was answered {response.status}{moved}."
            raise CallError(text, code=response.status)

    def _callback_body(self, request_id: str, record: RequestRecord) -> bytes:
        if record.result is not None:
            return self._parts.payloads(request_id, record.incarnation).load(record.result)
        return self.failure_body(request_id, record) or failure_text(request_id, record)

    def _callback_headers(self, request_id: str, record: RequestRecord, name: str, body: bytes) -> dict[str, str]:
        identity = f"{self._parts.flow}\n{request_id}\n{name}\n{record.incarnation}"
        event = hashlib.sha256(identity.encode("utf-8", "surrogatepass"))
        headers = {
            REQUEST_ID_HEADER: header_text(request_id),
            STATE_HEADER: record.state.value,
            EVENT_HEADER: event.hexdigest()[:32],
        }
        if self._parts.key is not None:
            headers[SIGNATURE_HEADER] = callback.sign(self._parts.key, headers, body)
        return headers


def failure_text(request_id: str, record: RequestRecord) -> bytes:
    """A failed or stopped request as the JSON body of an answer or callback."""
    if record.failure is None:
        return msgspec.json.encode({"error": f"The request was {record.state.lower()}.", "request_id": request_id})
    failure = record.failure
    body = {
        "error": f"Node {readable_path(failure.node)!r} failed: {failure.error_type}: {failure.message}",
        "request_id": request_id,
        "node": failure.node,
        "operation": failure.operation,
        "error_type": failure.error_type,
        "hint": failure.hint,
    }
    return msgspec.json.encode(body)


def _check_lost(name: str, lost: int) -> None:
    if lost >= LOST_STARTS:
        raise LostStartError(
            f"{name} was started {lost} times, and each time its process ended before it had ended.",
            hint="See in the log of the function what ended it.",
        )


def _gone(what: str) -> DefinitionChangedError:
    return DefinitionChangedError(f"The flow was changed after this request had ended: it has no {what} any more.")


def _outcome_of(error: TransportError) -> str:
    if isinstance(error, UnreachableError):
        return "could not be connected to"
    return "was not answered in time" if isinstance(error, CallTimeoutError) else "was not answered at all"


def _callback(request_id: str, record: RequestRecord) -> str:
    return f"The callback of request {request_id!r} to {urlsplit(record.callback).hostname!r}"


def closing_attempts(name: str, entries: Mapping[str, bytes]) -> Attempts:
    """The failed attempts of a closing step among `entries`."""
    prefix = _attempts(name)
    found = {int(key.removeprefix(prefix)): value for key, value in entries.items() if key.startswith(prefix)}
    return Attempts(tuple(load(found[number], AttemptRecord, name) for number in sorted(found)))


def is_closing(step: Step) -> bool:
    """Whether a step is one after the end. A node may have its name, and is never forwarded after the end."""
    return step.position.node.startswith((ON_FAILURE, FINALLY, CALLBACK))


def _failure(name: str, error: BaseException, attempt: int) -> Failure:
    return msgspec.structs.replace(failure_of(_step(name), error, attempt=attempt), node=name)


def _step(name: str) -> Step:
    return Step(Position((), name), Phase.NODE)


def _key(name: str) -> str:
    return f"node/{name}"


def _lease(name: str) -> str:
    return f"lease/node/{name}"


def _attempts(name: str) -> str:
    return f"attempt/node/{name}/"
