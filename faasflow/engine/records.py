"""What the ledger holds, as it is written: JSON that an operator can read."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import msgspec

from faasflow.codec import json_decoder
from faasflow.engine.lifecycle import NodeState, RequestState
from faasflow.engine.payload import EMPTY, Payload
from faasflow.errors import NodeError, StoreCorruptError
from faasflow.naming import readable_path

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
        f"Node {readable_path(failure.node)!r} failed: {failure.error_type}: {failure.message}",
        node=failure.node,
        operation=failure.operation,
        error_type=failure.error_type,
    )
    error.__cause__ = cause
    return error


class Rewind(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a retry has to remove before the request goes on: the records of `node` (its path) and of what followed from
    it, or where it `is_partial` those of its failed branches, of one `branch` or all. `kept` are keys that stay."""

    node: str
    is_partial: bool = False
    branch: str | None = None
    kept: tuple[str, ...] = ()


class Life(NamedTuple):
    """Names one run of one incarnation of a request: what was sent in another one counts no more."""

    incarnation: str = ""
    run: int = 0


class RequestRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of a request. Times are seconds since the epoch; `body_sha256` tells whether a second start is the
    same; `closing` names the steps that are to run after the end. `incarnation` is a random word made at the start: it
    tells the request from earlier ones with the same id. `run` counts how often the request went on after a failure;
    `deadline` is when it fails if it has not ended, `look` when the clock looks at it first, `resumed` when its last
    pause was over. `trace` is what event handlers sent along with the first message, for those messages that nobody
    sends along anything with. `rewinds` are what the last retry has still to remove; nothing starts before. A request
    with `is_removed` is being removed and counts as unknown."""

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
    rewinds: tuple[Rewind, ...] = ()
    trace: dict[str, str] = {}
    incarnation: str = ""
    is_removed: bool = False
    version: int = RECORD_VERSION

    @property
    def life(self) -> Life:
        """What messages, timers and parked messages of this request carry as long as they count."""
        return Life(self.incarnation, self.run)


class IncarnationRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Guards what is written for one incarnation of a request. It is written at the start and when a removal begins."""

    incarnation: str
    is_removed: bool = False


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
    place of the operation whose own policy retries it; the next attempt then begins there, with `data`. One that is
    `unsent` could not connect to what it was to call: it does not count."""

    started: float
    ended: float
    failure: Failure
    next: float
    run: int = 0
    scope: int | None = None
    data: Payload = EMPTY
    unsent: bool = False


class LeaseRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Says that `owner` works on an attempt and is to be left alone until `until`. `lost` counts the starts of the
    attempt that came to nothing, if this one does: whoever gives the lease back is not counted."""

    owner: str
    until: float
    attempt: int = 1
    lost: int = 1


class StartRecord(msgspec.Struct, frozen=True):
    """Says that `owner` called what a step does that may run at most once."""

    owner: str
    started: float


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
        return json_decoder(kind).decode(data)
    except ValueError as error:
        raise StoreCorruptError(
            f"The record {key!r} cannot be read: {error}. It was written by something else, or by a newer version."
        ) from error
