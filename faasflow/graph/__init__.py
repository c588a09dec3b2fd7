"""The immutable graph of a flow, its order, and its exports. Pure: no store, clock, network or environment."""

from __future__ import annotations

from faasflow.graph.model import (
    Callback,
    Condition,
    Dag,
    Definition,
    Edge,
    Foreach,
    Node,
    Operation,
    OperationKind,
    SubDag,
    inner_dags,
)

__all__ = [
    "Callback",
    "Condition",
    "Dag",
    "Definition",
    "Edge",
    "Foreach",
    "Node",
    "Operation",
    "OperationKind",
    "SubDag",
    "inner_dags",
]
