"""A request as a graph whose nodes have the colours of their states, from its story. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from faasflow.cli.story import Story, name_of
from faasflow.cli.track_path import before_each, count_text
from faasflow.graph.drawing import printable

Place = Mapping[str, Any]

_COLOURS = {
    "FINISHED": "#b7e1b0",
    "FAILED": "#f2a6a0",
    "RETRYING": "#f7d488",
    "RUNNING": "#a8d1f0",
    "WAITING": "#eeeeee",
    "SKIPPED": "#ffffff",
    "CANCELLED": "#dddddd",
}


def draw_request(story: Story, form: str) -> str:
    """The nodes of a request with their states, as `mermaid`, `dot` or `json`. A node inside of branches is one node,
    however many branches there are, with how far they have got."""
    places = [place for place in story["graph"] if not place.get("is_virtual")]
    if form == "json":
        return json.dumps({"request_id": story["request_id"], "state": story["state"], "nodes": places}, indent=2)
    edges = [*_edges(story["graph"], {place["path"] for place in places})]
    names = {place["path"]: f"n{number}" for number, place in enumerate(places, start=1)}
    write = _dot if form == "dot" else _mermaid
    return "\n".join(write(places, names, [(names[source], names[target]) for source, target in edges]))


def _edges(places: Sequence[Place], shown: set[str]) -> Iterator[tuple[str, str]]:
    """What follows what among those that are shown; behind others, what comes before these."""
    before = before_each(places)

    def sources(path: str) -> Iterator[str]:
        for one in before[path]:
            if one in shown:
                yield one
            else:
                yield from sources(one)

    for path in before:
        if path in shown:
            yield from ((source, path) for source in dict.fromkeys(sources(path)))


def _lines(place: Place) -> list[str]:
    state = " ".join(filter(None, [str(place["state"]), count_text(place)]))
    return [printable(name_of(place["path"])), state]


def _mermaid(places: Sequence[Place], names: Mapping[str, str], edges: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield "flowchart TD"
    for place in places:
        title, state = (_escaped(line) for line in _lines(place))
        yield f'    {names[place["path"]]}["<b>{title}</b><br/>{state}"]:::{str(place["state"]).lower()}'
    for source, target in edges:
        yield f"    {source} --> {target}"
    for state in dict.fromkeys(str(place["state"]) for place in places):
        yield f"    classDef {state.lower()} fill:{_COLOURS[state]},stroke:#555555,color:#000000"


def _dot(places: Sequence[Place], names: Mapping[str, str], edges: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield "digraph request {"
    yield '    node [fontname="Helvetica", fontsize=10, shape=box, style="filled,rounded"]'
    for place in places:
        label = "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in _lines(place))
        yield f'    {names[place["path"]]} [label="{label}", fillcolor="{_COLOURS[str(place["state"])]}"]'
    for source, target in edges:
        yield f"    {source} -> {target}"
    yield "}"


def _escaped(text: str) -> str:
    return "".join(char if char.isalnum() or char in " -_/=.," else f"#{ord(char)};" for char in text)
