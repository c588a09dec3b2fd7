"""Mermaid and Graphviz: what is drawn, and that any text can be drawn."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faasflow import Dag
from faasflow.graph import Definition
from faasflow.graph.drawing import printable
from faasflow.graph.export import to_dot, to_mermaid
from tests.graph.flows import built, choose, collect, photos, shrink, split, two_ends
from tests.graph.reading import Picture, read_dot, read_mermaid

HOSTILE = [
    *('"', "\\", "\\n", "\\N", "a\nb", "end", "subgraph", "graph TD;a-->b", "<b>x</b>", "<script>", "&amp;", "#quot;"),
    *("`**md**`", "1. list", "- x", "%% c", "style:x#y;", "{}[]()|", "--> x", "$$x$$", "_u_", "@{x}", "\x00"),
    *("é😀", " ", "a b", "x" * 500),
]

Draw = Callable[[Definition], str]
both = pytest.mark.parametrize(("draw", "read"), [(to_mermaid, read_mermaid), (to_dot, read_dot)])


def test_a_small_flow_as_mermaid() -> None:
    def write(dag: Dag) -> None:
        dag.node("list").apply("list-photos").modify(shrink)
        dag.foreach_branch("photos", split, aggregator=collect).node("resize").apply("image-resizer")
        dag.node("log").apply("logger")
        dag.edge("list", "photos")
        dag.edge("photos", "log", forward=False)

    assert to_mermaid(built(write)) == (
        "flowchart TD\n"
        '    s1("<b>list</b><br/>list-photos<br/>shrink()"):::work\n'
        '    s2{"<b>photos</b><br/>split()"}:::branch\n'
        '    subgraph b1[" "]\n'
        "        direction TB\n"
        '        s3("<b>resize</b><br/>image-resizer"):::work\n'
        "    end\n"
        '    s4[\\"collect()"/]:::join\n'
        '    s5("<b>log</b><br/>logger"):::work\n'
        '    s2 -->|"each"| s3\n'
        "    s3 --> s4\n"
        "    s1 --> s2\n"
        "    s4 -.-> s5\n"
        "    classDef work fill:#dcedf8,stroke:#3d8fbf,color:#12303f\n"
        "    classDef branch fill:#f9af4d,stroke:#b87314,color:#3d2600\n"
        "    classDef join fill:#f7cfdc,stroke:#c05f80,color:#451426\n"
        "    classDef box fill:#8080801a,stroke:#909090,stroke-dasharray:4 3\n"
        "    class b1 box\n"
    )


def test_a_small_flow_as_dot() -> None:
    def write(dag: Dag) -> None:
        dag.node("list").apply("list-photos").modify(shrink)
        dag.node("log").apply("logger")
        dag.edge("list", "log", forward=False)

    assert to_dot(built(write)).splitlines()[4:] == [
        "    subgraph cluster_s1 {",
        '        label="list"; style="filled,rounded"; color="#999999"; fillcolor="#eeeeee"',
        '        s1_1 [label="list-photos"]',
        '        s1_2 [label="shrink()"]',
        "        s1_1 -> s1_2",
        "    }",
        "    subgraph cluster_s2 {",
        '        label="log"; style="filled,rounded"; color="#999999"; fillcolor="#eeeeee"',
        '        s2_1 [label="logger"]',
        "    }",
        "    s1_2 -> s2_1 [style=dotted, ltail=cluster_s1, lhead=cluster_s2]",
        "}",
    ]


def test_mermaid_shows_each_node_with_its_operations() -> None:
    picture = read_mermaid(to_mermaid(built(photos)))

    labels = [label for name, label in picture.labels.items() if name.startswith("s")]
    assert labels == [
        ["fetch", "download", "shrink()"],
        ["photos", "split()"],
        ["detect", "face-detect"],
        ["crop", "image-resizer"],
        ["collect()"],
        ["size", "choose()"],
        ["keep", "modifier"],
        ["tiles", "split()"],
        ["tile", "tiler"],
        ["join"],
        ["collect()"],
        ["zip", "zip"],
        ["sign", "shrink()"],
        ["audit", "https://audit.example.com/log"],
        ["all", "collect()"],
    ]


def test_mermaid_draws_diamonds_where_branches_open_and_frames_around_them() -> None:
    picture = read_mermaid(to_mermaid(built(photos)))

    diamonds = [picture.labels[name][0] for name, shape in picture.shapes.items() if shape == "{"]
    assert diamonds == ["photos", "size", "tiles"]
    frame = {label: picture.frames[picture.named(*label)] for label in [("detect", "face-detect"), ("tile", "tiler")]}
    assert frame["detect", "face-detect"] == frame_of(picture, "crop", "image-resizer") != ""
    assert picture.frames[frame["tile", "tiler"]] == frame_of(picture, "tiles", "split()") != ""
    assert picture.labels[frame_of(picture, "zip", "zip")] == ["pack"]


def frame_of(picture: Picture, *label: str) -> str:
    return picture.frames[picture.named(*label)]


def test_mermaid_labels_the_arrows_into_branches_and_dots_those_without_data() -> None:
    picture = read_mermaid(to_mermaid(built(photos)))

    labelled = {(picture.labels[target][0], label) for _, target, label, _ in picture.arrows if label}
    assert labelled == {("detect", "each, 4 at a time"), ("keep", "small"), ("tiles", "very big"), ("tile", "each")}
    dotted = {
        (picture.labels[source][0], picture.labels[target][0]) for source, target, _, dots in picture.arrows if dots
    }
    assert dotted == {("fetch", "audit"), ("audit", "all"), ("tile", "join")}


def test_dot_draws_clusters_rectangles_diamonds_and_houses_in_the_colours_of_the_original() -> None:
    text = to_dot(built(photos))
    picture = read_dot(text)

    assert 'shape=box, style=filled, fillcolor="#68b8e2"' in text
    assert re.findall(r'label="(.*?)", shape=diamond, fillcolor="#f9af4d"', text) == [
        *(r"photos\nsplit()", r"size\nchoose()", r"tiles\nsplit()")
    ]
    assert re.findall(r'label="(.*?)", shape=invhouse, fillcolor="pink"', text) == ["collect()", "join", "collect()"]
    titles = [picture.labels[frame][0] for frame in picture.frames if frame in picture.labels and frame[0] == "b"]
    assert titles == ["photos: each item", "size = small", "size = very big", "tiles: each item", "pack"]


def test_dot_leads_arrows_to_the_first_operation_and_from_the_last() -> None:
    picture = read_dot(to_dot(built(photos)))

    expected = {
        *[("download", "shrink()"), ("shrink()", "photos"), ("shrink()", "size"), ("size", "modifier")],
        *[("photos", "face-detect"), ("face-detect", "image-resizer"), ("image-resizer", "collect()")],
        *[("size", "tiles"), ("tiles", "tiler"), ("tiler", "join"), ("join", "collect()"), ("modifier", "collect()")],
        *[("collect()", "zip"), ("zip", "shrink()"), ("shrink()", "https://audit.example.com/log")],
        *[("collect()", "collect()"), ("shrink()", "collect()"), ("https://audit.example.com/log", "collect()")],
    }
    assert picture.links() == expected
    labelled = {label for _, _, label, _ in picture.arrows if label}
    assert labelled == {"each, 4 at a time", "small", "very big", "each"}


@both
def test_every_arrow_connects_things_that_are_drawn(draw: Draw, read) -> None:
    picture = read(draw(built(photos)))

    assert {name for arrow in picture.arrows for name in arrow[:2]} <= set(picture.labels)


@both
def test_a_join_without_operations_is_drawn(draw: Draw, read) -> None:
    def write(dag: Dag) -> None:
        two_ends(dag)
        dag.node("d")
        dag.edge("b", "d", forward=False)
        dag.edge("c", "d", forward=False)

    picture = read(draw(built(write)))

    assert "join" in [line for label in picture.labels.values() for line in label]


@both
def test_several_ends_meet_in_a_node_of_their_own(draw: Draw, read) -> None:
    picture = read(draw(built(two_ends)))

    assert {("b", "end_0"), ("c", "end_0")} <= picture.links()


@both
def test_nested_sub_dags_are_frames_in_frames(draw: Draw, read) -> None:
    def write(dag: Dag) -> None:
        inner = Dag()
        inner.node("core").apply("f")
        for level in range(5):
            outer = Dag()
            outer.sub_dag(f"level {level}", inner)
            inner = outer
        dag.append(inner)

    picture = read(draw(built(write)))

    around, name = [], picture.frames[next(name for name, label in picture.labels.items() if label[-1] == "f")]
    while name:
        around.append(picture.labels[name][0])
        name = picture.frames[name]
    assert [title for title in around if title != "core"] == [f"level {level}" for level in range(5)]


@both
def test_an_empty_key_of_a_condition_is_drawn(draw: Draw, read) -> None:
    def write(dag: Dag) -> None:
        dag.conditional_branch("C", [""], choose, aggregator=collect)[""].node("n").apply("f")

    assert len(read(draw(built(write))).arrows) == 2


def labelled(text: str) -> Definition:
    """A flow that shows `text` in every place: id, operation, key of a condition, title of a sub-DAG."""

    def write(dag: Dag) -> None:
        dag.node(text).apply(text)
        dag.conditional_branch(text + "C", [text], choose, aggregator=collect)[text].node(text).apply(text)
        sub = Dag()
        sub.node(text).apply(text)
        dag.sub_dag(text + "S", sub)
        dag.edge(text, text + "C")
        dag.edge(text + "C", text + "S")

    return built(write)


@both
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_it_is(draw: Draw, read, text: str) -> None:
    check_labels(read(draw(labelled(text))), text)


@both
@given(text=st.text(min_size=1))
def test_any_text_is_shown_as_it_is(draw: Draw, read, text: str) -> None:
    check_labels(read(draw(labelled(text))), text)


def check_labels(picture: Picture, text: str) -> None:
    shown = printable(text)
    lines = [line.replace("\u200b", "") for label in picture.labels.values() for line in label]
    assert lines.count(shown) >= 6
    assert {shown + "C", shown + "S"} <= set(lines)
    assert len(picture.arrows) == 4


@both
def test_a_picture_is_utf8_without_control_characters(draw: Draw, read) -> None:
    for text in HOSTILE:
        written = draw(labelled(text))
        written.encode()
        assert all(char.isprintable() or char == "\n" for char in written.replace("\u200b", ""))


def test_a_mark_that_begins_a_formula_in_mermaid_never_stands_twice() -> None:
    lines = [line for label in read_mermaid(to_mermaid(labelled("$$$x$$"))).labels.values() for line in label]

    assert not any("$$" in line for line in lines)


@both
def test_the_same_flow_is_drawn_the_same(draw: Draw, read) -> None:
    assert draw(built(photos)) == draw(built(photos))
