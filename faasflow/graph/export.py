"""A flow's graph for others to read: the original's JSON, which its dashboard understands, Mermaid, and Graphviz."""

from __future__ import annotations

from typing import Any

from faasflow.graph.dot import to_dot
from faasflow.graph.drawing import operation_name
from faasflow.graph.mermaid import to_mermaid
from faasflow.graph.model import (
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

__all__ = ["to_dot", "to_json", "to_mermaid"]


def to_json(definition: Definition) -> dict[str, Any]:
    """The graph under the keys of the original's `?export-dag=true`, its spelling included.

    It never filled the degrees and called every nested DAG invalid; here both are true. `exec-only-dag` says that no
    edge or branch forwards data, in the DAG or in one inside it.
    """
    return _dag(definition.root)


def _dag(dag: Dag) -> dict[str, Any]:
    nodes = {node.id: _node(dag, node) for node in dag.nodes.values()}
    inner = [exported for node in nodes.values() for exported in _inner(node)]
    dynamic = [node.body for node in dag.nodes.values() if isinstance(node.body, Foreach | Condition)]
    edges = list(dag.edges())
    forwards = any(edge.forward for edge in edges) or any(body.forward for body in dynamic)
    return {
        "id": dag.id,
        "start-node": dag.start,
        "end-node": dag.end,
        "has-branch": bool(dynamic) or _is_forked(dag) or any(dag["has-branch"] for dag in inner),
        "has-edge": bool(dynamic or edges) or any(dag["has-edge"] for dag in inner),
        "exec-only-dag": not forwards and all(dag["exec-only-dag"] for dag in inner),
        "nodes": nodes,
        "is-valid": True,
    }


def _is_forked(dag: Dag) -> bool:
    return any(len(edges) > 1 for edges in (*dag.predecessors.values(), *dag.successors.values()))


def _inner(node: dict[str, Any]) -> list[dict[str, Any]]:
    single = [node[key] for key in ("sub-dag", "foreach-dag") if key in node]
    return [*single, *node.get("conditional-dags", {}).values()]


def _node(dag: Dag, node: Node) -> dict[str, Any]:
    body, children = node.body, dag.successors[node.id]
    is_dynamic = isinstance(body, Foreach | Condition)
    return {
        "id": node.id,
        "node-index": node.index,
        "unique-id": dag.unique_id(node),
        "is-dynamic": is_dynamic,
        "is-condition": isinstance(body, Condition),
        "is-foreach": isinstance(body, Foreach),
        "has-aggregator": node.aggregator is not None or node.is_virtual,
        "has-sub-aggregator": isinstance(body, Foreach | Condition) and body.aggregator is not None,
        "has-subdag": isinstance(body, SubDag),
        "in-degree": len(dag.predecessors[node.id]),
        "out-degree": len(children),
        **_body(node),
        "dynamic-exec-only": isinstance(body, Foreach | Condition) and not body.forward,
        **_operations(node),
        **_children(children),
    }


def _body(node: Node) -> dict[str, Any]:
    match node.body:
        case SubDag(dag):
            return {"sub-dag": _dag(dag)}
        case Foreach(dag=dag):
            return {"foreach-dag": _dag(dag)}
        case Condition():
            return {"conditional-dags": {key: _dag(dag) for key, dag in inner_dags(node)}}
    return {}


def _operations(node: Node) -> dict[str, Any]:
    if node.is_virtual:
        return {"operations": [{"name": "end", "properties": {}}]}
    return {"operations": [_operation(operation) for operation in node.operations]} if node.operations else {}


def _operation(operation: Operation) -> dict[str, Any]:
    flags = {
        "isMod": operation.kind is OperationKind.MODIFIER,
        "isFunction": operation.kind is OperationKind.FUNCTION,
        "isHttpRequest": operation.kind is OperationKind.REQUEST,
        "hasFailureHandler": operation.on_failure is not None,
        "hasResponseHandler": operation.on_response is not None,
    }
    properties = {key: ["true" if flag else "false"] for key, flag in flags.items()}
    own = {key: [value] for key, value in operation.properties.items()}
    return {"name": operation_name(operation), "properties": {**own, **properties}}


def _children(edges: tuple[Edge, ...]) -> dict[str, Any]:
    exec_only = {edge.target: not edge.forward for edge in edges}
    return {**({"childrens": list(exec_only)} if edges else {}), "child-exec-only": exec_only}
