"""What a flow looks like before it is written as Mermaid or DOT: shapes, boxes around them, and arrows between both.

A node is one shape. A dynamic node is two, where it opens its branches and where it joins them, with a box for each
branch in between. A sub-DAG is a box. Arrows lead to boxes as they lead to shapes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import Enum

from faasflow.graph.model import (
    Callback,
    Condition,
    Dag,
    Definition,
    Foreach,
    Node,
    Operation,
    OperationKind,
    SubDag,
    inner_dags,
)


class Look(Enum):
    """What a shape stands for."""

    WORK = "work"
    BRANCH = "branch"
    JOIN = "join"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Shape:
    """One drawn figure: a title, and a line for each thing that happens there. `name` is unique in its drawing."""

    name: str
    look: Look
    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one shape or box to another, by name; a dotted one keeps the order and carries no data."""

    source: str
    target: str
    label: str = ""
    is_dotted: bool = False


@dataclass(slots=True)
class Box:
    """Shapes and boxes in order, and the arrows between them. `first` and `last` name the ones that the DAG inside
    begins and ends with. The outermost box has no name and no title."""

    name: str = ""
    title: str = ""
    is_branch: bool = False
    items: list[Shape | Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    first: str = ""
    last: str = ""


def draw(definition: Definition) -> Box:
    """The drawing of a flow; the same for the same flow."""
    return _Artist().dag(definition.root, Box())


def operation_label(operation: Operation) -> str:
    """How an operation is shown: code as a call, anything else by its name."""
    if operation.kind is OperationKind.MODIFIER and operation.code is not None:
        return _code_label(operation.code) or operation.name
    return operation_name(operation)


def operation_name(operation: Operation) -> str:
    """An operation's name; that of a request is its URL without query and credentials, which are nobody's business."""
    return _address(operation.name) if operation.kind is OperationKind.REQUEST else operation.name


class _Artist:
    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._box_numbers = itertools.count(1)

    def dag(self, dag: Dag, box: Box) -> Box:
        parts = {node.id: self._node(node, box) for node in dag.nodes.values()}
        for edge in dag.edges():
            source, target = parts[edge.source][1], parts[edge.target][0]
            box.arrows.append(Arrow(source, target, is_dotted=not edge.forward))
        box.first, box.last = parts[dag.start][0], parts[dag.end][1]
        return box

    def _node(self, node: Node, box: Box) -> tuple[str, str]:
        """Draw `node` into `box`, and name what arrows to it lead to and what arrows from it leave."""
        if isinstance(node.body, Foreach | Condition):
            return self._dynamic(node, node.body, box)
        if isinstance(node.body, SubDag):
            item: Shape | Box = self._box(node.body.dag, node.id)
        else:
            item = self._shape(Look.LAST if node.is_virtual else Look.WORK, node.id, *_lines(node))
        box.items.append(item)
        return item.name, item.name

    def _dynamic(self, node: Node, body: Foreach | Condition, box: Box) -> tuple[str, str]:
        code = body.split if isinstance(body, Foreach) else body.choose
        opened = self._shape(Look.BRANCH, node.id, *filter(None, [_code_label(code)]))
        branches = [self._box(dag, _branch_title(node, option), is_branch=True) for option, dag in inner_dags(node)]
        joined = self._shape(Look.JOIN, _code_label(body.aggregator) or "join")
        for branch, (option, _) in zip(branches, inner_dags(node), strict=True):
            box.arrows.append(Arrow(opened.name, branch.name, _branch_label(node, option)))
            box.arrows.append(Arrow(branch.name, joined.name, is_dotted=not body.forward))
        box.items += [opened, *branches, joined]
        return opened.name, joined.name

    def _box(self, dag: Dag, title: str, *, is_branch: bool = False) -> Box:
        return self.dag(dag, Box(f"b{next(self._box_numbers)}", title, is_branch))

    def _shape(self, look: Look, title: str, *lines: str) -> Shape:
        return Shape(f"s{next(self._numbers)}", look, title, lines)


def _lines(node: Node) -> list[str]:
    lines = [operation_label(operation) for operation in node.operations]
    return lines if lines or node.is_virtual else [_code_label(node.aggregator) or "join"]


def _branch_title(node: Node, option: str) -> str:
    return f"{node.id}: each item" if isinstance(node.body, Foreach) else f"{node.id} = {option}"


def _branch_label(node: Node, option: str) -> str:
    if not isinstance(node.body, Foreach):
        return option
    return f"each, {node.body.max_parallel} at a time" if node.body.max_parallel else "each"


def _code_label(code: Callback | None) -> str:
    name = getattr(code, "__name__", type(code).__name__)
    return "" if code is None or name == "<lambda>" else f"{name}()"


def _address(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def printable(text: str) -> str:
    """`text` with its control characters, and what UTF-8 cannot hold, as something that can be seen."""
    return "".join(char if char.isprintable() else _visible(char) for char in text)


def _visible(char: str) -> str:
    return chr(0x2400 + ord(char)) if char < " " else char.encode("unicode_escape").decode()
