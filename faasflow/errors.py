"""Every error faasflow raises. Each carries the HTTP status that fits it and, where one helps, a hint to the way
out.
"""

from __future__ import annotations

import os


class FaasflowError(Exception):
    """The root of all errors of this package."""

    status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DefinitionError(FaasflowError, ValueError):
    """A flow is defined in a way that cannot run; raised at the line that makes it so."""


class HandlerError(FaasflowError, ImportError):
    """A handler file is missing, cannot be imported, or has no `define`."""


class ConfigError(FaasflowError, ValueError):
    """A setting is missing or cannot be understood."""


class BadRequestError(FaasflowError, ValueError):
    """What a caller sent cannot be understood."""

    status = 400


class MessageError(BadRequestError):
    """A message between nodes is malformed, of an unknown version, expired, or not signed with our key."""


class UnauthorizedError(FaasflowError, PermissionError):
    """A caller did not prove that it may do this."""

    status = 401


class RequestNotFoundError(FaasflowError, LookupError):
    """No request of this id is known to the flow: it never started, or retention has removed it."""

    status = 404


class RequestConflictError(FaasflowError, ValueError):
    """The request is in a state, or was started with a body, to which this does not apply."""

    status = 409


class StoreError(FaasflowError):
    """A store refused an operation."""


class KeyNotFoundError(StoreError, KeyError):
    """The store answered, and holds nothing under this key."""

    status = 404

    def __init__(self, key: str) -> None:
        super().__init__(f"Nothing is stored under {key!r}.")
        self.key = key

    def __str__(self) -> str:  # KeyError would show the repr of the text
        return self.message


class StoreUnavailableError(StoreError, ConnectionError):
    """The store could not be reached or did not answer in time; whether the operation took place is not known."""

    status = 503


class StoreCorruptError(StoreError):
    """What the store holds was not written by this package, or is damaged."""


class ValueTooLargeError(StoreError, ValueError):
    """A value is larger than the store takes."""

    status = 413


class TransportError(FaasflowError, ConnectionError):
    """A call left no answer: its target is unreachable, refused the connection, or did not answer in time."""

    status = 502


class NoAnswerError(TransportError):
    """The connection to the target of a call was lost before the whole answer came; the call may have been received."""


class UnreachableError(NoAnswerError):
    """No connection to the target of a call could be made; nothing of the call was received."""


class CallTimeoutError(TransportError, TimeoutError):
    """A call was not answered within its timeout."""

    status = 504


class ForwardError(TransportError):
    """The queue did not take a message. Nothing that is recorded has changed; the message can be sent again."""

    status = 503


class CallError(FaasflowError):
    """A function or URL answered with a status outside 2xx."""

    status = 502

    def __init__(self, message: str, *, code: int, body: bytes = b"", hint: str = "", retry_after: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.body = body
        self.retry_after = retry_after


class DataError(FaasflowError, ValueError):
    """Data is not what the annotation of a callable asks for, or cannot be turned into bytes."""


class BranchError(FaasflowError, LookupError):
    """A condition chose a key that is not declared, or a foreach did not give a dict."""


class GatewayError(FaasflowError):
    """The embedded gateway cannot start or serve: a busy port, a broken stack file, a function that stays down."""


class NoResultError(FaasflowError, LookupError):
    """A node has no recorded result: it did not run before the node that asks, or does not exist."""


class NotKeptError(FaasflowError, LookupError):
    """A value of a request that somebody wants to look at is not kept, or not there yet."""

    status = 404


class DefinitionChangedError(FaasflowError):
    """The flow was changed while a request was under way."""


class Fatal(FaasflowError):
    """Raised by a handler's code to fail its node at once, whatever the retry policy says."""


class StartedFlowError(Fatal):
    """A call only started another flow, whose answer is not there yet: there is no result to go on with. It is not
    retried, as each call starts one more request of that flow."""


class NodeTimeoutError(FaasflowError, TimeoutError):
    """A node did not end within its timeout. Whatever it still returns is refused."""

    status = 504


class RequestTimeoutError(FaasflowError, TimeoutError):
    """A request did not end within the timeout of its flow."""

    status = 504


class LostStartError(FaasflowError):
    """A node was started and its process ended before the outcome was recorded: several times in a row, or once for a
    node that may run at most once."""


class StuckError(FaasflowError):
    """A request could not be worked on in any of several tries, for a reason that lies neither in its code nor in a
    store or queue that is away."""


class BranchesFailedError(FaasflowError):
    """More branches of a foreach failed than it tolerates."""


class TryAgainError(FaasflowError):
    """Nothing is wrong and nothing was lost, but the delivery has to be repeated, not before `retry_after` seconds."""

    status = 503

    def __init__(self, message: str, *, hint: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class NodeError(FaasflowError):
    """What `on_failure` is told: `node` is the path of the node that failed, `operation` what it was doing,
    `error_type` the name of the exception. The exception itself is the `__cause__` where it is still at hand."""

    def __init__(self, message: str, *, node: str, operation: str, error_type: str) -> None:
        super().__init__(message)
        self.node = node
        self.operation = operation
        self.error_type = error_type


def variable_hint(error: BaseException) -> str:
    """How to set the variable, for the `KeyError` of `os.environ[…]`; empty for any other error."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    reads = type(os.environ).__getitem__.__code__
    if not isinstance(error, KeyError) or frames is None or frames.tb_frame.f_code is not reads:
        return ""
    name = error.args[0] if error.args else ""
    return (
        f"The environment variable {name!r} is not set. Set it under `environment` of the function in the stack file, "
        f"or for one run with `faasflow run -e {name}=VALUE`."
    )
