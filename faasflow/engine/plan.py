"""What follows from what: given a flow's graph and a position, which step comes next and where a step's input comes
from.

Pure functions, no I/O. The whole engine hangs on two of them. `inputs` names the records a step is computed from;
everything it names is recorded, so a step can be run again by anybody. `after` names the steps that follow a
recorded one; where a step follows several (a join), it says which arrival to record, and the set of recorded
arrivals decides who starts it.

A sub-DAG has no step of its own: to enter it is to enter its start node, and its result is that of its end node. A
dynamic node has two steps: SPLIT records which branches there are, JOIN aggregates their results and is what others
see as its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faasflow import graph
from faasflow.engine.position import Frame, FrameKind, Phase, Position, Step
from faasflow.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class RequestInput:
    """The step works on what the request was started with."""


@dataclass(frozen=True, slots=True)
class BranchInput:
    """The step is the first of a branch, and works on what the SPLIT at `split` recorded for it."""

    split: Step
    frame: Frame


@dataclass(frozen=True, slots=True)
class Predecessor:
    """One node before a step: its id, where its result is recorded, and the edge between."""

    id: str
    key: str
    edge: graph.Edge


@dataclass(frozen=True, slots=True)
class Predecessors:
    """The step works on the results of the nodes before it, combined by `aggregator` if there is one."""

    entries: tuple[Predecessor, ...]
    aggregator: graph.Callback | None

    @property
    def forwarding(self) -> tuple[Predecessor, ...]:
        return tuple(entry for entry in self.entries if entry.edge.forward)


@dataclass(frozen=True, slots=True)
class BranchResults:
    """The step is the JOIN of a dynamic node and works on the results of the branches that `split` recorded."""

    split: Step
    body: graph.Foreach | graph.Condition

    def key(self, definition: graph.Definition, frame: Frame) -> str:
        """Where the result of one branch is recorded."""
        inner = self.body.dag if isinstance(self.body, graph.Foreach) else self.body.dags[frame.option]
        return key_of_result(inner, self.split.position.inside(frame, inner.end))

    @property
    def prefix(self) -> str:
        """What the keys of all branch results of a foreach start with."""
        assert isinstance(self.body, graph.Foreach)
        any_branch = Frame(self.split.position.node, FrameKind.FOREACH)
        return _without_last_option(
            key_of_result(self.body.dag, self.split.position.inside(any_branch, self.body.dag.end))
        )


Inputs = RequestInput | BranchInput | Predecessors | BranchResults


@dataclass(frozen=True, slots=True)
class Arrival:
    """One of the `of` that a join waits for."""

    who: str
    index: int
    of: int


@dataclass(frozen=True, slots=True)
class Target:
    """A step that follows; with `arrival` it starts only when all have arrived."""

    step: Step
    arrival: Arrival | None = None


@dataclass(frozen=True, slots=True)
class Caught:
    """A failure that a foreach tolerates: the branch ends here, its result is recorded under `branch`, and `after` is
    what follows its end."""

    branch: str
    after: After


@dataclass(frozen=True, slots=True)
class After:
    """What follows a recorded result: steps, or, where there are none, the end of the request; nothing at all if what
    the result is for `is_over`.

    `next_branch` is the place of the branch that `max_parallel` held back for this one's end, at `split`.
    """

    targets: tuple[Target, ...] = ()
    split: Step | None = None
    next_branch: int | None = None
    is_over: bool = False

    @property
    def is_end(self) -> bool:
        return not self.targets and not self.is_over


def first_step(definition: graph.Definition) -> Step:
    """The step a request begins with."""
    return _enter(definition.root, Position((), definition.root.start))


def dag_at(definition: graph.Definition, position: Position) -> graph.Dag:
    """The DAG that `position` is in. `DefinitionError` if the flow has no such place (any more)."""
    dag = definition.root
    for frame in position.frames:
        node = dag.nodes.get(frame.node)
        match node.body if node else None, frame.kind:
            case graph.SubDag(dag=inner), FrameKind.SUB_DAG:
                dag = inner
            case graph.Foreach(dag=inner), FrameKind.FOREACH:
                dag = inner
            case graph.Condition(dags=dags), FrameKind.CONDITION if frame.option in dags:
                dag = dags[frame.option]
            case _:
                raise _gone(position)
    if position.node not in dag.nodes:
        raise _gone(position)
    return dag


def node_at(definition: graph.Definition, step: Step) -> graph.Node:
    """The node that `step` is about. `DefinitionError` if the flow has none there to which its phase applies."""
    node = dag_at(definition, step.position).nodes[step.position.node]
    if isinstance(node.body, graph.SubDag) or node.is_dynamic is (step.phase is Phase.NODE):
        raise _gone(step.position)
    return node


def inputs(definition: graph.Definition, step: Step) -> Inputs:
    """Where the input of `step` comes from."""
    node = node_at(definition, step)
    if step.phase is Phase.JOIN:
        assert isinstance(node.body, graph.Foreach | graph.Condition)
        return BranchResults(Step(step.position, Phase.SPLIT), node.body)
    position = step.position
    dag = dag_at(definition, position)
    while not dag.predecessors[position.node]:
        if not position.frames:
            return RequestInput()
        frame = position.frames[-1]
        if frame.kind is not FrameKind.SUB_DAG:
            return BranchInput(Step(position.parent, Phase.SPLIT), frame)
        position = position.parent
        dag = dag_at(definition, position)
    entries = tuple(
        Predecessor(edge.source, key_of_result(dag, Position(position.frames, edge.source)), edge)
        for edge in dag.predecessors[position.node]
    )
    return Predecessors(entries, _aggregator(dag.nodes[position.node]))


def after(definition: graph.Definition, step: Step) -> After:
    """What follows the recorded result of `step`, a NODE or a JOIN."""
    position = step.position
    while True:
        dag = dag_at(definition, position)
        edges = dag.successors[position.node]
        if edges:
            return After(tuple(_follow(dag, position, edge) for edge in edges))
        if not position.frames:
            return After()
        frame, position = position.frames[-1], position.parent
        if frame.kind is not FrameKind.SUB_DAG:
            return _end_of_branch(definition, position, frame)


def caught(definition: graph.Definition, step: Step) -> Caught | None:
    """What becomes of the failure of `step`, if a foreach around it tolerates failures: the innermost one that does."""
    position = step.position
    while position.frames:
        frame, position = position.frames[-1], position.parent
        body = dag_at(definition, position).nodes[position.node].body
        if isinstance(body, graph.Foreach) and body.tolerated is not None:
            branch = key_of_result(body.dag, position.inside(frame, body.dag.end))
            return Caught(branch, _end_of_branch(definition, position, frame))
    return None


def branch(definition: graph.Definition, split: Step, option: str, index: int, of: int) -> Step:
    """The first step of one branch."""
    node = node_at(definition, split)
    inner = node.branch_dag(option)
    return _enter(inner, split.position.inside(Frame(node.id, _kind_of(node), option, index, of), inner.start))


def branch_frames(node: graph.Node, options: Sequence[str]) -> list[Frame]:
    """The frames of the branches that a dynamic node opened."""
    kind = _kind_of(node)
    return [Frame(node.id, kind, option, index, len(options)) for index, option in enumerate(options)]


def start_width(definition: graph.Definition, split: Step, count: int) -> int:
    """How many of `count` branches begin at once."""
    body = node_at(definition, split).body
    if isinstance(body, graph.Foreach) and body.max_parallel:
        return min(body.max_parallel, count)
    return count


def result_key(definition: graph.Definition, position: Position, node_id: str) -> str | None:
    """Where the result of the nearest node named `node_id`, looking outward from `position`, is recorded."""
    while True:
        dag = dag_at(definition, position)
        if node_id in dag.nodes:
            return key_of_result(dag, Position(position.frames, node_id))
        if not position.frames:
            return None
        position = position.parent


def _kind_of(node: graph.Node) -> FrameKind:
    return FrameKind.FOREACH if isinstance(node.body, graph.Foreach) else FrameKind.CONDITION


def _enter(dag: graph.Dag, position: Position) -> Step:
    node = dag.nodes[position.node]
    while isinstance(node.body, graph.SubDag):
        inner = node.body.dag
        position = position.inside(Frame(node.id, FrameKind.SUB_DAG), inner.start)
        node = inner.nodes[inner.start]
    return Step(position, Phase.SPLIT if node.is_dynamic else Phase.NODE)


def key_of_result(dag: graph.Dag, position: Position) -> str:
    """Where the result of the node at `position`, which is in `dag`, is recorded; that of a sub-DAG is its end's."""
    node = dag.nodes[position.node]
    while isinstance(node.body, graph.SubDag):
        inner = node.body.dag
        position = position.inside(Frame(node.id, FrameKind.SUB_DAG), inner.end)
        node = inner.nodes[inner.end]
    return f"node/{position.path}"


def _aggregator(node: graph.Node) -> graph.Callback | None:
    if node.aggregator is None and node.is_virtual:
        return results_by_id
    return node.aggregator


def results_by_id(results: dict[str, bytes]) -> dict[str, object]:
    """The result of a DAG with several end nodes: a JSON object by node id."""
    from faasflow.codec import json_or_text

    return {id: json_or_text(data, id) for id, data in results.items()}


def _follow(dag: graph.Dag, position: Position, edge: graph.Edge) -> Target:
    step = _enter(dag, Position(position.frames, edge.target))
    waited_for = dag.predecessors[edge.target]
    if len(waited_for) == 1:
        return Target(step)
    return Target(step, Arrival(edge.source, waited_for.index(edge), len(waited_for)))


def _end_of_branch(definition: graph.Definition, dynamic: Position, frame: Frame) -> After:
    join = Step(dynamic, Phase.JOIN)
    arrival = Arrival(frame.option, frame.index, frame.of) if frame.of > 1 else None
    split = Step(dynamic, Phase.SPLIT)
    following = frame.index + start_width(definition, split, frame.of)
    return After((Target(join, arrival),), split, following if following < frame.of else None)


def _without_last_option(key: str) -> str:
    """The key of a position in a foreach, up to where its innermost option begins."""
    path, _, options = key.partition("@")
    outer = options.rpartition("/")[0]
    return f"{path}@{outer}/" if outer else f"{path}@"


def _gone(position: Position) -> DefinitionError:
    return DefinitionError(
        f"The flow has no node at {position.path!r}. "
        "It was changed after this request had started; start a new request."
    )
