"""What is recorded of a request's nodes, as JSON tells it. Times are in seconds since the epoch, sizes in bytes."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import takewhile
from typing import Any
from urllib.parse import urlsplit

from faasflow import graph
from faasflow.engine.folding import fold
from faasflow.engine.lifecycle import NodeState
from faasflow.engine.outlook import Moment, outlook
from faasflow.engine.parts import PARKED
from faasflow.engine.payload import Payload, size_of
from faasflow.engine.records import (
    AttemptRecord,
    BranchesRecord,
    Failure,
    LeaseRecord,
    NodeRecord,
    Record,
    RequestRecord,
    load,
)
from faasflow.engine.split import is_chunk
from faasflow.errors import StoreCorruptError

PREFIXES = ("node/", "branches/", "attempt/", "lease/", PARKED)
"""What the keys that a story is read from start with."""

Row = dict[str, Any]


def tell(
    record: RequestRecord,
    entries: Mapping[str, bytes],
    definition: graph.Definition | None,
    now: float,
    *,
    is_folded: bool = False,
    node: str = "",
) -> Row:
    """What is recorded of a request, and how each node of its graph stands, where that is known."""
    rows = nodes(entries, now)
    parked = [key.removeprefix(PARKED) for key in entries if key.startswith(PARKED)]
    failed = record.failure.node if record.failure is not None else ""
    moment = Moment(record.state, record.created, now, failed, parked)
    return {
        "state": record.state,
        "created": record.created,
        "ended": record.ended,
        "now": now,
        "deadline": record.deadline,
        "run": record.run,
        "query": record.query,
        # The path of its URL may be as good as a password.
        "callback": urlsplit(record.callback).hostname if record.callback else None,
        "failure": record.failure,
        "closing": record.closing,
        "parked": [step for step in parked if "@" not in step] if is_folded else parked,
        "nodes": fold(rows, keep=node) if is_folded else rows,
        "graph": outlook(graph.outline(definition), rows, moment) if definition is not None else None,
    }


def nodes(entries: Mapping[str, bytes], now: float) -> list[Row]:
    """A row for each step that is recorded, under way, or waits for another attempt; openings of branches first."""
    records = _attempts(entries)
    attempts = {step: _counted(of_step) for step, of_step in records.items()}
    recorded = {key for key in entries if key.startswith(("node/", "branches/")) and not is_chunk(key)}
    rows = [{**_recorded(key, entries[key], now), "attempts": _before(key, recorded, attempts)} for key in recorded]
    leases = {key.removeprefix("lease/"): value for key, value in entries.items() if key.startswith("lease/")}
    for step in {*attempts, *leases} - recorded:
        if _outcome(step) not in recorded:
            row = _unfinished(step, leases.get(step), records.get(step, []), entries, now)
            rows.append({**row, "attempts": attempts.get(step, [])})
    return sorted(rows, key=lambda row: ("branches" not in row, row["path"]))


def _outcome(step: str) -> str:
    """Where the failure of a step is recorded."""
    return f"node/{step.partition('/')[2]}"


def _before(key: str, recorded: Container[str], attempts: Mapping[str, list[Row]]) -> list[Row]:
    """The failed attempts before what is recorded; a node that opened no branches has those of trying to."""
    opening = f"branches/{key.removeprefix('node/')}"
    if key.startswith("node/") and opening not in recorded:
        return [*attempts.get(opening, []), *attempts.get(key, [])]
    return attempts.get(key, [])


def _recorded(key: str, value: bytes, now: float) -> Row:
    """A row of a record; one that cannot be read is told as a failure, so that the others can be looked at."""
    family, _, path = key.partition("/")
    try:
        if family == "branches":
            return _opened(path, load(value, BranchesRecord, key))
        return _ended(path, load(value, NodeRecord, key))
    except StoreCorruptError as error:
        failure = Failure(path, type(error).__name__, str(error))
        return _ended(path, NodeRecord(NodeState.FAILED, now, now, failure=failure))


def _ended(path: str, node: NodeRecord) -> Row:
    row: Row = {
        "path": path,
        "state": node.state,
        "attempt": node.attempt,
        "started": node.started,
        "ended": node.ended,
        "result_size": size_of(node.result),
        "input_size": _size(node.input),
        "output_size": _size(node.output),
        "failure": node.failure,
    }
    return {**row, "continues": True} if node.continues else row


def _size(kept: Payload | None) -> int | None:
    return size_of(kept) if kept is not None else None


def _opened(path: str, opened: BranchesRecord) -> Row:
    row: Row = {"path": path, "branches": opened.count, "started": opened.started, "ended": opened.ended}
    # Only the branches of a condition share an input.
    return row if opened.input is None else {**row, "options": [option for option, _ in opened.branches]}


def _unfinished(
    step: str, lease: bytes | None, attempts: Sequence[AttemptRecord], entries: Mapping[str, bytes], now: float
) -> Row:
    held = _readable(lease, LeaseRecord, f"lease/{step}") if lease is not None else None
    is_held = held is not None and held.until > now
    return {
        "path": step.partition("/")[2],
        "state": NodeState.RUNNING if is_held else NodeState.RETRYING,
        "started": None,
        "ended": None,
        "lease": held.until if held is not None else None,
        "waits": _waits(held, is_held=is_held, is_parked=PARKED + step in entries, attempts=attempts),
    }


def _waits(held: LeaseRecord | None, *, is_held: bool, is_parked: bool, attempts: Sequence[AttemptRecord]) -> Row:
    """What a step without an outcome waits for: `for`, and `until` when where that is known."""
    if is_held and held is not None:
        return {"for": "lease", "until": held.until, "owner": held.owner}
    if is_parked:
        return {"for": "resume"}
    if attempts and attempts[-1].unsent:
        return _connecting(attempts)
    if attempts:
        return {"for": "attempt", "until": attempts[-1].next}
    return {"for": "clock", "until": None}


def _connecting(attempts: Sequence[AttemptRecord]) -> Row:
    """That a step waits for a target that cannot be connected to: since when, how often it was tried, and why not."""
    last = attempts[-1]
    latest = list(takewhile(lambda one: one.unsent and one.run == last.run, reversed(attempts)))
    return {
        "for": "connection",
        "until": last.next,
        "since": latest[-1].started,
        "tries": len(latest),
        "operation": last.failure.operation,
        "message": last.failure.message,
    }


def _attempts(entries: Mapping[str, bytes]) -> dict[str, list[AttemptRecord]]:
    """The failed attempts of each step, by its key."""
    found: dict[str, list[tuple[int, AttemptRecord]]] = {}
    for key, value in entries.items():
        if key.startswith("attempt/"):
            step, _, number = key.removeprefix("attempt/").rpartition("/")
            attempt = _readable(value, AttemptRecord, key)
            found.setdefault(step, []).extend([(int(number), attempt)] if attempt is not None else [])
    return {step: [one for _, one in sorted(records, key=lambda record: record[0])] for step, records in found.items()}


def _readable(value: bytes, kind: type[Record], key: str) -> Record | None:
    try:
        return load(value, kind, key)
    except StoreCorruptError:
        return None


def _counted(records: Sequence[AttemptRecord]) -> list[Row]:
    """A row for each attempt; those that sent nothing are none."""
    counted = [record for record in records if not record.unsent]
    return [_attempt(number, record, record.failure) for number, record in enumerate(counted, 1)]


def _attempt(number: int, record: AttemptRecord, failure: Failure) -> Row:
    return {
        "attempt": number,
        "started": record.started,
        "ended": record.ended,
        "operation": failure.operation,
        "error_type": failure.error_type,
        "message": failure.message,
        "code": failure.code,
        "next": record.next,
    }
