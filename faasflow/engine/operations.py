"""Running the operations of a node: function calls, HTTP requests and the handler's own code, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from faasflow import graph
from faasflow.codec import encode
from faasflow.config import masked, redirection
from faasflow.engine.callback import STATE_HEADER
from faasflow.engine.context import Context
from faasflow.engine.guard import UserCodeError, user_code
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.position import Step
from faasflow.engine.reports import Reports, What
from faasflow.engine.user_code import call, call_user_code
from faasflow.errors import (
    CallError,
    CallTimeoutError,
    NodeTimeoutError,
    StartedFlowError,
    StoreUnavailableError,
    TryAgainError,
    UnreachableError,
)
from faasflow.graph import OperationKind
from faasflow.ports import OutgoingCall, Response, Transport

PARENT_HEADER = "X-Faas-Flow-Parent"
IDEMPOTENCY_HEADER = "Idempotency-Key"
ATTEMPT_HEADER = "X-Faas-Flow-Attempt"


class OperationError(Exception):
    """Carries what an operation raised, with the operation's name and place and the data it worked on; the engine's
    own, never seen by handlers. With `is_unsent` the call could not be made, and is to be made later."""

    def __init__(
        self, operation: str, error: BaseException, *, index: int, data: bytes, is_unsent: bool = False
    ) -> None:
        super().__init__(operation)
        self.is_unsent = is_unsent
        self.operation = operation
        self.error = error
        self.index = index
        self.data = data


class _UnsentError(Exception):
    """A call could not be made, because its target cannot be connected to, and it can wait."""

    def __init__(self, error: UnreachableError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom operations run, and how they reach out. `timeout` is the default, in seconds. `left` says how many
    seconds the node has left, `groups` how often each operation was answered with a failure. With `can_wait` a call
    that cannot be made is to be made later. `reports` receives the events of each operation, and `context` is what the
    code of the handler sees."""

    transport: Transport
    flow: str
    request_id: str
    step: Step
    method: str
    timeout: float
    reports: Reports
    context: Context
    attempt: int = 1
    left: Callable[[], float] = lambda: float("inf")
    groups: Mapping[int, int] = field(default_factory=dict)
    incarnation: str = ""
    can_wait: bool = False

    def tell(self, what: What, operation: graph.Operation, **details: Any) -> dict[str, str]:
        """Tell an event of an operation; the headers that go with its call."""
        return self.reports.tell_of(what, self.step, operation=_shown(operation), attempt=self.attempt, **details)

    def headers(self, operation: int) -> dict[str, str]:
        """What every call of this node carries: whose step it is, the attempt, and a key that stays the same as long as
        nobody knows what became of the call: when it is repeated, and when it is tried again after no answer came. A
        call that was answered with a failure is followed by one with another key."""
        return {
            IDEMPOTENCY_HEADER: self.key(operation, group=self.groups.get(operation, 0)),
            ATTEMPT_HEADER: str(self.attempt),
            PARENT_HEADER: f"{self.flow}/{self.request_id}",
        }

    def key(self, operation: int, *, group: int = 0) -> str:
        """What the other side can recognise an operation by that is repeated. That of code never changes: an error that
        it raises does not say what became of what it did before."""
        identity = [self.flow, self.request_id, self.step.key, str(operation)]
        if group:
            identity.append(str(group))
        if self.incarnation:
            identity.append(self.incarnation)
        return hashlib.sha256("\n".join(identity).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def run(node: graph.Node, data: bytes, caller: Caller, *, first: int = 0) -> bytes:
    """The result of the node's operations on `data`, from the one at place `first`; `OperationError` for the first that
    fails."""
    for index, operation in enumerate(node.operations[first:], first):
        before = data
        caller.context.attempt = caller.attempt
        group = 0 if operation.code is not None else caller.groups.get(index, 0)
        caller.context.idempotency_key = caller.key(index, group=group)
        headers = caller.tell("operation_start", operation, **_target(operation, caller))
        try:
            data = _run_one(node, index, operation, data, caller, headers)
        except (StoreUnavailableError, TryAgainError) as error:  # the node is not to blame
            caller.tell("operation_failure", operation, error=error, is_recorded=False)
            raise
        except _UnsentError as unsent:
            caller.tell("operation_failure", operation, error=unsent.error, is_recorded=False)
            raise OperationError(
                _shown(operation), unsent.error, index=index, data=before, is_unsent=True
            ) from unsent.error
        except Exception as raised:
            failed = raised.error if isinstance(raised, UserCodeError) else raised
            if caller.left() <= 0 and isinstance(failed, TimeoutError):
                failed = too_late(node)
            caller.tell("operation_failure", operation, error=failed)
            raise OperationError(_shown(operation), failed, index=index, data=before) from failed
        caller.tell("operation_end", operation)
    return data


def too_late(node: graph.Node) -> NodeTimeoutError:
    """What a node fails with that did not end in time."""
    return NodeTimeoutError(
        f"Node {node.id!r} did not end within {node.timeout:g} s.",
        hint="Give it a longer timeout, or find out why it takes so long.",
    )


def _run_one(
    node: graph.Node, index: int, operation: graph.Operation, data: bytes, caller: Caller, headers: Mapping[str, str]
) -> bytes:
    what = f"{_shown(operation)!r} of node {node.id!r}"
    if operation.code is not None:
        more = (caller.context,) if operation.kind is OperationKind.CUSTOM else ()
        return call_user_code(operation.code, data, what, *more, left=caller.left())
    try:
        outgoing = _outgoing(operation, data, caller, {**headers, **caller.headers(index)})
        return _answer(operation, outgoing.url, _answered(outgoing, caller), what)
    except (StoreUnavailableError, _UnsentError):
        raise
    except Exception as error:
        if isinstance(error, UserCodeError):
            if operation.on_failure is None or not isinstance(error.error, Exception):
                raise
            return _handled(operation.on_failure, error.error, what)
        if operation.on_failure is None:
            raise
        return _handled(operation.on_failure, error, what)


def _outgoing(operation: graph.Operation, data: bytes, caller: Caller, headers: Mapping[str, str]) -> OutgoingCall:
    is_function = operation.kind is OperationKind.FUNCTION
    left = caller.left()
    if left <= 0:
        raise CallTimeoutError(f"No time was left for {_shown(operation)!r}.")
    outgoing = OutgoingCall(
        method=operation.method or caller.method,
        url=caller.transport.function_url(operation.name) if is_function else operation.name,
        headers={**headers, **operation.headers},
        query=list(operation.query),
        body=data,
        timeout=min(operation.timeout or caller.timeout, left),
        function=operation.name if is_function else None,
    )
    if operation.on_request is not None:
        with user_code():
            call(operation.on_request, outgoing)
    return outgoing


def _answered(call: OutgoingCall, caller: Caller) -> Response:
    try:
        return caller.transport.call(call)
    except UnreachableError as error:
        if caller.can_wait:
            raise _UnsentError(error) from error
        raise


def _answer(operation: graph.Operation, url: str, response: Response, what: str) -> bytes:
    if operation.on_response is not None:
        with user_code():
            return encode(call(operation.on_response, response), f"on_response of {what}")
    kind = "Function" if operation.kind is OperationKind.FUNCTION else "URL"
    if _is_started_flow(response):
        raise StartedFlowError(
            f"{kind} {_shown(operation)!r} is a flow: it answered 202, as it was started and has no result yet.",
            hint='Wait for its result with query={"wait": "30s"}, or take the 202 as the data with on_response.',
        )
    if response.is_success:
        return response.body
    raise CallError(
        f"{kind} {_shown(operation)!r} answered {response.status}{redirection(url, response.header('Location'))}.",
        code=response.status,
        body=response.body,
        hint=_excerpt(response.body),
        retry_after=response.header("Retry-After"),
    )


def _is_started_flow(response: Response) -> bool:
    state = response.header(STATE_HEADER)
    return response.status == HTTPStatus.ACCEPTED and state in (RequestState.RUNNING, RequestState.PAUSED)


def _shown(operation: graph.Operation) -> str:
    """The name of an operation, without what may be secret in that of a URL."""
    if operation.kind is not OperationKind.REQUEST:
        return operation.name
    return masked(operation.name).partition("?")[0]


def _target(operation: graph.Operation, caller: Caller) -> dict[str, Any]:
    """Method and URL of an operation that calls, without what may be secret; the properties of a custom one."""
    if operation.kind is OperationKind.CUSTOM:
        return {"properties": dict(operation.properties)}
    if operation.kind is OperationKind.MODIFIER:
        return {}
    is_function = operation.kind is OperationKind.FUNCTION
    url = caller.transport.function_url(operation.name) if is_function else _shown(operation)
    return {"method": operation.method or caller.method, "url": url}


def _excerpt(body: bytes) -> str:
    text = body[:300].decode("utf-8", "replace").strip()
    return f"It said: {text}" if text else ""


def _handled(on_failure: Callable[[Exception], Any], error: Exception, what: str) -> bytes:
    with user_code():
        result = call(on_failure, error)
        if isinstance(result, Exception):  # as Go's handlers do, which return the error
            raise result from error
        return encode(result, f"on_failure of {what}")
