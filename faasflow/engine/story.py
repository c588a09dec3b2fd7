"""What is recorded of a request's nodes, as JSON tells it. Times are in seconds since the epoch, sizes in bytes."""

from __future__ import annotations

from collections.abc import Mapping

from faasflow.engine.lifecycle import NodeState
from faasflow.engine.parts import PARKED
from faasflow.engine.payload import size_of
from faasflow.engine.records import AttemptRecord, BranchesRecord, Failure, LeaseRecord, NodeRecord, load
from faasflow.engine.split import is_chunk

PREFIXES = ("node/", "branches/", "attempt/", "lease/", PARKED)
"""What the keys that a story is read from start with."""

Row = dict[str, object]


def nodes(entries: Mapping[str, bytes], now: float) -> list[Row]:
    """A row for each step that is recorded, under way, or waits for its next attempt."""
    attempts = _attempts(entries)
    rows = [
        {**_recorded(key, value), "attempts": attempts.pop(key, [])}
        for key, value in entries.items()
        if key.startswith(("node/", "branches/")) and not is_chunk(key)
    ]
    leases = {key.removeprefix("lease/"): value for key, value in entries.items() if key.startswith("lease/")}
    for step in sorted({*attempts, *leases} - entries.keys()):
        rows.append({**_unfinished(step, leases.get(step), now), "attempts": attempts.get(step, [])})
    return rows


def _recorded(key: str, value: bytes) -> Row:
    family, _, path = key.partition("/")
    if family == "branches":
        opened = load(value, BranchesRecord, key)
        return {"path": path, "branches": opened.count, "started": opened.started, "ended": opened.ended}
    node = load(value, NodeRecord, key)
    return {
        "path": path,
        "state": node.state,
        "attempt": node.attempt,
        "started": node.started,
        "ended": node.ended,
        "result_size": size_of(node.result),
        "failure": node.failure,
    }


def _unfinished(step: str, lease: bytes | None, now: float) -> Row:
    held = load(lease, LeaseRecord, f"lease/{step}") if lease is not None else None
    state = NodeState.RUNNING if held is not None and held.until > now else NodeState.RETRYING
    return {
        "path": step.partition("/")[2],
        "state": state,
        "started": None,
        "ended": None,
        "lease": held.until if held is not None else None,
    }


def _attempts(entries: Mapping[str, bytes]) -> dict[str, list[Row]]:
    """The failed attempts of each step, by its key."""
    found: dict[str, list[tuple[int, Row]]] = {}
    for key, value in entries.items():
        if key.startswith("attempt/"):
            step, _, number = key.removeprefix("attempt/").rpartition("/")
            record = load(value, AttemptRecord, key)
            found.setdefault(step, []).append((int(number), _attempt(int(number), record, record.failure)))
    return {step: [row for _, row in sorted(rows, key=lambda row: row[0])] for step, rows in found.items()}


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
