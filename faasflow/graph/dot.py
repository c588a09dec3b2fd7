"""A flow as a Graphviz graph, in the colours of the original's dashboard."""

from __future__ import annotations

from collections.abc import Iterator

from faasflow.graph.drawing import Arrow, Box, Look, Shape, draw, printable
from faasflow.graph.model import Definition

_INDENT = "    "
_HEAD = [
    "digraph flow {",
    '    graph [fontname="Helvetica", fontsize=11, nodesep=0.4, ranksep=0.45, compound=true]',
    '    node [fontname="Helvetica", fontsize=10, shape=box, style=filled, fillcolor="#68b8e2"]',
    '    edge [fontname="Helvetica", fontsize=9, color="#555555"]',
]
_LOOKS = {
    Look.WORK: "",
    Look.BRANCH: ', shape=diamond, fillcolor="#f9af4d"',
    Look.JOIN: ', shape=invhouse, fillcolor="pink"',
    Look.LAST: ', shape=oval, fillcolor="#dddddd"',
}


def to_dot(definition: Definition) -> str:
    """A `digraph`: a cluster for each node with a rectangle for each operation, a diamond where branches open, a pink
    house where they are joined, a cluster around each branch and sub-DAG, a dotted edge where only the order counts."""
    return "\n".join([*_HEAD, *_Writer().content(draw(definition), _INDENT), "}"]) + "\n"


class _Writer:
    """Writes boxes. Graphviz draws edges between nodes only; `_ends` has the first and the last node of each cluster,
    and the edge is then cut at the border."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[str, str]] = {}

    def content(self, box: Box, indent: str) -> Iterator[str]:
        for item in box.items:
            if isinstance(item, Box):
                yield from _cluster(
                    item.name, item.title, "dashed,rounded", self.content(item, indent + _INDENT), indent
                )
                self._ends[item.name] = self._node(item.first, 0), self._node(item.last, 1)
            elif item.look is Look.WORK:
                names = [f"{item.name}_{number}" for number, _ in enumerate(item.lines, start=1)]
                yield from _cluster(item.name, item.title, "filled,rounded", _operations(item, names, indent), indent)
                self._ends[item.name] = names[0], names[-1]
            else:
                yield f"{indent}{item.name} [label={_quoted(item.title, *item.lines)}{_LOOKS[item.look]}]"
        for arrow in box.arrows:
            yield indent + self._edge(arrow)

    def _edge(self, arrow: Arrow) -> str:
        options = [f"label={_quoted(arrow.label)}"] if arrow.label else []
        options += ["style=dotted"] if arrow.is_dotted else []
        options += [f"ltail=cluster_{arrow.source}"] if arrow.source in self._ends else []
        options += [f"lhead=cluster_{arrow.target}"] if arrow.target in self._ends else []
        edge = f"{self._node(arrow.source, 1)} -> {self._node(arrow.target, 0)}"
        return f"{edge} [{', '.join(options)}]" if options else edge

    def _node(self, name: str, end: int) -> str:
        return self._ends[name][end] if name in self._ends else name


def _operations(shape: Shape, names: list[str], indent: str) -> Iterator[str]:
    for name, line in zip(names, shape.lines, strict=True):
        yield f"{indent}{_INDENT}{name} [label={_quoted(line)}]"
    if len(names) > 1:
        yield indent + _INDENT + " -> ".join(names)


def _cluster(name: str, title: str, style: str, content: Iterator[str], indent: str) -> Iterator[str]:
    yield f"{indent}subgraph cluster_{name} {{"
    yield f'{indent}{_INDENT}label={_quoted(title)}; style="{style}"; color="#999999"; fillcolor="#eeeeee"'
    yield from content
    yield indent + "}"


def _quoted(*lines: str) -> str:
    """A quoted label. A backslash would begin an escape there, an ampersand an entity."""
    return '"' + "\\n".join(map(_text, lines)) + '"'


def _text(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
