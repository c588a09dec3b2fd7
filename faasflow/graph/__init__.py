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
from faasflow.graph.outline import Place, PlaceKind, outline
from faasflow.graph.policy import Retry

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
    "Place",
    "PlaceKind",
    "Retry",
    "SubDag",
    "inner_dags",
    "outline",
]
