"""What runs once after a request has ended: `on_failure`, then `finally_`, then the callback.

They are nodes after the end, `node/$on_failure` and so on: each is recorded once, whoever ends the request runs them
in the same delivery, and any later delivery for the request runs those that have no record yet.
"""

from __future__ import annotations

import hashlib
import logging
import traceback
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from faasflow import graph
from faasflow.codec import encode
from faasflow.engine import callback
from faasflow.engine.callback import EVENT_HEADER, REQUEST_ID_HEADER, SIGNATURE_HEADER, STATE_HEADER
from faasflow.engine.context import Context
from faasflow.engine.ledger import Ledger
from faasflow.engine.lifecycle import NodeState, RequestState
from faasflow.engine.parts import Parts
from faasflow.engine.payload import EMPTY, Payload
from faasflow.engine.position import Phase, Position, Step
from faasflow.engine.records import Failure, NodeRecord, RequestRecord, dump, load
from faasflow.errors import (
    CallTimeoutError,
    KeyNotFoundError,
    NodeError,
    StoreUnavailableError,
    TransportError,
    TryAgainError,
)
from faasflow.naming import header_text
from faasflow.ports import OutgoingCall

logger = logging.getLogger(__name__)

ON_FAILURE = "$on_failure"
FINALLY = "$finally"
CALLBACK = "$callback"

_LONGEST_TRACEBACK = 8000


def ended(
    record: RequestRecord,
    state: RequestState,
    definition: graph.Definition,
    now: float,
    *,
    result: Payload | None = None,
    failure: Failure | None = None,
) -> RequestRecord:
    """`record` as it is after the request ended in `state`."""
    steps = []
    if state is RequestState.FAILED and definition.on_failure is not None:
        steps.append(ON_FAILURE)
    if definition.finally_ is not None:
        steps.append(FINALLY)
    if record.callback:
        steps.append(CALLBACK)
    return msgspec.structs.replace(record, state=state, ended=now, result=result, failure=failure, closing=tuple(steps))


class Closing:
    """Runs the closing steps of ended requests."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def run(
        self,
        request_id: str,
        record: RequestRecord,
        definition: graph.Definition,
        context: Context,
        error: BaseException | None = None,
    ) -> None:
        """Run and record the closing steps that are not recorded, for one who has just ended the request.
        `TryAgainError` if the callback's target did not take it."""
        for name in self._missing(request_id, record):
            work = self._work(name, request_id, record, definition, context, error)
            self._record(request_id, self._parts.ledger(request_id), name, work)

    def run_again(self, request_id: str, record: RequestRecord, definition: graph.Definition, context: Context) -> None:
        """`run`, for one who finds the request ended. Two at a time would call a handler twice: as long as who ended it
        may still be at it, `TryAgainError` asks for a repetition. A callback may come twice, it has an event id."""
        recent = self._parts.clock.now() - (record.ended or 0.0) < self._parts.repair_delay
        if recent and self._missing(request_id, record) not in ([], [CALLBACK]):
            raise TryAgainError(f"What runs after the end of request {request_id!r} is not recorded yet.")
        self.run(request_id, record, definition, context)

    def _missing(self, request_id: str, record: RequestRecord) -> list[str]:
        if not record.closing:
            return []
        known = self._parts.ledger(request_id).read([_key(name) for name in record.closing]).entries
        return [name for name in record.closing if _key(name) not in known]

    def failure_body(self, request_id: str) -> bytes | None:
        """What `on_failure` returned, `None` if it did not run or returned nothing."""
        try:
            record = load(self._parts.ledger(request_id).get(_key(ON_FAILURE)), NodeRecord, ON_FAILURE)
        except KeyNotFoundError:
            return None
        return self._parts.payloads(request_id).load(record.result) or None

    def _work(
        self,
        name: str,
        request_id: str,
        record: RequestRecord,
        definition: graph.Definition,
        context: Context,
        error: BaseException | None,
    ) -> Callable[[], bytes]:
        if name == CALLBACK:
            return lambda: self._call_back(request_id, record)
        root = Step(Position((), definition.root.start), Phase.NODE)
        context._bind(self._parts.ledger(request_id), self._parts.payloads(request_id), definition, root)
        context.node, context.node_input, context.state = "", {}, record.state.outcome
        if name == FINALLY:
            assert definition.finally_ is not None
            return lambda: encode(definition.finally_(record.state.outcome), "finally_")  # type: ignore[misc]
        assert definition.on_failure is not None
        assert record.failure is not None
        reason = _node_error(record.failure, error)
        return lambda: encode(definition.on_failure(reason), "on_failure")  # type: ignore[misc]

    def _record(self, request_id: str, ledger: Ledger, name: str, work: Callable[[], bytes]) -> None:
        started = self._parts.clock.now()
        state, result, failure = NodeState.FINISHED, EMPTY, None
        try:
            result = self._parts.payloads(request_id).store(f"result/{name}", work())
        except (StoreUnavailableError, TryAgainError):
            raise
        except (Exception, SystemExit) as error:
            # The record says more: an exception of the handler may quote what it was given, which is not for a log.
            logger.warning("Request %s: %s failed with %s.", request_id, name, type(error).__name__)
            state, failure = NodeState.FAILED, _failure(name, error)
        record = NodeRecord(state, started, self._parts.clock.now(), result=result, failure=failure)
        ledger.create(_key(name), dump(record))

    def _call_back(self, request_id: str, record: RequestRecord) -> bytes:
        callback.check_target(record.callback, self._parts.callback_allow)
        body = self._callback_body(request_id, record)
        call = OutgoingCall(
            method="POST",
            url=record.callback,
            headers=self._callback_headers(request_id, record, body),
            query=[],
            body=body,
            timeout=self._parts.call_timeout,
        )
        try:
            response = self._parts.transport.call(call)
        except TransportError as error:
            # Without the error's own text: a path of the callback's URL may be as good as a password.
            reason = "in time" if isinstance(error, CallTimeoutError) else "at all"
            raise TryAgainError(f"{_told(request_id, record)} was not answered {reason}.") from None
        if not response.is_success:
            raise TryAgainError(f"{_told(request_id, record)} was answered {response.status}.")
        return b""

    def _callback_body(self, request_id: str, record: RequestRecord) -> bytes:
        if record.result is not None:
            return self._parts.payloads(request_id).load(record.result)
        return self.failure_body(request_id) or failure_text(request_id, record)

    def _callback_headers(self, request_id: str, record: RequestRecord, body: bytes) -> dict[str, str]:
        event = hashlib.sha256(f"{self._parts.flow}\n{request_id}\n{CALLBACK}".encode("utf-8", "surrogatepass"))
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
        "error": f"Node {failure.node!r} failed: {failure.error_type}: {failure.message}",
        "request_id": request_id,
        "node": failure.node,
        "operation": failure.operation,
        "error_type": failure.error_type,
        "hint": failure.hint,
    }
    return msgspec.json.encode(body)


def _node_error(failure: Failure, error: BaseException | None) -> NodeError:
    reason = NodeError(
        f"Node {failure.node!r} failed: {failure.error_type}: {failure.message}",
        node=failure.node,
        operation=failure.operation,
        error_type=failure.error_type,
    )
    reason.__cause__ = error
    return reason


def _told(request_id: str, record: RequestRecord) -> str:
    return f"The callback of request {request_id!r} to {urlsplit(record.callback).hostname!r}"


def _failure(name: str, error: BaseException) -> Failure:
    text = "".join(traceback.format_exception(error))
    return Failure(name, type(error).__name__, str(error), traceback=text[-_LONGEST_TRACEBACK:])


def _key(name: str) -> str:
    return f"node/{name}"
