"""Reading back what the exports wrote, line by line, by grammars that allow nothing else."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field


@dataclass
class Picture:
    """What was drawn: labels and shapes by name, arrows as (source, target, label, is dotted), and for every name the
    frame that is around it."""

    labels: dict[str, list[str]] = field(default_factory=dict)
    shapes: dict[str, str] = field(default_factory=dict)
    arrows: list[tuple[str, str, str, bool]] = field(default_factory=list)
    frames: dict[str, str] = field(default_factory=dict)

    def named(self, *label: str) -> str:
        """The only thing with this label."""
        (name,) = [name for name, found in self.labels.items() if found == list(label)]
        return name

    def links(self) -> set[tuple[str, str]]:
        """Arrows by the first lines of the labels they connect."""
        return {(self.labels[source][0], self.labels[target][0]) for source, target, _, _ in self.arrows}


_TEXT = r'"((?:[^"#<>;&`]|#\d+;|</?b>|<br/>)*)"'
_MERMAID = {
    "node": re.compile(r"(\w+)(\(|\{|\[\\|\(\[)" + _TEXT + r"(?:\)|\}|/\]|\]\)):::(\w+)"),
    "frame": re.compile(r"subgraph (\w+)\[" + _TEXT + r"\]"),
    "end": re.compile(r"end"),
    "direction": re.compile(r"direction TB"),
    "arrow": re.compile(r"(\w+) (-->|-\.->)(?:\|" + _TEXT + r"\|)? (\w+)"),
    "style": re.compile(r"classDef \w+ [\w:#,\- ]+|class [\w,]+ box"),
}


def read_mermaid(text: str) -> Picture:
    """The picture in a Mermaid flowchart."""
    head, *lines = text.splitlines()
    assert head == "flowchart TD"
    picture, around = Picture(), [""]
    for line in lines:
        kind, match = _match(_MERMAID, line.strip())
        if kind == "node":
            name, shape, label, _ = match.groups()
            picture.labels[name], picture.shapes[name], picture.frames[name] = _lines(label), shape, around[-1]
        elif kind == "frame":
            name, label = match.groups()
            picture.labels[name], picture.frames[name] = _lines(label), around[-1]
            around.append(name)
        elif kind == "end":
            around.pop()
        elif kind == "arrow":
            source, line, label, target = match.groups()
            picture.arrows.append((source, target, _decoded(label or ""), line == "-.->"))
    assert around == [""]
    return picture


_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_DOT = {
    "head": re.compile(r"digraph flow \{"),
    "defaults": re.compile(r"(?:graph|node|edge) \[[^\]]*\]"),
    "frame": re.compile(r"subgraph cluster_(\w+) \{"),
    "title": re.compile(r"label=" + _QUOTED + r'; style="[\w,]+"; color="#\w+"; fillcolor="#\w+"'),
    "end": re.compile(r"\}"),
    "arrow": re.compile(r"(\w+)((?: -> \w+)+)(?: \[(?:label=" + _QUOTED + r"(?:, )?)?([^\]\"]*)\])?"),
    "node": re.compile(r"(\w+) \[label=" + _QUOTED + r"(.*)\]"),
}


def read_dot(text: str) -> Picture:
    """The picture in a Graphviz graph."""
    picture, around = Picture(), []
    for line in text.splitlines():
        kind, match = _match(_DOT, line.strip())
        if kind in ("head", "frame"):
            around.append("" if kind == "head" else match[1])
            picture.frames[around[-1]] = around[-2] if len(around) > 1 else ""
        elif kind == "title":
            picture.labels[around[-1]] = _unescaped(match[1])
        elif kind == "end":
            around.pop()
        elif kind == "node":
            picture.labels[match[1]], picture.shapes[match[1]] = _unescaped(match[2]), match[3]
            picture.frames[match[1]] = around[-1]
        elif kind == "arrow":
            names = [match[1], *match[2].split(" -> ")[1:]]
            label = _unescaped(match[3] or "")[0]
            dotted = "style=dotted" in (match[4] or "")
            picture.arrows += [(*pair, label, dotted) for pair in itertools.pairwise(names)]
    assert around == []
    return picture


def _match(grammar: dict[str, re.Pattern[str]], line: str) -> tuple[str, re.Match[str]]:
    for kind, pattern in grammar.items():
        match = pattern.fullmatch(line)
        if match:
            return kind, match
    raise AssertionError(f"Nothing in the grammar allows the line {line!r}.")


def _lines(label: str) -> list[str]:
    return [_decoded(line) for line in re.sub(r"</?b>", "", label).split("<br/>")]


def _decoded(text: str) -> str:
    return re.sub(r"#(\d+);", lambda match: chr(int(match[1])), text)


def _unescaped(text: str) -> list[str]:
    lines = re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text).split("\n")
    return [line.replace("&amp;", "&") for line in lines]
