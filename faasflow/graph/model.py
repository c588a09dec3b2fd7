"""The immutable graph of a flow. The front ends (`dsl` and others) build it, the engine walks it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

from faasflow.graph.policy import Retry

ARRIVALS_OF_A_GROUP = 64
"""A join of more nodes than that counts them in groups, by their order."""

_BY_SHAPE = "2:"

Callback = Callable[[Any], Any]
"""User code of one parameter: modifier, aggregator, forwarder, condition, foreach and the handlers."""


class OperationKind(Enum):
    """What an operation does with the data of its node."""

    FUNCTION = "function"
    REQUEST = "request"
    MODIFIER = "modifier"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Operation:
    """One step inside a node: a function call, a plain HTTP request, code of the handler itself, or an operation of a
    user's own kind.

    `name` is the function's name, the URL, or the name of the code. `timeout` is in seconds, `None` for the default.
    `retry` tries this operation again, in place of the policy of its node. Without `may_retry` no policy does.
    `properties` are shown with an operation of a user's own kind.
    """

    kind: OperationKind
    name: str
    code: Callable[..., Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: tuple[tuple[str, str], ...] = ()
    method: str | None = None
    timeout: float | None = None
    retry: Retry | None = None
    on_failure: Callback | None = None
    on_request: Callback | None = None
    on_response: Callback | None = None
    may_retry: bool = True
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edge:
    """An order between two nodes; with `forward` the result of `source` becomes input of `target`, through `forwarder`
    if there is one."""

    source: str
    target: str
    forward: bool = True
    forwarder: Callback | None = None


@dataclass(frozen=True, slots=True)
class SubDag:
    """A DAG that stands as one node of another."""

    dag: Dag


@dataclass(frozen=True, slots=True)
class Foreach:
    """One run of `dag` for each key that `split` gives. `max_parallel` bounds how many run at a time; without
    `forward` the results of the branches are not collected. `tolerated` branches may fail, an `int` of them or, as a
    `float`, that share; with `None` the first failure is that of the request."""

    split: Callback
    dag: Dag
    aggregator: Callback | None
    forward: bool = True
    max_parallel: int | None = None
    tolerated: int | float | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A run of each DAG of `dags` whose key `choose` gives, all with the same input."""

    choose: Callback
    dags: Mapping[str, Dag]
    aggregator: Callback | None
    forward: bool = True


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its operations in order, or the branch or sub-DAG it stands for. `index` is its place in its DAG, from 1.
    A virtual node joins the ends of a DAG that has several.

    `timeout` bounds one attempt, in seconds. With `at_most_once` the start of the node is recorded before it runs, and
    a node whose start was lost fails instead of running again. With `continues` the flow goes on after its failure,
    with an empty result.
    """

    id: str
    index: int
    operations: tuple[Operation, ...] = ()
    aggregator: Callback | None = None
    body: SubDag | Foreach | Condition | None = None
    is_virtual: bool = False
    retry: Retry | None = None
    timeout: float | None = None
    at_most_once: bool = False
    continues: bool = False

    @property
    def is_dynamic(self) -> bool:
        return isinstance(self.body, Foreach | Condition)

    def branch_dag(self, option: str) -> Dag:
        """The DAG that runs for `option` of a dynamic node; `KeyError` where a condition does not declare it."""
        if isinstance(self.body, Foreach):
            return self.body.dag
        assert isinstance(self.body, Condition)
        return self.body.dags[option]


@dataclass(frozen=True)
class Dag:
    """Nodes and edges with exactly one start and one end node, in the order of their definition.

    `label` names it in errors; `id` is its number as the original exports it.
    """

    id: str
    label: str
    nodes: Mapping[str, Node]
    predecessors: Mapping[str, tuple[Edge, ...]]
    successors: Mapping[str, tuple[Edge, ...]]
    start: str
    end: str

    def edges(self) -> Iterator[Edge]:
        """Every edge, by source, in the order of definition."""
        for edges in self.successors.values():
            yield from edges

    def unique_id(self, node: Node) -> str:
        """The node's name in the original's exports: `<dag>_<index>_<id>`."""
        return f"{self.id}_{node.index}_{node.id}"


@dataclass(frozen=True)
class Definition:
    """A whole flow, ready to run. `retry` is the policy of nodes that have none; `timeout` bounds a request, in
    seconds."""

    root: Dag
    on_failure: Callback | None = None
    finally_: Callback | None = None
    retry: Retry | None = None
    timeout: float | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Names the shape of the flow: equal for two definitions with the same nodes, operations, edges and branches,
        in whatever order they are written. What the callables do, and how failures are met, is not seen."""
        return _BY_SHAPE + _digest(shape(self.root))

    def has_fingerprint(self, recorded: str) -> bool:
        """Whether this is the shape that a request was started with. Requests of former versions have a fingerprint
        that depends on the order of definition."""
        return recorded == (self.fingerprint if recorded.startswith(_BY_SHAPE) else self._in_order)

    @cached_property
    def _in_order(self) -> str:
        return _digest(_ordered_shape(self.root))

    @cached_property
    def is_single_node(self) -> bool:
        """Whether one delivery is the whole flow: a single node that is not dynamic, however deep in sub-DAGs."""
        dag = self.root
        while len(dag.nodes) == 1:
            body = dag.nodes[dag.start].body
            if not isinstance(body, SubDag):
                return body is None
            dag = body.dag
        return False


def shape(dag: Dag, indent: str = "") -> Iterator[str]:
    """What the fingerprint is made of, line by line, in an order of its own."""
    for id in sorted(dag.nodes):
        node = dag.nodes[id]
        yield _node_line(node, indent)
        for option, inner in sorted(inner_dags(node), key=lambda one: one[0]):
            yield f"{indent} {option!r}"
            yield from shape(inner, indent + "  ")
        edges = dag.predecessors[id]
        # Of a wide join the place of an arrival depends on the order of the edges.
        is_wide = len(edges) > ARRIVALS_OF_A_GROUP
        yield from (_edge_line(edge, indent) for edge in (edges if is_wide else sorted(edges, key=_ends)))


def _ordered_shape(dag: Dag, indent: str = "") -> Iterator[str]:
    """What fingerprints were made of before they were independent of the order of definition."""
    for node in dag.nodes.values():
        yield _node_line(node, indent)
        for option, inner in inner_dags(node):
            yield f"{indent} {option!r}"
            yield from _ordered_shape(inner, indent + "  ")
    for edge in dag.edges():
        yield _edge_line(edge, indent)


def _node_line(node: Node, indent: str) -> str:
    operations = [(operation.kind.value, operation.name) for operation in node.operations]
    return f"{indent}{node.id!r} {operations} {node.aggregator is not None} {type(node.body).__name__}"


def _edge_line(edge: Edge, indent: str) -> str:
    return f"{indent}{edge.source!r} > {edge.target!r} {edge.forward} {edge.forwarder is not None}"


def _ends(edge: Edge) -> tuple[str, str]:
    return edge.source, edge.target


def _digest(lines: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:24]


def inner_dags(node: Node) -> Iterator[tuple[str, Dag]]:
    """The DAGs inside a node, with the key of a condition (empty for the others)."""
    match node.body:
        case SubDag(dag) | Foreach(dag=dag):
            yield "", dag
        case Condition(dags=dags):
            yield from dags.items()
