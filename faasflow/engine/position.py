"""Where in a flow an execution is: a node, and the sub-DAGs and branch options around it.

A position has one text, its path, which names it in store keys, records, logs and errors. Node ids are separated by
`/`; a condition's option follows its node as `=option`; the options of foreach branches stand behind an `@`,
outermost first: `decide=big/each/resize@photo1` is node `resize` in branch `photo1` of foreach `each` in branch
`big` of condition `decide`. All executions of one node inside a foreach therefore share a prefix, and can be read
together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from faasflow.errors import MessageError
from faasflow.naming import escape, readable_path


class FrameKind(StrEnum):
    """What a frame of a position goes into."""

    SUB_DAG = "sub"
    FOREACH = "each"
    CONDITION = "case"


@dataclass(frozen=True, slots=True)
class Frame:
    """One level of nesting. `index` is the place of `option` among the `of` options that were chosen."""

    node: str
    kind: FrameKind
    option: str = ""
    index: int = field(default=0, compare=False)
    of: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Position:
    """A node and the frames around it, outermost first."""

    frames: tuple[Frame, ...]
    node: str

    @property
    def path(self) -> str:
        """The text of this position; two positions of one request have the same only if they are equal."""
        options = [escape(frame.option) for frame in self.frames if frame.kind is FrameKind.FOREACH]
        path = "/".join([*map(_segment, self.frames), escape(self.node)])
        return path + "@" + "/".join(options) if options else path

    def inside(self, frame: Frame, node: str) -> Position:
        """`node` in the DAG that `frame` goes into at this position."""
        return Position((*self.frames, frame), node)

    @property
    def parent(self) -> Position:
        """The position of the node whose DAG this one is in. The root's nodes have none."""
        return Position(self.frames[:-1], self.frames[-1].node)


class Phase(StrEnum):
    """What is to be done at a position: run a plain node, open the branches of a dynamic one, or join them."""

    NODE = "node"
    SPLIT = "split"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of work: one delivery does one step and records it under `key`."""

    position: Position
    phase: Phase

    @property
    def key(self) -> str:
        """The key of this step's record."""
        family = "branches" if self.phase is Phase.SPLIT else "node"
        return f"{family}/{self.position.path}"

    @property
    def arrivals(self) -> str:
        """The prefix of the keys of those that arrived at this step, where it is a join."""
        return f"arrived/{self.position.path}{':branches' if self.phase is Phase.JOIN else ''}#"

    @property
    def outcome(self) -> str:
        """The key under which a failure of this step is recorded."""
        return f"node/{self.position.path}"

    @property
    def attempts(self) -> str:
        """The prefix of the keys of the attempts that failed and were followed by another."""
        return f"attempt/{self.key}/"

    @property
    def lease(self) -> str:
        """The key under which whoever works on this step says so."""
        return f"lease/{self.key}"

    @property
    def start(self) -> str:
        """The key under which the only start of a step is recorded that may run at most once."""
        return f"start/{self.key}"

    @property
    def override(self) -> str:
        """The key of the input that the step was given when it was retried."""
        return f"override/{self.key}"

    def __str__(self) -> str:
        return self.position.path if self.phase is Phase.NODE else f"{self.position.path} ({self.phase})"


def recorded_path(text: str, keys: Iterable[str]) -> str:
    """The path that `text` names among the keys of outcomes: itself, or else the only one that reads like it."""
    outcomes = [key.partition("/") for key in keys if "#" not in key]
    paths = {path for family, _, path in outcomes if family in ("node", "branches")}
    alike = [path for path in paths if readable_path(path) == text]
    return alike[0] if text not in paths and len(alike) == 1 else text


def _segment(frame: Frame) -> str:
    if frame.kind is FrameKind.CONDITION:
        return f"{escape(frame.node)}={escape(frame.option)}"
    return escape(frame.node)


class StepData(msgspec.Struct, frozen=True, array_like=True):
    """A step as it travels in a message."""

    phase: Phase
    node: str
    frames: tuple[tuple[str, FrameKind, str, int, int], ...] = ()


def dump_step(step: Step) -> StepData:
    """`step` as data for JSON."""
    frames = tuple((f.node, f.kind, f.option, f.index, f.of) for f in step.position.frames)
    return StepData(step.phase, step.position.node, frames)


def load_step(data: StepData) -> Step:
    """The step behind `data`; `MessageError` if its numbers cannot be."""
    if any(not 0 <= index < of for _, _, _, index, of in data.frames):
        raise MessageError("The message names a branch that cannot be.")
    return Step(Position(tuple(Frame(*frame) for frame in data.frames), data.node), data.phase)
