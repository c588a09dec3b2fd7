"""Running the operations of a node: function calls, HTTP requests and the handler's own code, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from faasflow import graph
from faasflow.codec import decode, encode, parameter_type
from faasflow.config import masked
from faasflow.engine.position import Step
from faasflow.engine.reports import Reports, What
from faasflow.errors import (
    CallError,
    CallTimeoutError,
    NoAnswerError,
    NodeTimeoutError,
    StoreUnavailableError,
    TryAgainError,
)
from faasflow.graph import OperationKind
from faasflow.ports import OutgoingCall, Response, Transport

PARENT_HEADER = "X-Faas-Flow-Parent"
IDEMPOTENCY_HEADER = "Idempotency-Key"
ATTEMPT_HEADER = "X-Faas-Flow-Attempt"


class OperationError(Exception):
    """Carries what an operation raised, with the operation's name and place and the data it worked on; the engine's
    own, never seen by handlers."""

    def __init__(self, operation: str, error: BaseException, *, index: int, data: bytes) -> None:
        super().__init__(operation)
        self.operation = operation
        self.error = error
        self.index = index
        self.data = data


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom operations run, and how they reach out. `timeout` is the default, in seconds. `left` says how many
    seconds the node has left, `groups` how often each operation was answered with a failure. A node that may run at
    most once is never repeated for want of an answer. `reports` is told of each operation."""

    transport: Transport
    flow: str
    request_id: str
    step: Step
    method: str
    timeout: float
    reports: Reports
    attempt: int = 1
    left: Callable[[], float] = lambda: float("inf")
    groups: Mapping[int, int] = field(default_factory=dict)
    at_most_once: bool = False

    def tell(self, what: What, operation: graph.Operation, **details: Any) -> dict[str, str]:
        """Tell an event of an operation; the headers that go with its call."""
        return self.reports.tell_of(what, self.step, operation=_shown(operation), attempt=self.attempt, **details)

    def headers(self, operation: int) -> dict[str, str]:
        """What every call of this node carries: whose step it is, the attempt, and a key that stays the same as long as
        nobody knows what became of the call: when it is repeated, and when it is tried again after no answer came. A
        call that was answered with a failure is followed by one with another key."""
        identity = [self.flow, self.request_id, self.step.key, str(operation)]
        if group := self.groups.get(operation, 0):
            identity.append(str(group))
        key = hashlib.sha256("\n".join(identity).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return {
            IDEMPOTENCY_HEADER: key,
            ATTEMPT_HEADER: str(self.attempt),
            PARENT_HEADER: f"{self.flow}/{self.request_id}",
        }


def run(node: graph.Node, data: bytes, caller: Caller, *, first: int = 0) -> bytes:
    """The result of the node's operations on `data`, from the one at place `first`; `OperationError` for the first that
    fails."""
    for index, operation in enumerate(node.operations[first:], first):
        before = data
        headers = caller.tell("operation_start", operation, **_target(operation, caller))
        try:
            data = _run_one(node, index, operation, data, caller, headers)
        except (StoreUnavailableError, TryAgainError) as error:  # the node is not to blame
            caller.tell("operation_failure", operation, error=error, is_recorded=False)
            raise
        except (Exception, SystemExit) as error:
            if caller.left() <= 0 and isinstance(error, CallTimeoutError):
                error = too_late(node)
            caller.tell("operation_failure", operation, error=error)
            raise OperationError(_shown(operation), error, index=index, data=before) from error
        caller.tell("operation_end", operation)
    return data


def too_late(node: graph.Node) -> NodeTimeoutError:
    """What a node fails with that did not end in time."""
    return NodeTimeoutError(
        f"Node {node.id!r} did not end within {node.timeout:g} s.",
        hint="Give it a longer timeout, or find out why it takes so long.",
    )


def call_user_code(code: graph.Callback, data: bytes, what: str) -> bytes:
    """`code(data)` with the data as its annotation asks for, and what it returns as bytes."""
    return encode(code(decode(data, parameter_type(code), what)), what)


def _run_one(
    node: graph.Node, index: int, operation: graph.Operation, data: bytes, caller: Caller, headers: Mapping[str, str]
) -> bytes:
    what = f"{_shown(operation)!r} of node {node.id!r}"
    if operation.kind is OperationKind.MODIFIER:
        assert operation.code is not None
        return call_user_code(operation.code, data, what)
    try:
        call = _outgoing(operation, data, caller, {**headers, **caller.headers(index)})
        return _answer(operation, caller.transport.call(call), what)
    except StoreUnavailableError:
        raise
    except Exception as error:
        if isinstance(error, NoAnswerError) and operation.kind is OperationKind.FUNCTION and not caller.at_most_once:
            # Functions are reached through the gateway: that is away, and the delivery is repeated when it is back.
            raise TryAgainError(str(error), hint=error.hint) from error
        if operation.on_failure is None:
            raise
        return _handled(operation.on_failure, error, what)


def _outgoing(operation: graph.Operation, data: bytes, caller: Caller, headers: Mapping[str, str]) -> OutgoingCall:
    is_function = operation.kind is OperationKind.FUNCTION
    left = caller.left()
    if left <= 0:
        raise CallTimeoutError(f"No time was left for {_shown(operation)!r}.")
    call = OutgoingCall(
        method=operation.method or caller.method,
        url=caller.transport.function_url(operation.name) if is_function else operation.name,
        headers={**headers, **operation.headers},
        query=list(operation.query),
        body=data,
        timeout=min(operation.timeout or caller.timeout, left),
        function=operation.name if is_function else None,
    )
    if operation.on_request is not None:
        operation.on_request(call)
    return call


def _answer(operation: graph.Operation, response: Response, what: str) -> bytes:
    if operation.on_response is not None:
        return encode(operation.on_response(response), f"on_response of {what}")
    if response.is_success:
        return response.body
    kind = "Function" if operation.kind is OperationKind.FUNCTION else "URL"
    raise CallError(
        f"{kind} {_shown(operation)!r} answered {response.status}.",
        code=response.status,
        body=response.body,
        hint=_excerpt(response.body),
        retry_after=response.header("Retry-After"),
    )


def _shown(operation: graph.Operation) -> str:
    """The name of an operation, without what may be secret in that of a URL."""
    if operation.kind is not OperationKind.REQUEST:
        return operation.name
    return masked(operation.name).partition("?")[0]


def _target(operation: graph.Operation, caller: Caller) -> dict[str, str]:
    """Method and URL of an operation that calls, without what may be secret."""
    if operation.kind is OperationKind.MODIFIER:
        return {}
    is_function = operation.kind is OperationKind.FUNCTION
    url = caller.transport.function_url(operation.name) if is_function else _shown(operation)
    return {"method": operation.method or caller.method, "url": url}


def _excerpt(body: bytes) -> str:
    text = body[:300].decode("utf-8", "replace").strip()
    return f"It said: {text}" if text else ""


def _handled(on_failure: Callable[[Exception], Any], error: Exception, what: str) -> bytes:
    result = on_failure(error)
    if isinstance(result, Exception):  # as Go's handlers do, which return the error
        raise result from error
    return encode(result, f"on_failure of {what}")
