"""The small flows that are explored exhaustively, and the plain recursion that says what any flow must come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from faasflow import graph
from faasflow.codec import decode, decode_each, encode, parameter_type
from faasflow.engine.plan import results_by_id
from faasflow.engine.position import Frame, FrameKind, Phase, Position, Step
from faasflow.engine.split import condition_options, foreach_values
from faasflow.graph import OperationKind
from faasflow.graph.policy import Retry
from tests.battery.checker import Expected
from tests.battery.history import sha

Functions = Callable[[str, bytes], bytes]
"""Answers a call: the name of a function or a URL, and the body."""

INPUT = b"in"
FLAKY = "flaky"
CALLBACK_URL = "http://target/told"


def echo(name: str, body: bytes) -> bytes:
    """A function whose answer says who was called with what."""
    return name.encode() + b"(" + body + b")"


def status_of(name: str, attempt: int) -> int:
    """What a function answers."""
    return 500 if name == FLAKY and attempt == 1 else 200


def joined(results: dict[str, bytes]) -> bytes:
    """An aggregate that shows what it was made of."""
    return b"[" + b",".join(key.encode() + b"=" + value for key, value in results.items()) + b"]"


def chain(flow: Any, context: Any) -> None:
    """a → b → c"""
    dag = flow.dag()
    for name in "abc":
        dag.node(name).apply(name)
    dag.edge("a", "b")
    dag.edge("b", "c")


def diamond(flow: Any, context: Any) -> None:
    """a → b and c → d"""
    dag = flow.dag()
    for name in "abc":
        dag.node(name).apply(name)
    dag.node("d", aggregator=joined).apply("d")
    for source, target in ("ab", "ac", "bd", "cd"):
        dag.edge(source, target)


def foreach(flow: Any, context: Any) -> None:
    """a for each of two keys → b"""
    dag = flow.dag()
    branch = dag.foreach_branch("each", lambda data: {"x": data + b"1", "y": data + b"2"}, aggregator=joined)
    branch.node("a").apply("a")
    dag.node("b").apply("b")
    dag.edge("each", "b")


def condition(flow: Any, context: Any) -> None:
    """one of two branches; the chosen one is a foreach of two"""
    dag = flow.dag()
    dags = dag.conditional_branch("case", ["wide", "other"], lambda data: ["wide"], aggregator=joined)
    branch = dags["wide"].foreach_branch("each", lambda data: {"x": data + b"1", "y": data + b"2"}, aggregator=joined)
    branch.node("a").apply("a")
    dags["other"].node("b").apply("b")


def closing(flow: Any, context: Any) -> None:
    """a → b, with a handler for the end"""
    dag = flow.dag()
    for name in "ab":
        dag.node(name).apply(name)
    dag.edge("a", "b")
    flow.finally_(lambda state: None)


def retried(flow: Any, context: Any) -> None:
    """a → b, whose function fails at the first attempt"""
    dag = flow.dag()
    dag.node("a").apply("a")
    dag.node("b").apply(FLAKY, retry=Retry(attempts=2, delay=1))
    dag.edge("a", "b")


def once(flow: Any, context: Any) -> None:
    """a, which may run at most once → b"""
    dag = flow.dag()
    dag.node("a", at_most_once=True).apply("a")
    dag.node("b").apply("b")
    dag.edge("a", "b")


FLOWS: Mapping[str, Callable[[Any, Any], None]] = {
    "chain": chain,
    "diamond": diamond,
    "foreach": foreach,
    "condition": condition,
    "closing": closing,
    "retried": retried,
    "once": once,
}


def evaluate(
    definition: graph.Definition, body: bytes, functions: Functions = echo, *, may_fail: bool = False
) -> Expected:
    """What a request with `body` must come to, by recursion over the graph: no store, no queue, no steps."""
    walk = _Evaluation(functions)
    result = walk.dag(definition.root, (), body, ())
    calls = {identity: tuple(bodies) for identity, bodies in walk.calls.items()}
    return Expected(
        result=result, calls=calls, results=walk.results, needs=walk.needs, once=frozenset(walk.once), may_fail=may_fail
    )


@dataclass
class _Evaluation:
    functions: Functions
    calls: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    once: set[str] = field(default_factory=set)

    def dag(self, dag: graph.Dag, frames: tuple[Frame, ...], data: bytes, needs: tuple[str, ...]) -> bytes:
        found: dict[str, bytes] = {}

        def result(id: str) -> bytes:
            if id not in found:
                edges = dag.predecessors[id]
                inputs = dict(_forwarded(edge, result(edge.source)) for edge in edges if edge.forward)
                for edge in edges:
                    result(edge.source)
                before = tuple(_end(dag, frames, edge.source) for edge in edges) or needs
                value = self._joined(dag.nodes[id], inputs) if edges else data
                found[id] = self._node(dag.nodes[id], Position(frames, id), value, before)
            return found[id]

        return result(dag.end)

    def _joined(self, node: graph.Node, inputs: dict[str, bytes]) -> bytes:
        aggregator = node.aggregator or (results_by_id if node.is_virtual else None)
        return _aggregated(aggregator, inputs) if aggregator else next(iter(inputs.values()), b"")

    def _node(self, node: graph.Node, position: Position, data: bytes, needs: tuple[str, ...]) -> bytes:
        match node.body:
            case graph.SubDag(dag):
                return self.dag(dag, (*position.frames, Frame(node.id, FrameKind.SUB_DAG)), data, needs)
            case graph.Foreach() | graph.Condition():
                return self._dynamic(node, node.body, position, data, needs)
        step = Step(position, Phase.NODE).key
        self.needs[step] = needs
        if node.at_most_once:
            self.once.add(step)
        for operation in node.operations:
            data = self._operation(operation, step, data)
        self.results[step] = sha(data)
        return data

    def _operation(self, operation: graph.Operation, step: str, data: bytes) -> bytes:
        if operation.kind is OperationKind.MODIFIER:
            assert operation.code is not None
            return _called(operation.code, data)
        self.calls.setdefault((step, operation.name), []).append(sha(data))
        return self.functions(operation.name, data)

    def _dynamic(
        self,
        node: graph.Node,
        body: graph.Foreach | graph.Condition,
        position: Position,
        data: bytes,
        needs: tuple[str, ...],
    ) -> bytes:
        split, join = Step(position, Phase.SPLIT).key, Step(position, Phase.JOIN).key
        self.needs[split] = needs
        results, ends = {}, []
        for option, value in _branches(node, body, data):
            kind = FrameKind.FOREACH if isinstance(body, graph.Foreach) else FrameKind.CONDITION
            inner, frames = node.branch_dag(option), (*position.frames, Frame(node.id, kind, option))
            results[option] = self.dag(inner, frames, value, (split,))
            ends.append(_end(inner, frames, inner.end))
        self.needs[join] = (split, *ends)
        result = _aggregated(body.aggregator, results) if body.aggregator and body.forward else b""
        self.results[join] = sha(result)
        return result


def _branches(node: graph.Node, body: graph.Foreach | graph.Condition, data: bytes) -> Iterator[tuple[str, bytes]]:
    if isinstance(body, graph.Foreach):
        yield from foreach_values(node, body, data).items()
    else:
        yield from ((option, data) for option in condition_options(node, body, data))


def _forwarded(edge: graph.Edge, value: bytes) -> tuple[str, bytes]:
    return edge.source, _called(edge.forwarder, value) if edge.forwarder else value


def _called(code: graph.Callback, data: bytes) -> bytes:
    return encode(code(decode(data, parameter_type(code), "the code")), "the code")


def _aggregated(aggregator: graph.Callback, inputs: dict[str, bytes]) -> bytes:
    return encode(aggregator(decode_each(inputs, parameter_type(aggregator), "the aggregator")), "the aggregator")


def _end(dag: graph.Dag, frames: tuple[Frame, ...], id: str) -> str:
    """Where the result of a node is recorded: that of a sub-DAG is the result of its end."""
    node = dag.nodes[id]
    while isinstance(node.body, graph.SubDag):
        frames, dag = (*frames, Frame(node.id, FrameKind.SUB_DAG)), node.body.dag
        node = dag.nodes[dag.end]
    return f"node/{Position(frames, node.id).path}"
