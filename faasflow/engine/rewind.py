"""Which records a node's outcome led to: what has to go for a request to go on from a node that has one. No I/O but
what `options` does."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from faasflow import graph
from faasflow.engine import joins, plan
from faasflow.engine.position import Frame, FrameKind, Phase, Position, Step
from faasflow.naming import escape

_FAMILIES: tuple[str, ...] = ("attempt/node/", "attempt/branches/", "lease/node/", "lease/branches/", "start/node/")
_FAMILIES += ("override/node/", "override/branches/", "parked/node/", "parked/branches/", "node/", "branches/")


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch of a foreach: the key of its result, the keys by which it arrived at the join, and by key its recorded
    nodes whose failure would be that of the branch."""

    frame: Frame
    end: str
    arrivals: frozenset[str]
    nodes: Mapping[str, Position]


def keys_behind(
    definition: graph.Definition, path: str, keys: Iterable[str], options: Callable[[Step], Sequence[str]]
) -> set[str]:
    """The keys that hang on the outcome of the node at `path`, and its own; none if the flow has no such node."""
    position = position_of(definition, path, options)
    if position is None:
        return set()
    whole, joined = _behind(definition, position)
    found = {key for key in keys if any(_belongs(key, one) for one in whole)}
    found |= {key for key in keys if any(_is_join_of(key, one) for one in joined)}
    for one in [*whole, *joined]:
        found |= _arrivals(definition, one)
    return found & set(keys)


def branches(
    definition: graph.Definition, position: Position, keys: Container[str], options: Callable[[Step], Sequence[str]]
) -> Iterator[Branch]:
    """The branches that the foreach at `position` has opened."""
    node = node_of(definition, position)
    assert isinstance(node.body, graph.Foreach)
    dag = node.body.dag
    for frame in plan.branch_frames(node, options(Step(position, Phase.SPLIT))):
        end = position.inside(frame, dag.end)
        nodes = {f"node/{one.path}": one for one in _own_nodes(dag, (*position.frames, frame), keys, options)}
        yield Branch(frame, plan.key_of_result(dag, end), frozenset(_arrivals(definition, end)), nodes)


def node_of(definition: graph.Definition, position: Position) -> graph.Node:
    """The node at a position."""
    return plan.dag_at(definition, position).nodes[position.node]


def _own_nodes(
    dag: graph.Dag, frames: tuple[Frame, ...], keys: Container[str], options: Callable[[Step], Sequence[str]]
) -> Iterator[Position]:
    """The recorded nodes of a DAG and of those in it, but for the branches that have a tolerance of their own."""
    for node in dag.nodes.values():
        position = Position(frames, node.id)
        if isinstance(node.body, graph.SubDag):
            yield from _own_nodes(node.body.dag, (*frames, Frame(node.id, FrameKind.SUB_DAG)), keys, options)
            continue
        if f"node/{position.path}" in keys:
            yield position
        opened = Step(position, Phase.SPLIT)
        if not node.is_dynamic or opened.key not in keys:
            continue
        if isinstance(node.body, graph.Foreach) and node.body.tolerated is not None:
            continue
        for frame in plan.branch_frames(node, options(opened)):
            yield from _own_nodes(node.branch_dag(frame.option), (*frames, frame), keys, options)


def position_of(definition: graph.Definition, path: str, options: Callable[[Step], Sequence[str]]) -> Position | None:
    """The position whose path is `path`; `options` gives the branches that a SPLIT opened."""
    base, _, chosen = path.partition("@")
    left = chosen.split("/") if chosen else []
    *outer, last = base.split("/")
    dag = definition.root
    frames: tuple[Frame, ...] = ()
    for segment in outer:
        name, _, option = segment.partition("=")
        node = _named(dag, name)
        frame = _frame(node, Position(frames, node.id), option, left, options) if node is not None else None
        if node is None or frame is None:
            return None
        frames, dag = (*frames, frame), _inside(node, frame)
    node = _named(dag, last)
    return Position(frames, node.id) if node is not None else None


def _named(dag: graph.Dag, segment: str) -> graph.Node | None:
    return next((node for node in dag.nodes.values() if escape(node.id) == segment), None)


def _frame(
    node: graph.Node, position: Position, option: str, left: list[str], options: Callable[[Step], Sequence[str]]
) -> Frame | None:
    """The frame that a path goes into at `position`."""
    if isinstance(node.body, graph.SubDag):
        return Frame(node.id, FrameKind.SUB_DAG)
    if not node.is_dynamic:
        return None
    wanted = left.pop(0) if isinstance(node.body, graph.Foreach) and left else option
    frames = plan.branch_frames(node, options(Step(position, Phase.SPLIT)))
    return next((frame for frame in frames if escape(frame.option) == wanted), None)


def _inside(node: graph.Node, frame: Frame) -> graph.Dag:
    return node.body.dag if isinstance(node.body, graph.SubDag) else node.branch_dag(frame.option)


def _behind(definition: graph.Definition, position: Position) -> tuple[list[Position], list[Position]]:
    """The nodes that run again as a whole, and the dynamic ones around them, whose branches are only joined again."""
    whole, joined = [position, *_successors(definition, position)], []
    while position.frames:
        frame, position = position.frames[-1], position.parent
        if frame.kind is not FrameKind.SUB_DAG:
            joined.append(position)
        whole += _successors(definition, position)
    return whole, joined


def _successors(definition: graph.Definition, position: Position) -> Iterator[Position]:
    dag = plan.dag_at(definition, position)
    seen, waiting = {position.node}, [position.node]
    while waiting:
        for edge in dag.successors[waiting.pop()]:
            if edge.target not in seen:
                seen.add(edge.target)
                waiting.append(edge.target)
                yield Position(position.frames, edge.target)


def _belongs(key: str, position: Position) -> bool:
    """Whether a key is that of a node, or of something inside it. The arrivals at a node are those before it."""
    if key.startswith("arrived/"):
        path, _, place = key.removeprefix("arrived/").partition("#")
        inner = path.removesuffix(":branches")
        return bool(place) and _lies_in(inner, position.path) and (path != inner or inner != position.path)
    family = next((family for family in _FAMILIES if key.startswith(family)), None)
    return family is not None and _lies_in(_path(key, family), position.path)


def _is_join_of(key: str, position: Position) -> bool:
    families = ("attempt/node/", "lease/node/", "node/")
    family = next((family for family in families if key.startswith(family)), None)
    return family is not None and _path(key, family) == position.path


def _path(key: str, family: str) -> str:
    path = key.removeprefix(family)
    if family.startswith("attempt/"):
        path = path.rpartition("/")[0]
    return path.partition("#")[0]


def _lies_in(path: str, around: str) -> bool:
    base, _, options = path.partition("@")
    outer, _, outer_options = around.partition("@")
    is_inside = base == outer or base.startswith((f"{outer}/", f"{outer}="))
    return is_inside and f"{options}/".startswith(f"{outer_options}/" if outer_options else "")


def _arrivals(definition: graph.Definition, position: Position) -> set[str]:
    """The keys by which the node at `position` arrived at joins, and those of the groups that it completed."""
    keys = set()
    for target in plan.after(definition, Step(position, Phase.NODE)).targets:
        if target.arrival is not None:
            level, place = 0, joins.place(target)
            keys.add(place.key)
            while not place.is_top:
                level += 1
                place = joins.place(target, level)
                keys.add(place.key)
    return keys
