"""The branches that a dynamic node opens: how user code's answer becomes branches, and how they are recorded.

Few branches stand in the SPLIT's own record. Many stand in chunks beside it, written first under a name of this run,
so that the one record that is created once decides which chunks count, and reading one branch costs the same however
many there are.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, ValuesView
from typing import Any

import msgspec

from faasflow import graph
from faasflow.codec import decode, encode, parameter_type
from faasflow.engine.guard import user_code
from faasflow.engine.ledger import Ledger
from faasflow.engine.payload import Payload, Payloads, stored_size
from faasflow.engine.position import Step
from faasflow.engine.records import BranchChunk, BranchesRecord, dump, load
from faasflow.engine.user_code import with_hint
from faasflow.errors import BranchError, KeyNotFoundError
from faasflow.naming import is_unicode, listed

CHUNK = 256
CHUNK_VALUE_LIMIT = 1024
CHUNK_LIMIT = 320 * 1024
RECORD_LIMIT = 192 * 1024
_OVERHEAD = 24
_REFERENCE = 256

Branches = list[tuple[str, Payload]]


def foreach_values(node: graph.Node, body: graph.Foreach, data: bytes) -> dict[str, bytes]:
    """The value of each branch by its key, in order. `BranchError` for anything but a dict or a list."""
    what = f"Foreach of node {node.id!r}"
    with user_code():
        found = with_hint(body.split, decode(data, parameter_type(body.split), what))
        return {key: encode(value, f"{what}, for {key!r},") for key, value in _items(found, what)}


def condition_options(node: graph.Node, body: graph.Condition, data: bytes) -> list[str]:
    """The chosen keys, each once, in the order of their declaration. `BranchError` for one that is not declared."""
    what = f"Condition of node {node.id!r}"
    with user_code():
        chosen = _as_list(with_hint(body.choose, decode(data, parameter_type(body.choose), what)), what)
    unknown = [key for key in chosen if key not in body.dags]
    if unknown:
        declared = listed([repr(key) for key in body.dags])
        raise BranchError(f"{what} chose {unknown[0]!r}, which is not declared. Declared are {declared}.")
    return [key for key in body.dags if key in chosen]


def store_foreach(
    ledger: Ledger, payloads: Payloads, step: Step, values: Mapping[str, bytes], started: float, ended: float
) -> tuple[BranchesRecord, Branches]:
    """The record to create for these branches; chunks and large values are written before."""
    count = len(values)
    if sum(_recorded_size(key, value, payloads.limit) for key, value in values.items()) <= RECORD_LIMIT:
        branches = [(key, payloads.store(f"branch/{step.position.path}", value)) for key, value in values.items()]
        return BranchesRecord(started, ended, count, tuple(branches)), branches
    small = payloads.limited(CHUNK_VALUE_LIMIT)
    branches = [(key, small.store(f"branch/{step.position.path}", value)) for key, value in values.items()]
    run, longest = secrets.token_hex(6), max(_recorded_size(key, value, small.limit) for key, value in values.items())
    per_chunk = max(1, min(CHUNK, CHUNK_LIMIT // longest))
    for number in range(0, count, per_chunk):
        chunk = BranchChunk(tuple(branches[number : number + per_chunk]))
        ledger.set(_chunk_key(step, run, number // per_chunk), dump(chunk))
    return BranchesRecord(started, ended, count, run=run, chunk=per_chunk), branches


def read_branches(record: BranchesRecord, step: Step, entries: Mapping[str, bytes]) -> Branches:
    """Every branch, where `entries` has all keys that start with `chunks_prefix(step)`."""
    if not record.run:
        return list(record.branches)
    keys = [_chunk_key(step, record.run, number) for number in range(-(-record.count // record.chunk))]
    return [branch for key in keys for branch in load(entries[key], BranchChunk, key).branches]


def all_branches(ledger: Ledger, record: BranchesRecord, step: Step) -> Branches:
    """Every branch with its input."""
    chunks = ledger.read([], [chunks_prefix(step)]).entries if record.run else {}
    branches = read_branches(record, step, chunks)
    return branches if record.input is None else [(option, record.input) for option, _ in branches]


def options_reader(ledger: Ledger) -> Callable[[Step], list[str]]:
    """What gives the names of the branches that a recorded SPLIT opened; none for one that is not recorded."""

    def options(step: Step) -> list[str]:
        try:
            record = load(ledger.get(step.key), BranchesRecord, step.key)
        except KeyNotFoundError:
            return []
        return [option for option, _ in all_branches(ledger, record, step)]

    return options


def read_branch(ledger: Ledger, record: BranchesRecord, step: Step, index: int) -> tuple[str, Payload]:
    """One branch by its place."""
    if not record.run:
        return record.branches[index]
    key = _chunk_key(step, record.run, index // record.chunk)
    return load(ledger.get(key), BranchChunk, key).branches[index % record.chunk]


def chunks_prefix(step: Step) -> str:
    """What the keys of all chunks of a SPLIT start with."""
    return f"{step.key}#"


def is_chunk(key: str) -> bool:
    """Whether `key` is that of a chunk, not of a record."""
    return "#" in key


def _chunk_key(step: Step, run: str, number: int) -> str:
    return f"{chunks_prefix(step)}{run}/{number:06d}"


def _recorded_size(key: str, value: bytes, limit: int) -> int:
    size = stored_size(value) if len(value) <= limit else 0
    return len(msgspec.json.encode(key)) + _OVERHEAD + (size if size <= limit else _REFERENCE)


def _items(found: Any, what: str) -> Iterator[tuple[str, Any]]:
    """Keys and values; those of a list are named by their positions."""
    if isinstance(found, Mapping):
        yield from ((_key(key, what), value) for key, value in found.items())
    elif isinstance(found, Sequence | Iterator | ValuesView) and not isinstance(found, str | bytes | bytearray):
        yield from ((str(index), value) for index, value in enumerate(found))
    else:
        raise BranchError(
            f"{what} returned {type(found).__name__}. Return a dict of keys and values, or a list; empty for none."
        )


def _key(key: Any, what: str) -> str:
    if not isinstance(key, str):
        raise BranchError(f"{what} returned the key {key!a}, a {type(key).__name__}. Make it a text.")
    if not is_unicode(key):
        raise BranchError(
            f"{what} returned the key {key!a}, which is not valid Unicode.",
            hint="Replace what cannot be encoded, for example with os.fsencode(name).hex().",
        )
    return str.__str__(key)


def _as_list(chosen: Any, what: str) -> list[str]:
    if chosen is None:
        return []
    if isinstance(chosen, str):
        return [chosen]
    if isinstance(chosen, Iterable) and not isinstance(chosen, bytes):
        return [_key(key, what) for key in chosen]
    raise BranchError(f"{what} returned {type(chosen).__name__}. Return a key, or a list of keys, empty for none.")
