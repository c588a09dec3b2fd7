"""Values of a request, for people who look into it: what it was started with, what its nodes gave, and what a failed
operation worked on and was answered."""

from __future__ import annotations

from enum import StrEnum

from faasflow.engine.ledger import INPUT, Ledger
from faasflow.engine.payload import Payload, Payloads
from faasflow.engine.position import recorded_path
from faasflow.engine.records import NodeRecord, RequestRecord, load
from faasflow.errors import NotKeptError


class Part(StrEnum):
    """Which value of a node."""

    RESULT = "result"
    INPUT = "input"
    OUTPUT = "output"


def value_of(ledger: Ledger, payloads: Payloads, record: RequestRecord, node: str, part: Part) -> bytes:
    """A value of the node at a path; of the request, where that is empty. `NotKeptError` if it is not kept."""
    payload = _of_node(ledger, node, part) if node else _of_request(ledger, record, part)
    if payload is None:
        whose = f"node {node!r}" if node else "the request"
        raise NotKeptError(
            f"No {part} of {whose} is kept.",
            hint="Kept are the results of finished nodes, the input and output of failed operations, and the request's "
            "own input and result.",
        )
    return payloads.load(payload)


def _of_request(ledger: Ledger, record: RequestRecord, part: Part) -> Payload | None:
    if part is Part.RESULT:
        return record.result
    return load(ledger.get(INPUT), Payload, INPUT) if part is Part.INPUT else None


def _of_node(ledger: Ledger, node: str, part: Part) -> Payload | None:
    key = f"node/{node}"
    entry = ledger.read([key]).entries.get(key)
    if entry is None:
        path = recorded_path(node, ledger.keys("node/"))
        return _of_node(ledger, path, part) if path != node else None
    found = load(entry, NodeRecord, key)
    if part is Part.RESULT:
        return found.result if found.failure is None else None
    return found.input if part is Part.INPUT else found.output
