"""`faasflow graph` draws a request with its states, and SVG where Graphviz is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from faasflow.cli.request_graph import draw_request
from faasflow.local import Gateway, load_stack
from tests.cli.support import ECHO, Project
from tests.cli.test_track_view import FAILED, broken, chain, node, story
from tests.support import free_port

Run = Callable[..., Result]

FAULTY = """
    def define(flow, context):
        dag = flow.dag()
        dag.node("read").modify(lambda data: data)
        dag.node("b \\"oom").modify(lambda data: 1 / 0)
        dag.edge("read", "b \\"oom")
"""


@pytest.fixture
def failed() -> Any:
    return story(entries=FAILED, state="FAILED", ended=2.5, failure=broken("years/precipitation@2013"))


def test_the_nodes_of_a_request_have_their_states() -> None:
    told = story(chain("a", "b c"), {"node/a": node()})

    assert draw_request(told, "mermaid").splitlines() == [
        "flowchart TD",
        '    n1["<b>a</b><br/>FINISHED"]:::finished',
        '    n2["<b>b c</b><br/>RUNNING"]:::running',
        "    n1 --> n2",
        "    classDef finished fill:#b7e1b0,stroke:#555555,color:#000000",
        "    classDef running fill:#a8d1f0,stroke:#555555,color:#000000",
    ]
    assert draw_request(told, "dot").splitlines()[2:] == [
        '    n1 [label="a\\nFINISHED", fillcolor="#b7e1b0"]',
        '    n2 [label="b c\\nRUNNING", fillcolor="#a8d1f0"]',
        "    n1 -> n2",
        "}",
    ]
    assert [row["state"] for row in json.loads(draw_request(told, "json"))["nodes"]] == ["FINISHED", "RUNNING"]


def test_branches_follow_what_opens_them_and_say_how_far_they_are(failed: Any) -> None:
    shown = draw_request(failed, "dot")

    names = {line.split('"')[1].split("\\n")[0]: line.split()[0] for line in shown.splitlines() if "label=" in line}
    assert 'label="years/precipitation\\nFAILED 2/3, 1 failed"' in shown
    assert f"{names['read']} -> {names['years']}" in shown
    assert f"{names['years']} -> {names['years/table']}" in shown
    assert f"{names['years/table']} -> {names['years/wind']}" in shown


def test_a_request_is_drawn_by_its_id_its_flow_or_its_url(faasflow: Run, project: Project, tmp_path: Path) -> None:
    project.flow("faulty", FAULTY)
    gateway = Gateway(load_stack(project.stack), state_dir=tmp_path / "state", port=free_port())
    gateway.start()
    try:
        assert "FAILED" not in faasflow("invoke", "faulty", "-d", "", "--wait", "30s", "-g", gateway.url).stdout
        (row,) = json.loads(faasflow("list", "faulty", "--json", "-g", gateway.url).stdout)
        id = row["request_id"]
        url = f"{gateway.url}/function/faulty/flow/{id}"

        drawn = [
            faasflow("graph", *words).stdout
            for words in ([id, "-g", gateway.url], ["faulty", id, "-g", gateway.url], [url])
        ]
        unknown = faasflow("graph", "fautly", "-g", gateway.url)
    finally:
        gateway.stop(grace=0)

    assert drawn[0] == drawn[1] == drawn[2]
    assert '<br/>FAILED"]:::failed' in drawn[0]
    assert unknown.exit_code == 1
    assert "There is no flow 'fautly' in" in unknown.stderr
    assert "hint: Did you mean 'faulty'?" in unknown.stderr


def test_svg_names_the_program_that_is_missing(
    faasflow: Run, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.flow("echo", ECHO)
    monkeypatch.setenv("PATH", str(tmp_path))

    result = faasflow("graph", "echo", "-o", "svg")

    assert result.exit_code == 1
    assert result.stderr.startswith("faasflow: error: SVG is drawn by Graphviz, whose program 'dot' is not installed.")


def test_svg_is_what_the_program_draws(
    faasflow: Run, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.flow("echo", ECHO)
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\nread -r line\n[ "$1" = -Tsvg ] && echo "<svg>$line</svg>"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert faasflow("graph", "echo", "-o", "svg").stdout == "<svg>digraph flow {</svg>\n"
