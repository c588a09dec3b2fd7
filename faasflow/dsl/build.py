"""What becomes of a written DAG: the immutable one of the graph, after the checks that only the whole allows."""

from __future__ import annotations

from collections.abc import Iterable

from faasflow import graph
from faasflow.dsl.dag import Body, ConditionBody, Dag, ForeachBody, SubDagBody
from faasflow.dsl.node import Node
from faasflow.errors import DefinitionError


def build(dag: Dag, id: str) -> graph.Dag:
    """The DAG as the engine runs it, numbered `id`. `DefinitionError` for what is not finished."""
    if not dag._nodes:
        raise _empty(dag)
    edges = list(dag._edges.values())
    start = _start(dag, edges)
    _check_work(dag, edges)
    nodes = {name: _node(node, id) for name, node in dag._nodes.items()}
    end = _close(dag, id, nodes, edges)
    return graph.Dag(
        id=id,
        label=dag._place.label,
        nodes=nodes,
        predecessors=_by(nodes, edges, "target"),
        successors=_by(nodes, edges, "source"),
        start=start,
        end=end,
    )


def _empty(dag: Dag) -> DefinitionError:
    place = dag._place
    where = f" ({place.where})" if place.where else ""
    hint = "flow.sync_node() or flow.dag().node(id)" if place.is_root else "node(id)"
    return DefinitionError(f"DAG {place.label!r}{where}: It has no node. Add one with {hint}.")


def _start(dag: Dag, edges: Iterable[graph.Edge]) -> str:
    targets = {edge.target for edge in edges}
    starts = [id for id in dag._nodes if id not in targets]
    if len(starts) > 1:
        listed = ", ".join(f"{id!r} ({dag._nodes[id]._where})" for id in starts[:5])
        raise dag._place.error(
            f"It has {len(starts)} start nodes: {listed}. Begin with one node and link the others to it with edge()."
        )
    return starts[0]


def _check_work(dag: Dag, edges: Iterable[graph.Edge]) -> None:
    incoming = _by(dag._nodes, edges, "target")
    for id, node in dag._nodes.items():
        forwarding = [edge.source for edge in incoming[id] if edge.forward]
        if len(forwarding) > 1 and node._options.aggregator is None:
            raise dag._place.error(
                f"Node {id!r} ({node._where}) joins {_listed(forwarding)} without an aggregator. "
                "Give node(..., aggregator=), or edge(..., forward=False) for all but one of them."
            )
        if not node._operations and not node._body and not node._options.aggregator and len(incoming[id]) < 2:
            raise dag._place.error(
                f"Node {id!r} ({node._where}) has nothing to do. "
                "Give it apply(), modify(), request(), a sub-DAG or a branch, or remove it."
            )


def _node(node: Node, dag_id: str) -> graph.Node:
    options = node._options
    inner = f"{node._index}" if dag_id == "0" else f"{dag_id}_{node._index}"
    return graph.Node(
        node.id,
        node._index,
        tuple(node._operations),
        options.aggregator,
        _body(node._body, inner) if node._body else None,
        retry=options.retry,
        timeout=options.timeout,
        at_most_once=bool(options.at_most_once),
        continues=options.on_error == "continue",
    )


def _body(body: Body, id: str) -> graph.SubDag | graph.Foreach | graph.Condition:
    match body:
        case SubDagBody():
            return graph.SubDag(build(body.dag, id))
        case ForeachBody():
            dag = build(body.dag, id)
            return graph.Foreach(
                body.split, dag, body.aggregator, body.forward, body.max_parallel, tolerated=body.tolerated
            )
        case ConditionBody():
            dags = {key: build(dag, f"{id}_{key}") for key, dag in body.dags.items()}
            return graph.Condition(body.choose, dags, body.aggregator, body.forward)


def _close(dag: Dag, id: str, nodes: dict[str, graph.Node], edges: list[graph.Edge]) -> str:
    """The one end node; where there are several, a virtual node that joins them is added, as in the original."""
    sources = {edge.source for edge in edges}
    ends = [node for node in nodes if node not in sources]
    if len(ends) == 1:
        return ends[0]
    end = f"end_{id}"
    while end in nodes:
        end += "_"
    nodes[end] = graph.Node(end, len(nodes) + 1, aggregator=dag._end_aggregator, is_virtual=True)
    edges.extend(graph.Edge(node, end) for node in ends)
    return end


def _by(nodes: Iterable[str], edges: Iterable[graph.Edge], side: str) -> dict[str, tuple[graph.Edge, ...]]:
    grouped: dict[str, list[graph.Edge]] = {id: [] for id in nodes}
    for edge in edges:
        grouped[getattr(edge, side)].append(edge)
    return {id: tuple(found) for id, found in grouped.items()}


def _listed(ids: list[str]) -> str:
    return " and ".join(repr(id) for id in ids) if len(ids) < 3 else f"{len(ids)} nodes ({', '.join(ids[:5])})"
