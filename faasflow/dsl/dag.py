"""The DAGs of a flow that is being written, and what nodes stand for that have DAGs inside."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from faasflow import graph
from faasflow.dsl.callables import Given, check_code
from faasflow.dsl.node import Node
from faasflow.dsl.options import NodeOptions, OnBranchError, OnError, check_max_parallel, tolerated
from faasflow.dsl.place import Place, caller
from faasflow.graph.order import TopologicalOrder
from faasflow.graph.policy import Retry
from faasflow.naming import is_unicode


class Dag:
    """Nodes and the edges between them. `Dag()` makes one to hand to `sub_dag`, `append` or `set_dag`."""

    def __init__(self) -> None:
        self._place = Place()
        self._nodes: dict[str, Node] = {}
        self._edges: dict[tuple[str, str], graph.Edge] = {}
        self._order = TopologicalOrder()
        self._end_aggregator: graph.Callback | None = None

    def node(
        self,
        id: str,
        *,
        aggregator: graph.Callback | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        at_most_once: bool | None = None,
        on_error: OnError | None = None,
    ) -> Node:
        """The node `id`, made at the first call; later ones may add options, but not change them.

        `aggregator` is given `{id of predecessor: data}` and its result is what the node works on. `retry` runs a
        failed node again from its start, in place of the flow's policy. `timeout` bounds one run of the node, in
        seconds. With `at_most_once` it is never run again, not even where nobody knows whether it ran. After a failure
        for good, `on_error="continue"` goes on with empty data instead of failing the request.
        """
        node = self._found(id, "node()")
        node._give(
            NodeOptions(
                aggregator=aggregator, retry=retry, timeout=timeout, at_most_once=at_most_once, on_error=on_error
            )
        )
        return self._keep(node)

    def edge(self, source: str, target: str, *, forward: bool = True, forwarder: graph.Callback | None = None) -> None:
        """`target` runs after `source` and is given its result. `forward=False` keeps the order only;
        `forwarder(data)` changes the data for this one target."""
        for id in (source, target):
            if id not in self._nodes:
                raise self._unknown(source, target, id)
        if forwarder is not None:
            check_code(self._place, forwarder, f"forwarder of edge {source!r} to {target!r}")
            if not forward:
                raise self._place.error(
                    f"Edge {source!r} to {target!r} has a forwarder but forward=False. Remove one of them."
                )
        if (source, target) in self._edges:
            raise self._place.error(f"Edge {source!r} to {target!r} exists already. Remove one of the two.")
        self._link(graph.Edge(source, target, forward, forwarder))

    def sub_dag(self, id: str, dag: Dag, *, aggregator: graph.Callback | None = None) -> None:
        """Make node `id` stand for a copy of `dag`; what `dag` becomes afterwards does not change the copy."""
        if not isinstance(dag, Dag):
            raise self._place.error(f"sub_dag({id!r}) got {type(dag).__name__}. Give it a Dag.")
        if dag._place in self._place.chain():
            raise self._place.error(f"sub_dag({id!r}) would put the DAG into itself. Give it a DAG of its own.")
        node = self._vacant(id, "sub_dag()")
        node._stand_for(SubDagBody(dag._copy(node._inside())), aggregator=aggregator)
        self._keep(node)

    def append(self, dag: Dag) -> None:
        """Add a copy of every node and edge of `dag` to this one; link them to the rest with `edge`."""
        if not isinstance(dag, Dag):
            raise self._place.error(f"append() got {type(dag).__name__}. Give it a Dag.")
        double = [id for id in dag._nodes if id in self._nodes]
        if double:
            raise self._place.error(f"append() brings node {double[0]!r}, which exists already. Rename one of the two.")
        if dag._end_aggregator is not None:
            raise self._place.error(
                "append() brings a DAG with an end(), but its nodes become part of this DAG and no longer have an end "
                "of their own. Use sub_dag() instead, or give this DAG its end()."
            )
        for node in dag._nodes.values():
            twin = node._copy(self._place)
            twin._index = len(self._nodes) + 1
            self._keep(twin)
        for edge in dag._edges.values():
            self._link(edge)

    def foreach_branch(
        self,
        id: str,
        split: graph.Callback,
        *,
        aggregator: graph.Callback | None = None,
        forward: bool = True,
        max_parallel: int | None = None,
        on_error: OnBranchError = "stop",
    ) -> Dag:
        """Run the returned DAG once for each item of the dict that `split(data)` gives, with the value as its input.
        For a list, or what a generator gives, the keys are the positions: "0", "1", and so on.

        `aggregator` is given `{key: result of the branch}` in the order of the dict. `max_parallel` bounds how many
        branches run at a time. With `forward=False` the results are not collected and the node's own result is empty.

        `on_error` says how many branches may fail: none ("stop"), all ("collect"), a number of them (`int`), or a share
        from 0.0 to 1.0 (`float`). Failed ones are left out of what the aggregator is given.
        """
        check_code(self._place, split, f"foreach of node {id!r}", may_yield=True)
        check_max_parallel(self._place, id, max_parallel)
        may_fail = tolerated(self._place, id, on_error)
        self._check_collected(id, "foreach_branch()", aggregator, forward)
        node = self._vacant(id, "foreach_branch()")
        body = ForeachBody(split, Dag._at(node._inside()), aggregator, forward, max_parallel, may_fail)
        node._stand_for(body)
        self._keep(node)
        return body.dag

    def conditional_branch(
        self,
        id: str,
        keys: Iterable[str],
        choose: graph.Callback,
        *,
        aggregator: graph.Callback | None = None,
        forward: bool = True,
    ) -> dict[str, Dag]:
        """Run those of the returned DAGs whose key is in the list (or is the text) that `choose(data)` gives, all with
        the same input. `aggregator` and `forward` as in `foreach_branch`, in the order of `keys`."""
        check_code(self._place, choose, f"condition of node {id!r}", may_yield=True)
        if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
            raise self._place.error(f"conditional_branch({id!r}) got the keys {keys!r}. Give a list of texts.")
        options = list(keys)
        self._check_keys(id, options)
        self._check_collected(id, "conditional_branch()", aggregator, forward)
        node = self._vacant(id, "conditional_branch()")
        dags = {key: Dag._at(node._inside(key)) for key in options}
        node._stand_for(ConditionBody(choose, dags, aggregator, forward))
        self._keep(node)
        return dict(dags)

    def end(self, *, aggregator: graph.Callback) -> None:
        """Where several nodes have no successor: combine their results, `{id: data}`, into that of the DAG. Without it
        the result is a JSON object by node id."""
        check_code(self._place, aggregator, "aggregator of end()", Given.RESULTS)
        self._end_aggregator = aggregator

    @classmethod
    def _at(cls, place: Place) -> Dag:
        dag = cls()
        dag._place = place
        return dag

    def _found(self, id: str, call: str) -> Node:
        """The node `id`, or a new one that is not part of the DAG before it is kept."""
        self._place.check_text(id, call, "an id")
        return self._nodes.get(id) or Node(id, len(self._nodes) + 1, self._place, caller())

    def _vacant(self, id: str, call: str) -> Node:
        """As `_found`, but with nothing in it yet; it may be linked already."""
        node = self._found(id, call)
        if node._operations or node._body:
            has = node._body.noun if node._body else f"the operation {node._operations[0].name!r}"
            raise self._place.error(f"{call} names node {id!r}, which has {has} already. Use another id.")
        return node

    def _keep(self, node: Node) -> Node:
        if node.id not in self._nodes:
            self._nodes[node.id] = node
            self._order.add(node.id)
        return node

    def _check_keys(self, id: str, keys: list[Any]) -> None:
        call = f"conditional_branch({id!r})"
        if not keys or not all(isinstance(key, str) for key in keys):
            raise self._place.error(f"{call} got the keys {keys!r}. Give at least one text.")
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise self._place.error(f"{call} got the key {key!r} twice. Give each key once.")
            if not is_unicode(key):
                raise self._place.error(f"{call} got the key {key!a}, which is not valid Unicode. Rename it.")

    def _check_collected(self, id: str, call: str, aggregator: Any, forward: bool) -> None:
        if aggregator is not None:
            check_code(self._place, aggregator, f"aggregator of node {id!r}", Given.RESULTS)
        elif forward:
            raise self._place.error(
                f"{call} of node {id!r} has no aggregator for the results of its branches. "
                "Give aggregator=, or forward=False where they are not needed."
            )

    def _link(self, edge: graph.Edge) -> None:
        cycle = self._order.link(edge.source, edge.target)
        if cycle:
            raise self._place.error(_cycle_text(edge, cycle))
        self._edges[edge.source, edge.target] = edge

    def _copy(self, place: Place) -> Dag:
        dag = Dag._at(place)
        dag._end_aggregator = self._end_aggregator
        for node in self._nodes.values():
            dag._keep(node._copy(place))
        for edge in self._edges.values():
            dag._link(edge)
        return dag

    def _unknown(self, source: str, target: str, id: str) -> Exception:
        near = difflib.get_close_matches(str(id), self._nodes, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Make it with node(), sub_dag() or a branch first."
        return self._place.error(f"Edge {source!r} to {target!r} names node {id!r}, which does not exist. {hint}")


_INSIDE = "Give it to the nodes inside."


@dataclass(frozen=True, slots=True)
class SubDagBody:
    """A node's sub-DAG."""

    dag: Dag
    noun = "a sub-DAG"
    refuses = dict.fromkeys(("retry", "timeout", "at_most_once", "on_error"), _INSIDE)

    def copy(self, node: Node) -> SubDagBody:
        return SubDagBody(self.dag._copy(node._inside()))


@dataclass(frozen=True, slots=True)
class ForeachBody:
    """A node's branch for each of many values."""

    split: graph.Callback
    dag: Dag
    aggregator: graph.Callback | None
    forward: bool
    max_parallel: int | None
    tolerated: float | None
    noun = "a foreach branch"
    refuses = {"at_most_once": _INSIDE, "on_error": "Give foreach_branch() its on_error instead."}  # noqa: RUF012

    def copy(self, node: Node) -> ForeachBody:
        return replace(self, dag=self.dag._copy(node._inside()))


@dataclass(frozen=True, slots=True)
class ConditionBody:
    """A node's branches by key."""

    choose: graph.Callback
    dags: Mapping[str, Dag]
    aggregator: graph.Callback | None
    forward: bool
    noun = "a conditional branch"
    refuses = dict.fromkeys(("at_most_once", "on_error"), _INSIDE)

    def copy(self, node: Node) -> ConditionBody:
        return replace(self, dags={key: dag._copy(node._inside(key)) for key, dag in self.dags.items()})


Body = SubDagBody | ForeachBody | ConditionBody


def _cycle_text(edge: graph.Edge, cycle: list[str]) -> str:
    if len(cycle) == 1:
        return f"Edge {edge.source!r} to itself. A node cannot wait for its own result; remove the edge."
    shown = cycle if len(cycle) <= 8 else [*cycle[:4], "…", *cycle[-3:]]
    path = ", ".join(shown)
    return f"Edge {edge.source!r} to {edge.target!r} closes a cycle ({path}). Remove one of its edges."
