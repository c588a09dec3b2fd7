"""What a request waits for: the steps that could run by what is recorded, and have no outcome.

Any of them may be on its way, under way, or lost, and nobody can tell which. So a step is forwarded again when it has
been ready without a lease for longer than messages wait in the queue, then after twice that time, and so on: what is
lost comes again soon, and what only waits is doubled a few times at most. Pure functions, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

from faasflow import graph
from faasflow.engine import plan
from faasflow.engine.position import Frame, FrameKind, Phase, Position, Step

_SAMPLE = 64


@dataclass(frozen=True, slots=True)
class Ready:
    """A step that could run, and the keys of the records that made it ready: all of them, or of many the last few. A
    first step of a request has none."""

    step: Step
    since: tuple[str, ...] = ()


Options = Callable[[Step], Sequence[str]]
"""Gives the branches that a recorded SPLIT opened."""


def ready(definition: graph.Definition, recorded: Container[str], options: Options) -> Iterator[Ready]:
    """Every step that could run and is not among the `recorded` keys."""
    return _Walk(definition, recorded, options).inside(definition.root, (), ())


def is_due(since: float, last: float, now: float, delay: float) -> bool:
    """Whether one of the times to forward again (`delay`, 3, 7, 15 … times that after `since`) lies between the
    `last` look and `now`."""
    number = round_of(now - since, delay)
    return number > 0 and since + delay * (2**number - 1) > last


def next_due(since: float, now: float, delay: float) -> float:
    """The next of these times."""
    return since + delay * float(2 ** (round_of(now - since, delay) + 1) - 1)


def round_of(elapsed: float, delay: float) -> int:
    """How many of these times have passed."""
    if elapsed < delay:
        return 0
    return int(math.log2(elapsed / delay + 1) + 1e-9)


@dataclass(frozen=True, slots=True)
class _Walk:
    definition: graph.Definition
    recorded: Container[str]
    options: Options

    def inside(self, dag: graph.Dag, frames: tuple[Frame, ...], since: tuple[str, ...]) -> Iterator[Ready]:
        """What is ready in a DAG whose start is."""
        keys = {id: plan.key_of_result(dag, Position(frames, id)) for id in dag.nodes}
        for node in dag.nodes.values():
            before = tuple(keys[edge.source] for edge in dag.predecessors[node.id])
            if keys[node.id] not in self.recorded and all(key in self.recorded for key in before):
                yield from self._at(node, Position(frames, node.id), before or since)

    def _at(self, node: graph.Node, position: Position, since: tuple[str, ...]) -> Iterator[Ready]:
        if isinstance(node.body, graph.SubDag):
            yield from self.inside(node.body.dag, (*position.frames, Frame(node.id, FrameKind.SUB_DAG)), since)
        elif not node.is_dynamic:
            yield Ready(Step(position, Phase.NODE), since)
        elif (split := Step(position, Phase.SPLIT)).key not in self.recorded:
            yield Ready(split, since)
        else:
            yield from self._branches(node, split)

    def _branches(self, node: graph.Node, split: Step) -> Iterator[Ready]:
        frames = plan.branch_frames(node, self.options(split))
        dags = [node.branch_dag(frame.option) for frame in frames]
        ends = [
            plan.key_of_result(dag, split.position.inside(frame, dag.end))
            for frame, dag in zip(frames, dags, strict=True)
        ]
        if all(end in self.recorded for end in ends):
            yield Ready(Step(split.position, Phase.JOIN), (split.key, *ends[-_SAMPLE:]))
            return
        width = plan.start_width(self.definition, split, len(frames))
        for index, (frame, dag, end) in enumerate(zip(frames, dags, ends, strict=True)):
            awaited = ends[index - width] if index >= width else split.key
            if end not in self.recorded and awaited in self.recorded:
                yield from self.inside(dag, (*split.position.frames, frame), (awaited,))
