"""What the ledger holds, as it is written: JSON that an operator can read."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from faasflow.engine.lifecycle import NodeState, RequestState
from faasflow.engine.payload import EMPTY, Payload
from faasflow.errors import NodeError, StoreCorruptError

RECORD_VERSION = 1


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a node failed. `node` is its path, `operation` the function, URL or code that failed and `index` its place in
    the node (-1 for none), `error_type` the name of the exception, `code` the status of an answer. With `is_open`
    nobody knows whether the call had an effect."""

    node: str
    error_type: str
    message: str
    operation: str = ""
    attempt: int = 1
    traceback: str = ""
    hint: str = ""
    index: int = -1
    code: int = 0
    is_open: bool = False


def node_error(failure: Failure, cause: BaseException | None = None) -> NodeError:
    """A recorded failure as user code is told of it."""
    error = NodeError(
        f"Node {failure.node!r} failed: {failure.error_type}: {failure.message}",
        node=failure.node,
        operation=failure.operation,
        error_type=failure.error_type,
    )
    error.__cause__ = cause
    return error


class RequestRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of a request. Times are seconds since the epoch; `body_sha256` tells whether a second start is the
    same; `closing` names the steps that are to run after the end. `run` counts how often the request went on after a
    failure; `deadline` is when it fails if it has not ended, `look` when the clock looks at it first, `resumed` when
    its last pause was over. `trace` is what event handlers sent along with the first message, for those messages that
    nobody sends along anything with."""

    state: RequestState
    fingerprint: str
    created: float
    body_sha256: str
    query: str = ""
    callback: str = ""
    ended: float | None = None
    result: Payload | None = None
    failure: Failure | None = None
    closing: tuple[str, ...] = ()
    run: int = 0
    deadline: float | None = None
    look: float | None = None
    resumed: float = 0.0
    trace: dict[str, str] = {}
    version: int = RECORD_VERSION


class NodeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of one node; created once and never changed. With `continues` the flow went on after its failure,
    with an empty result. After a failed operation `input` is what it worked on, and `output` what was answered."""

    state: NodeState
    started: float
    ended: float
    attempt: int = 1
    result: Payload = EMPTY
    failure: Failure | None = None
    continues: bool = False
    input: Payload | None = None
    output: Payload | None = None

    @property
    def has_failed(self) -> bool:
        """Whether what depends on this node has failed with it."""
        return self.state is NodeState.FAILED and not self.continues


class AttemptRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt that failed and is followed by another one, at `next`. `run` is the request's then. `scope` is the
    place of the operation whose own policy retries it; the next attempt then begins there, with `data`."""

    started: float
    ended: float
    failure: Failure
    next: float
    run: int = 0
    scope: int | None = None
    data: Payload = EMPTY


class LeaseRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Says that `owner` works on an attempt and is to be left alone until `until`."""

    owner: str
    until: float
    attempt: int = 1


class BranchesRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The branches that a dynamic node opened: `count` of them, each a key with its input. A condition's branches share
    `input`. Many branches stand in records of their own, `chunk` to each, whose keys begin with `run`."""

    started: float
    ended: float
    count: int
    branches: tuple[tuple[str, Payload], ...] = ()
    input: Payload | None = None
    run: str = ""
    chunk: int = 0


class BranchChunk(msgspec.Struct, frozen=True, array_like=True):
    """A part of the branches of a `BranchesRecord`."""

    branches: tuple[tuple[str, Payload], ...]


Record = TypeVar("Record")


def dump(record: msgspec.Struct) -> bytes:
    """The bytes of a record."""
    return msgspec.json.encode(record)


def load(data: bytes, kind: type[Record], key: str) -> Record:
    """The record in `data`. `StoreCorruptError`, which names `key`, if it is not one."""
    try:
        return msgspec.json.decode(data, type=kind)
    except ValueError as error:
        raise StoreCorruptError(
            f"The record {key!r} cannot be read: {error}. It was written by something else, or by a newer version."
        ) from error
