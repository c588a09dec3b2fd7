"""What the ledger holds, as it is written: JSON that an operator can read."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from faasflow.engine.lifecycle import NodeState, RequestState
from faasflow.engine.payload import EMPTY, Payload
from faasflow.errors import StoreCorruptError

RECORD_VERSION = 1


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a node failed. `node` is its path, `operation` the function, URL or code that failed, `error_type` the
    name of the exception."""

    node: str
    error_type: str
    message: str
    operation: str = ""
    attempt: int = 1
    traceback: str = ""
    hint: str = ""


class RequestRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of a request. Times are seconds since the epoch; `body_sha256` tells whether a second start is the
    same; `closing` names the steps that are to run after the end."""

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
    version: int = RECORD_VERSION


class NodeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of one node; created once and never changed."""

    state: NodeState
    started: float
    ended: float
    attempt: int = 1
    result: Payload = EMPTY
    failure: Failure | None = None


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
