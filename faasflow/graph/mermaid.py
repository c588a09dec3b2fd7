"""A flow as a Mermaid flowchart, the way README files on code hosts show it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from faasflow.graph.drawing import Arrow, Box, Look, Shape, draw, printable
from faasflow.graph.model import Definition

_INDENT = "    "
_FRAMES = {
    Look.WORK: ('("', '")'),
    Look.BRANCH: ('{"', '"}'),
    Look.JOIN: ('[\\"', '"/]'),
    Look.LAST: ('(["', '"])'),
}
_STYLES = {
    Look.WORK: "fill:#dcedf8,stroke:#3d8fbf,color:#12303f",
    Look.BRANCH: "fill:#f9af4d,stroke:#b87314,color:#3d2600",
    Look.JOIN: "fill:#f7cfdc,stroke:#c05f80,color:#451426",
    Look.LAST: "fill:#e9ecef,stroke:#868e96,color:#212529",
}
_BOX_STYLE = "fill:#8080801a,stroke:#909090,stroke-dasharray:4 3"
# Markup, entities and statements mean something inside labels too. These characters cannot begin any of them; the two
# that are left out beyond ASCII are what Mermaid itself writes entities with.
_PLAIN = re.compile(r"[a-zA-Z0-9 ()]|[^\x00-\x7f\ufb02\xb6]|(?<=[a-zA-Z0-9])[-_.,/](?=[a-zA-Z0-9])")


def to_mermaid(definition: Definition) -> str:
    """A `flowchart`: a rectangle for a node with its operations, a diamond where branches open and a trapezium where
    they are joined, a frame around each branch and sub-DAG, a dotted arrow where only the order counts."""
    drawing = draw(definition)
    lines = ["flowchart TD", *_Writer().content(drawing, _INDENT), *_classes(drawing)]
    return "\n".join(lines) + "\n"


class _Writer:
    """Writes boxes. An arrow from a diamond to a frame would hang in the air, so arrows go into the frames of branches;
    `_ends` has the first and the last item of each."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[str, str]] = {}

    def content(self, box: Box, indent: str) -> Iterator[str]:
        for item in box.items:
            if isinstance(item, Shape):
                yield indent + _shape(item)
            else:
                yield from self._frame(item, indent)
        for arrow in box.arrows:
            yield indent + self._arrow(arrow)

    def _frame(self, box: Box, indent: str) -> Iterator[str]:
        yield f'{indent}subgraph {box.name}["{_text("" if box.is_branch else box.title)}"]'
        yield f"{indent}{_INDENT}direction TB"
        yield from self.content(box, indent + _INDENT)
        yield f"{indent}end"
        if box.is_branch:
            self._ends[box.name] = box.first, box.last

    def _arrow(self, arrow: Arrow) -> str:
        source = self._ends.get(arrow.source, (arrow.source, arrow.source))[1]
        target = self._ends.get(arrow.target, (arrow.target, arrow.target))[0]
        line = "-.->" if arrow.is_dotted else "-->"
        label = f'|"{_text(arrow.label)}"|' if arrow.label else ""
        return f"{source} {line}{label} {target}"


def _shape(shape: Shape) -> str:
    opening, closing = _FRAMES[shape.look]
    title = _text(shape.title) if shape.look is Look.JOIN else f"<b>{_text(shape.title)}</b>"
    label = "<br/>".join([title, *map(_text, shape.lines)])
    return f"{shape.name}{opening}{label}{closing}:::{shape.look.value}"


def _classes(drawing: Box) -> Iterator[str]:
    looks = {item.look for item in _items(drawing) if isinstance(item, Shape)}
    for look, style in _STYLES.items():
        if look in looks:
            yield f"{_INDENT}classDef {look.value} {style}"
    boxes = [item.name for item in _items(drawing) if isinstance(item, Box)]
    if boxes:
        yield f"{_INDENT}classDef box {_BOX_STYLE}"
        yield f"{_INDENT}class {','.join(boxes)} box"


def _items(box: Box) -> Iterator[Shape | Box]:
    for item in box.items:
        yield item
        if isinstance(item, Box):
            yield from _items(item)


def _text(text: str) -> str:
    """`text` in a quoted label, where it cannot end the label or be read as markup."""
    shown = re.sub(r"\$(?=\$)", "$\u200b", printable(text))  # two of them begin a formula
    plain = {match.start() for match in _PLAIN.finditer(shown)}
    return "".join(char if place in plain else f"#{ord(char)};" for place, char in enumerate(shown)) or " "
