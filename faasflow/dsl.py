"""The fluent front end: `Flow`, `Dag` and `Node` collect what a handler's `define` says and build the immutable graph.

A mistake is raised by the call that makes it. What only the finished definition can show (no node, two starts, a join
without an aggregator, a node with nothing to do) is raised by `Flow.build`, with the line at which the node was
written. Names and meanings follow the Go API of Faas-flow; where they differ the docstring says so.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from faasflow import graph
from faasflow.errors import DefinitionError
from faasflow.graph.order import TopologicalOrder

Values = Mapping[str, str | Iterable[str]]
SYNC_NODE = "sync"


class Node:
    """A step of a flow. Its operations run in order in one process; the result of one is the input of the next."""

    def __init__(self, dag: Dag, id: str, index: int) -> None:
        self.id = id
        self._dag = dag
        self._index = index
        self._where = _caller()
        self._operations: list[graph.Operation] = []
        self._aggregator: graph.Callback | None = None
        self._body: _Body | None = None

    def apply(
        self,
        function: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Values | None = None,
        method: str | None = None,
        timeout: float | None = None,
        on_failure: graph.Callback | None = None,
        on_request: graph.Callback | None = None,
        on_response: graph.Callback | None = None,
    ) -> Node:
        """Call the OpenFaaS function `function` (or `function.namespace`) through the gateway; its answer is the
        result.

        `timeout` is in seconds. `on_request(call)` may change the `OutgoingCall`. `on_response(response)` replaces the
        check of the status and gives the result. `on_failure(error)` is called when the call fails: what it returns is
        taken as the result, what it raises fails the node.
        """
        return self._add(
            graph.OperationKind.FUNCTION,
            self._dag._text(function, f"apply() of node {self.id!r}", "a function name"),
            headers=headers,
            query=query,
            method=method,
            timeout=timeout,
            on_failure=on_failure,
            on_request=on_request,
            on_response=on_response,
        )

    def request(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Values | None = None,
        method: str | None = None,
        timeout: float | None = None,
        on_failure: graph.Callback | None = None,
        on_request: graph.Callback | None = None,
        on_response: graph.Callback | None = None,
    ) -> Node:
        """Call a URL, with the same options as `apply`."""
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise self._dag._error(
                f"request() of node {self.id!r} got {url!r}. Give a URL that starts with http:// or https://."
            )
        return self._add(
            graph.OperationKind.REQUEST,
            url,
            headers=headers,
            query=query,
            method=method,
            timeout=timeout,
            on_failure=on_failure,
            on_request=on_request,
            on_response=on_response,
        )

    def modify(self, code: graph.Callback) -> Node:
        """Run code of the handler itself: `code(data)` returns the new data."""
        self._dag._callable(code, f"modify() of node {self.id!r}")
        return self._append(graph.Operation(graph.OperationKind.MODIFIER, _name_of(code), code=code))

    def _add(
        self,
        kind: graph.OperationKind,
        name: str,
        *,
        headers: Mapping[str, str] | None,
        query: Values | None,
        method: str | None,
        timeout: float | None,
        **handlers: graph.Callback | None,
    ) -> Node:
        what = f"{name!r} of node {self.id!r}"
        for option, code in handlers.items():
            if code is not None:
                self._dag._callable(code, f"{option} of {what}")
        self._dag._check(_is_mapping, headers, f"headers of {what}", "Give a dict.")
        self._dag._check(_is_mapping, query, f"query of {what}", "Give a dict.")
        self._dag._check(_is_text, method, f"method of {what}", "Give a text such as 'PUT'.")
        self._dag._check(_is_duration, timeout, f"timeout of {what}", "Give a number of seconds above 0.")
        return self._append(
            graph.Operation(
                kind,
                name,
                headers={str(key): str(value) for key, value in (headers or {}).items()},
                query=tuple(_pairs(query or {})),
                method=method.upper() if method else None,
                timeout=timeout,
                **handlers,
            )
        )

    def _append(self, operation: graph.Operation) -> Node:
        if self._body is not None:
            raise self._dag._error(
                f"Node {self.id!r} stands for {self._body.noun} and cannot run {operation.name!r} as well. "
                "Put the operation into a node of its own."
            )
        self._operations.append(operation)
        return self

    def _copy(self, dag: Dag) -> Node:
        node = Node.__new__(Node)
        node.id, node._dag, node._index, node._where = self.id, dag, self._index, self._where
        node._operations = list(self._operations)
        node._aggregator = self._aggregator
        node._body = self._body.copy(node) if self._body else None
        return node

    def _build(self, dag_id: str) -> graph.Node:
        inner = f"{self._index}" if dag_id == "0" else f"{dag_id}_{self._index}"
        body = self._body.build(inner) if self._body else None
        return graph.Node(self.id, self._index, tuple(self._operations), self._aggregator, body)


class Dag:
    """Nodes and the edges between them. `Dag()` makes one to hand to `sub_dag`, `append` or `set_dag`."""

    def __init__(self) -> None:
        self._parent: Node | None = None
        self._option = ""
        self._is_root = False
        self._nodes: dict[str, Node] = {}
        self._edges: dict[tuple[str, str], graph.Edge] = {}
        self._order = TopologicalOrder()
        self._end_aggregator: graph.Callback | None = None

    def node(self, id: str, *, aggregator: graph.Callback | None = None) -> Node:
        """The node `id`, made at the first call. `aggregator` is given `{id of predecessor: data}` and its result is
        what the node works on."""
        node = self._nodes.get(self._text(id, "node()", "an id"))
        if aggregator is not None:
            self._callable(aggregator, f"aggregator of node {id!r}")
        if node is None:
            node = self._nodes[id] = Node(self, id, len(self._nodes) + 1)
            self._order.add(id)
        if aggregator is not None:
            self._set_aggregator(node, aggregator)
        return node

    def edge(self, source: str, target: str, *, forward: bool = True, forwarder: graph.Callback | None = None) -> None:
        """`target` runs after `source` and is given its result. `forward=False` keeps the order only;
        `forwarder(data)` changes the data for this one target."""
        for id in (source, target):
            if id not in self._nodes:
                raise self._unknown(source, target, id)
        if forwarder is not None:
            self._callable(forwarder, f"forwarder of edge {source!r} to {target!r}")
            if not forward:
                raise self._error(
                    f"Edge {source!r} to {target!r} has a forwarder but forward=False. Remove one of them."
                )
        if (source, target) in self._edges:
            raise self._error(f"Edge {source!r} to {target!r} exists already. Remove one of the two.")
        self._link(graph.Edge(source, target, forward, forwarder))

    def sub_dag(self, id: str, dag: Dag, *, aggregator: graph.Callback | None = None) -> None:
        """Make node `id` stand for a copy of `dag`; what `dag` becomes afterwards does not change the copy."""
        if not isinstance(dag, Dag):
            raise self._error(f"sub_dag({id!r}) got {type(dag).__name__}. Give it a Dag.")
        if dag is self or dag in self._ancestors():
            raise self._error(f"sub_dag({id!r}) would put the DAG into itself. Give it a DAG of its own.")
        if aggregator is not None:
            self._callable(aggregator, f"aggregator of node {id!r}")
        node = self._vacant(id, "sub_dag()")
        if aggregator is not None:
            self._set_aggregator(node, aggregator)
        node._body = _SubDagBody(dag._copy(node))

    def append(self, dag: Dag) -> None:
        """Add a copy of every node and edge of `dag` to this one; link them to the rest with `edge`."""
        if not isinstance(dag, Dag):
            raise self._error(f"append() got {type(dag).__name__}. Give it a Dag.")
        double = [id for id in dag._nodes if id in self._nodes]
        if double:
            raise self._error(f"append() brings node {double[0]!r}, which exists already. Rename one of the two.")
        for node in dag._nodes.values():
            copy = node._copy(self)
            copy._index = len(self._nodes) + 1
            self._nodes[node.id] = copy
            self._order.add(node.id)
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
    ) -> Dag:
        """Run the returned DAG once for each item of the dict that `split(data)` gives, with the value as its input.

        `aggregator` is given `{key: result of the branch}` in the order of the dict. `max_parallel` bounds how many
        branches run at a time. With `forward=False` the results are not collected and the node's own result is empty.
        """
        self._callable(split, f"foreach of node {id!r}")
        self._check(_is_count, max_parallel, f"max_parallel of node {id!r}", "Give a whole number above 0, or None.")
        node = self._dynamic(id, "foreach_branch()", aggregator, forward)
        body = _ForeachBody(split, self._inner(node), aggregator, forward, max_parallel)
        node._body = body
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
        self._callable(choose, f"condition of node {id!r}")
        if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
            raise self._error(f"conditional_branch({id!r}) got the keys {keys!r}. Give a list of texts.")
        options = list(keys)
        if not options or not all(isinstance(option, str) for option in options):
            raise self._error(f"conditional_branch({id!r}) got the keys {options!r}. Give at least one text.")
        node = self._dynamic(id, "conditional_branch()", aggregator, forward)
        body = _ConditionBody(choose, {key: self._inner(node, key) for key in options}, aggregator, forward)
        node._body = body
        return dict(body.dags)

    def end(self, *, aggregator: graph.Callback) -> None:
        """Where several nodes have no successor: combine their results, `{id: data}`, into that of the DAG. Without it
        the result is a JSON object by node id."""
        self._callable(aggregator, "aggregator of end()")
        self._end_aggregator = aggregator

    def _inner(self, parent: Node, option: str = "") -> Dag:
        dag = Dag()
        dag._parent, dag._option = parent, option
        return dag

    def _dynamic(self, id: str, call: str, aggregator: graph.Callback | None, forward: bool) -> Node:
        if aggregator is not None:
            self._callable(aggregator, f"aggregator of node {id!r}")
        elif forward:
            raise self._error(
                f"{call} of node {id!r} has no aggregator for the results of its branches. "
                "Give aggregator=, or forward=False where they are not needed."
            )
        return self._vacant(id, call)

    def _vacant(self, id: str, call: str) -> Node:
        """The node `id` with nothing in it yet: made now, or made before by `node` and linked already."""
        known = self._nodes.get(id)
        if known is not None and (known._operations or known._body):
            has = known._body.noun if known._body else f"the operation {known._operations[0].name!r}"
            raise self._error(f"{call} names node {id!r}, which has {has} already. Use another id.")
        return self.node(id)

    def _set_aggregator(self, node: Node, aggregator: graph.Callback) -> None:
        if node._aggregator not in (None, aggregator):
            raise self._error(f"Node {node.id!r} has an aggregator already. Give it once.")
        node._aggregator = aggregator

    def _link(self, edge: graph.Edge) -> None:
        cycle = self._order.link(edge.source, edge.target)
        if cycle:
            raise self._error(_cycle_text(edge, cycle))
        self._edges[edge.source, edge.target] = edge

    def _ancestors(self) -> list[Dag]:
        found, dag = [], self
        while dag._parent is not None:
            dag = dag._parent._dag
            found.append(dag)
        return found

    def _copy(self, parent: Node | None, option: str = "") -> Dag:
        dag = Dag()
        dag._parent, dag._option, dag._end_aggregator = parent, option, self._end_aggregator
        dag._nodes = {id: node._copy(dag) for id, node in self._nodes.items()}
        for id in dag._nodes:
            dag._order.add(id)
        for edge in self._edges.values():
            dag._link(edge)
        return dag

    @property
    def _label(self) -> str:
        if self._parent is None:
            return "root" if self._is_root else "new"
        own = self._parent.id + (f"={self._option}" if self._option else "")
        outer = self._parent._dag
        return own if outer._parent is None else f"{outer._label}/{own}"

    def _error(self, text: str) -> DefinitionError:
        return DefinitionError(f"DAG {self._label!r}: {text}")

    def _unknown(self, source: str, target: str, id: str) -> DefinitionError:
        near = difflib.get_close_matches(str(id), self._nodes, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Make it with node(), sub_dag() or a branch first."
        return self._error(f"Edge {source!r} to {target!r} names node {id!r}, which does not exist. {hint}")

    def _text(self, value: str, call: str, noun: str) -> str:
        if not isinstance(value, str) or not value:
            raise self._error(f"{call} got {value!r} for {noun}. Give a text that is not empty.")
        return value

    def _check(self, is_right: Callable[[Any], bool], value: Any, what: str, way_out: str) -> None:
        if value is not None and not is_right(value):
            raise self._error(f"The {what} is {value!r}. {way_out}")

    def _callable(self, code: Any, what: str) -> None:
        if not callable(code):
            raise self._error(f"The {what} is {code!r}. Give a callable of one parameter.")

    def _build(self, dag_id: str) -> graph.Dag:
        if not self._nodes:
            where = f" ({self._parent._where})" if self._parent else ""
            raise DefinitionError(f"DAG {self._label!r}{where}: It has no node. {self._empty_hint()}")
        edges = list(self._edges.values())
        targets = {edge.target for edge in edges}
        starts = [id for id in self._nodes if id not in targets]
        if len(starts) > 1:
            listed = ", ".join(f"{id!r} ({self._nodes[id]._where})" for id in starts[:5])
            raise self._error(
                f"It has {len(starts)} start nodes: {listed}. "
                "Begin with one node and link the others to it with edge()."
            )
        self._check_work(edges)
        nodes = {id: node._build(dag_id) for id, node in self._nodes.items()}
        end = self._close(dag_id, nodes, edges)
        return graph.Dag(
            id=dag_id,
            label=self._label,
            nodes=nodes,
            predecessors=_by(nodes, edges, "target"),
            successors=_by(nodes, edges, "source"),
            start=starts[0],
            end=end,
        )

    def _empty_hint(self) -> str:
        if self._is_root:
            return "Add one with flow.sync_node() or flow.dag().node(id)."
        return "Add one with node(id)."

    def _check_work(self, edges: list[graph.Edge]) -> None:
        incoming: dict[str, list[graph.Edge]] = {id: [] for id in self._nodes}
        for edge in edges:
            incoming[edge.target].append(edge)
        for id, node in self._nodes.items():
            forwarding = [edge.source for edge in incoming[id] if edge.forward]
            if len(forwarding) > 1 and node._aggregator is None:
                raise self._error(
                    f"Node {id!r} ({node._where}) joins {_listed(forwarding)} without an aggregator. "
                    "Give node(..., aggregator=), or edge(..., forward=False) for all but one of them."
                )
            if not node._operations and not node._body and not node._aggregator and len(incoming[id]) < 2:
                raise self._error(
                    f"Node {id!r} ({node._where}) has nothing to do. "
                    "Give it apply(), modify(), request(), a sub-DAG or a branch, or remove it."
                )

    def _close(self, dag_id: str, nodes: dict[str, graph.Node], edges: list[graph.Edge]) -> str:
        """The one end node; where there are several, a virtual node that joins them is added, as in the original."""
        sources = {edge.source for edge in edges}
        ends = [id for id in nodes if id not in sources]
        if len(ends) == 1:
            return ends[0]
        end = f"end_{dag_id}"
        while end in nodes:
            end += "_"
        nodes[end] = graph.Node(end, len(nodes) + 1, aggregator=self._end_aggregator, is_virtual=True)
        edges.extend(graph.Edge(id, end) for id in ends)
        return end


@dataclass(slots=True)
class _SubDagBody:
    dag: Dag
    noun = "a sub-DAG"

    def copy(self, parent: Node) -> _SubDagBody:
        return _SubDagBody(self.dag._copy(parent))

    def build(self, dag_id: str) -> graph.SubDag:
        return graph.SubDag(self.dag._build(dag_id))


@dataclass(slots=True)
class _ForeachBody:
    split: graph.Callback
    dag: Dag
    aggregator: graph.Callback | None
    forward: bool
    max_parallel: int | None
    noun = "a foreach branch"

    def copy(self, parent: Node) -> _ForeachBody:
        return _ForeachBody(self.split, self.dag._copy(parent), self.aggregator, self.forward, self.max_parallel)

    def build(self, dag_id: str) -> graph.Foreach:
        return graph.Foreach(self.split, self.dag._build(dag_id), self.aggregator, self.forward, self.max_parallel)


@dataclass(slots=True)
class _ConditionBody:
    choose: graph.Callback
    dags: Mapping[str, Dag]
    aggregator: graph.Callback | None
    forward: bool
    noun = "a conditional branch"

    def copy(self, parent: Node) -> _ConditionBody:
        dags = {key: dag._copy(parent, key) for key, dag in self.dags.items()}
        return _ConditionBody(self.choose, dags, self.aggregator, self.forward)

    def build(self, dag_id: str) -> graph.Condition:
        dags = {key: dag._build(f"{dag_id}_{key}") for key, dag in self.dags.items()}
        return graph.Condition(self.choose, dags, self.aggregator, self.forward)


_Body = _SubDagBody | _ForeachBody | _ConditionBody


class Flow:
    """What `define` is given: the flow to be written."""

    def __init__(self) -> None:
        self._root = Dag()
        self._root._is_root = True
        self._on_failure: graph.Callback | None = None
        self._finally: graph.Callback | None = None

    def sync_node(self) -> Node:
        """The one node of a synchronous flow: the caller waits and is answered with its result."""
        return self._root.node(SYNC_NODE)

    def dag(self) -> Dag:
        """The flow's DAG."""
        return self._root

    def set_dag(self, dag: Dag) -> None:
        """Make `dag` the flow's DAG; a DAG taken from `dag()` before no longer counts."""
        if not isinstance(dag, Dag):
            raise DefinitionError(f"set_dag() got {type(dag).__name__}. Give it a Dag.")
        if dag._parent is not None:
            raise dag._error("set_dag() got a DAG that is part of another. Make one with Dag().")
        self._root._is_root = False
        dag._is_root = True
        self._root = dag

    def on_failure(self, handler: Callable[[Exception], Any]) -> None:
        """Call `handler(error)` once when the flow fails; what it returns is the body of the failure answer and of the
        callback. The flow has failed all the same."""
        self._root._callable(handler, "handler of on_failure()")
        self._on_failure = handler

    def finally_(self, handler: Callable[[str], Any]) -> None:
        """Call `handler(state)` once at the end, with "success", "failure" or "stopped"."""
        self._root._callable(handler, "handler of finally_()")
        self._finally = handler

    def build(self) -> graph.Definition:
        """The finished graph; `DefinitionError` for what only the whole can show."""
        return graph.Definition(self._root._build("0"), self._on_failure, self._finally)


def _by(nodes: Iterable[str], edges: Iterable[graph.Edge], side: str) -> dict[str, tuple[graph.Edge, ...]]:
    grouped: dict[str, list[graph.Edge]] = {id: [] for id in nodes}
    for edge in edges:
        grouped[getattr(edge, side)].append(edge)
    return {id: tuple(found) for id, found in grouped.items()}


def _cycle_text(edge: graph.Edge, cycle: list[str]) -> str:
    if len(cycle) == 1:
        return f"Edge {edge.source!r} to itself. A node cannot wait for its own result; remove the edge."
    shown = cycle if len(cycle) <= 8 else [*cycle[:4], "…", *cycle[-3:]]
    path = ", ".join(shown)
    return f"Edge {edge.source!r} to {edge.target!r} closes a cycle ({path}). Remove one of its edges."


def _listed(ids: list[str]) -> str:
    return " and ".join(repr(id) for id in ids) if len(ids) < 3 else f"{len(ids)} nodes ({', '.join(ids[:5])})"


def _pairs(query: Values) -> Iterable[tuple[str, str]]:
    for key, value in query.items():
        for one in [value] if isinstance(value, str) or not isinstance(value, Iterable) else value:
            yield str(key), str(one)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_duration(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _name_of(code: Any) -> str:
    code = getattr(code, "func", code)  # what a functools.partial calls
    name = getattr(code, "__name__", type(code).__name__)
    return "modifier" if name == "<lambda>" else str(name)


def _caller() -> str:
    """The line of the handler that is being run, as `handler.py:12`."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno}"
