"""Random flows as plain data, and two ways to run them: through the DSL and engine, and by plain recursion."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hypothesis import strategies as st

from faasflow import Dag

Run = tuple[str, bytes, tuple[tuple[str, bytes], ...]]
"""One execution of a modifier: the node's unique name, its input, and the inputs of the node by predecessor."""


@dataclass(frozen=True)
class NodeSpec:
    """A node: `kind` is plain, sub, foreach or condition; `inner` its DAGs; `edges` those from earlier nodes, as
    (index, forward, has a forwarder)."""

    uid: str
    kind: str
    inner: tuple[DagSpec, ...] = ()
    edges: tuple[tuple[int, bool, bool], ...] = ()
    forward: bool = True
    width: int = 1
    max_parallel: int | None = None


@dataclass(frozen=True)
class DagSpec:
    nodes: tuple[NodeSpec, ...]


def digest(*parts: bytes) -> bytes:
    """A short text that depends on all parts and their order. It is no JSON: digits alone would be read as a number,
    which says nothing about how the number is written again."""
    joined = b"\0".join(part.replace(b"\\", b"\\\\").replace(b"\0", b"\\0") for part in parts)
    return b"v" + hashlib.sha256(joined).hexdigest()[:12].encode()


def aggregate(uid: str, inputs: dict[str, bytes]) -> bytes:
    return digest(
        b"aggregate", uid.encode(), *(part for key, value in inputs.items() for part in (key.encode(), value))
    )


def forwarder(data: bytes) -> bytes:
    return digest(b"forwarder", data)


def values_of(node: NodeSpec, data: bytes) -> dict[str, bytes]:
    """The branches of a foreach; how many depends on its input."""
    count = (node.width + data[-1] if data else node.width) % 4
    return {f"{node.uid}/k {index}": digest(b"value", data, str(index).encode()) for index in range(count)}


def choices_of(node: NodeSpec, data: bytes) -> list[str]:
    """The keys a condition chooses, some of them twice."""
    bits = node.width + (data[-1] if data else 0)
    chosen = [f"c{index}" for index in range(len(node.inner)) if bits >> index & 1]
    return chosen + chosen[:1]


@st.composite
def dag_specs(draw: st.DrawFn, depth: int = 2, prefix: str = "n") -> DagSpec:
    """DAGs of one to five nodes with one start, nested up to `depth` levels."""
    nodes = []
    for index in range(draw(st.integers(1, 5 if depth == 2 else 3))):
        kinds = ["plain", "plain", "sub", "foreach", "condition"] if depth else ["plain"]
        kind = draw(st.sampled_from(kinds))
        uid = f"{prefix}{index}"
        count = {"plain": 0, "sub": 1, "foreach": 1}.get(kind) if kind != "condition" else draw(st.integers(1, 3))
        inner = tuple(draw(dag_specs(depth=depth - 1, prefix=f"{uid}.{number}.")) for number in range(count or 0))
        nodes.append(
            NodeSpec(
                uid,
                kind,
                inner,
                tuple(draw(edges_from(index))),
                forward=draw(st.sampled_from([True, True, True, False])),
                width=draw(st.integers(0, 7)),
                max_parallel=draw(st.sampled_from([None, None, 1, 2])),
            )
        )
    return DagSpec(tuple(nodes))


def edges_from(index: int) -> st.SearchStrategy[list[tuple[int, bool, bool]]]:
    """One edge or more from earlier nodes, so that only the first node is a start."""
    if index == 0:
        return st.just([])
    edge = st.tuples(st.integers(0, index - 1), st.sampled_from([True, True, False]), st.booleans())
    return st.lists(edge, min_size=1, max_size=3, unique_by=lambda edge: edge[0])


@dataclass
class Written:
    """A flow written with the DSL from a spec; `runs` counts what its modifiers did."""

    spec: DagSpec
    runs: Counter[Run] = field(default_factory=Counter)

    def define(self, flow, context) -> None:
        self._fill(flow.dag(), self.spec, context)

    def _fill(self, dag: Dag, spec: DagSpec, context) -> None:
        for node in spec.nodes:
            # The aggregator of what comes in; dynamic nodes have another for what their branches give.
            dag.node(node.uid, aggregator=self._joiner(node.uid))
            getattr(self, f"_{node.kind}")(dag, node, context)
        for node in spec.nodes:
            for index, forward, changed in node.edges:
                options = {"forwarder": forwarder} if changed and forward else {}
                dag.edge(spec.nodes[index].uid, node.uid, forward=forward, **options)

    def _joiner(self, uid: str) -> Callable[[dict[str, bytes]], bytes]:
        return lambda inputs: aggregate(uid, inputs)

    def _plain(self, dag: Dag, node: NodeSpec, context) -> None:
        def work(data: bytes) -> bytes:
            self.runs[node.uid, data, tuple(context.node_input.items())] += 1
            return digest(node.uid.encode(), data)

        dag.node(node.uid).modify(work)

    def _sub(self, dag: Dag, node: NodeSpec, context) -> None:
        inner = Dag()
        self._fill(inner, node.inner[0], context)
        dag.sub_dag(node.uid, inner)

    def _foreach(self, dag: Dag, node: NodeSpec, context) -> None:
        branch = dag.foreach_branch(
            node.uid,
            lambda data: values_of(node, data),
            aggregator=self._joiner(node.uid + " branches"),
            forward=node.forward,
            max_parallel=node.max_parallel,
        )
        self._fill(branch, node.inner[0], context)

    def _condition(self, dag: Dag, node: NodeSpec, context) -> None:
        keys = [f"c{index}" for index in range(len(node.inner))]
        dags = dag.conditional_branch(
            node.uid,
            keys,
            lambda data: choices_of(node, data),
            aggregator=self._joiner(node.uid + " branches"),
            forward=node.forward,
        )
        for key, inner in zip(keys, node.inner, strict=True):
            self._fill(dags[key], inner, context)


@dataclass
class Evaluated:
    """The same flow, evaluated by recursion over the spec: `runs` as the engine's must be."""

    spec: DagSpec
    runs: Counter[Run] = field(default_factory=Counter)

    def result(self, data: bytes) -> bytes:
        return self._dag(self.spec, data, ())

    def _dag(self, spec: DagSpec, data: bytes, node_input: tuple[tuple[str, bytes], ...]) -> bytes:
        results: dict[str, bytes] = {}
        for node in spec.nodes:
            if node.edges:
                inputs = dict(self._inputs(spec, node, results))
                joined, seen = aggregate(node.uid, inputs), tuple(inputs.items())
            else:
                joined, seen = data, node_input
            results[node.uid] = self._node(node, joined, seen)
        ends = [node.uid for index, node in enumerate(spec.nodes) if not _has_successor(spec, index)]
        if len(ends) == 1:
            return results[ends[0]]
        pairs = ",".join(f'"{uid}":{_as_json(results[uid])}' for uid in ends)
        return f"{{{pairs}}}".encode()

    def _inputs(self, spec: DagSpec, node: NodeSpec, results: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
        for index, forward, changed in node.edges:
            value = results[spec.nodes[index].uid]
            if forward:
                yield spec.nodes[index].uid, forwarder(value) if changed else value

    def _node(self, node: NodeSpec, data: bytes, node_input: tuple[tuple[str, bytes], ...]) -> bytes:
        if node.kind == "plain":
            self.runs[node.uid, data, node_input] += 1
            return digest(node.uid.encode(), data)
        if node.kind == "sub":
            return self._dag(node.inner[0], data, node_input)
        if node.kind == "foreach":
            branches = {key: self._dag(node.inner[0], value, ()) for key, value in values_of(node, data).items()}
        else:
            chosen = set(choices_of(node, data))
            keys = [f"c{index}" for index in range(len(node.inner)) if f"c{index}" in chosen]
            branches = {key: self._dag(node.inner[int(key[1:])], data, ()) for key in keys}
        return aggregate(node.uid + " branches", branches) if node.forward else b""


def _has_successor(spec: DagSpec, index: int) -> bool:
    return any(source == index for node in spec.nodes for source, _, _ in node.edges)


def _as_json(data: bytes) -> str:
    """A result as the JSON object of several ends shows it: an object where it is one, else a text."""
    text = data.decode()
    return text if text.startswith("{") else f'"{text}"'
