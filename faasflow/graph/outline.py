"""The nodes of a flow as one list: where each stands, what it waits for, what it calls. What shows a flow to people
reads this, and not the nested DAGs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from faasflow.graph.model import Condition, Dag, Definition, Foreach, Node, OperationKind, SubDag, inner_dags
from faasflow.naming import escape


class PlaceKind(StrEnum):
    """What a node is."""

    NODE = "node"
    FOREACH = "foreach"
    CONDITION = "condition"


@dataclass(frozen=True, slots=True)
class Place:
    """A node by its `path`, without the options of foreach branches. It starts when all of `after` are done: paths of
    nodes, none for what starts with the request, `None` for what starts with its branch. A node with branches is done
    when its `ends`, the last nodes of its branches, are. `functions` are those that it calls, in order. A virtual node
    joins the ends of a DAG that has several."""

    path: str
    id: str
    kind: PlaceKind
    after: tuple[str, ...] | None
    functions: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    is_virtual: bool = False


def outline(definition: Definition) -> list[Place]:
    """Every node in the order of definition, those inside of branches behind the node that opens them. A sub-DAG is no
    node of its own: its nodes stand in its place."""
    return list(_places(definition.root, "", ()))


def _places(dag: Dag, prefix: str, before: tuple[str, ...] | None) -> Iterator[Place]:
    """The nodes of `dag`, whose paths begin with `prefix`; its first node waits for `before`."""
    for node in dag.nodes.values():
        path = prefix + escape(node.id)
        sources = [dag.nodes[edge.source] for edge in dag.predecessors[node.id]]
        after = tuple(_last(source, prefix) for source in sources) if sources else before
        if isinstance(node.body, SubDag):
            yield from _places(node.body.dag, f"{path}/", after)
            continue
        yield _place(node, path, after)
        for option, inner in inner_dags(node):
            yield from _places(inner, _inside(node, path, option), None)


def _place(node: Node, path: str, after: tuple[str, ...] | None) -> Place:
    functions = [operation.name for operation in node.operations if operation.kind is OperationKind.FUNCTION]
    ends = [_last(dag.nodes[dag.end], _inside(node, path, option)) for option, dag in inner_dags(node)]
    unique = tuple(dict.fromkeys(functions))
    return Place(path, node.id, _kind(node), after, unique, tuple(ends), node.is_virtual)


def _kind(node: Node) -> PlaceKind:
    match node.body:
        case Foreach():
            return PlaceKind.FOREACH
        case Condition():
            return PlaceKind.CONDITION
        case _:
            return PlaceKind.NODE


def _inside(node: Node, path: str, option: str) -> str:
    """What the paths in a branch of `node` begin with."""
    return f"{path}={escape(option)}/" if isinstance(node.body, Condition) else f"{path}/"


def _last(node: Node, prefix: str) -> str:
    """The path of what is recorded when `node` is done: of a sub-DAG, its last node."""
    path = prefix + escape(node.id)
    if isinstance(node.body, SubDag):
        return _last(node.body.dag.nodes[node.body.dag.end], f"{path}/")
    return path
