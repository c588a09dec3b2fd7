"""`faasflow validate` and `faasflow graph` load flows, and tell what is wrong and where, without running them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.cli.support import BROKEN, CHAIN, ECHO, SHOUT, Project, Terminal

Run = Callable[..., Result]


def test_every_flow_of_the_stack_has_a_line(faasflow: Run, project: Project) -> None:
    project.flow("echo", ECHO)
    project.flow("chain", CHAIN)
    project.function("shout", SHOUT)

    result = faasflow("validate")

    assert result.exit_code == 0
    assert result.stdout == "✓ echo: 1 node\n✓ chain: 2 nodes\n"


def test_a_broken_flow_is_told_with_its_line_and_the_others_are_checked_too(faasflow: Run, project: Project) -> None:
    project.flow("broken", BROKEN)
    project.flow("echo", ECHO)

    result = faasflow("validate")

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "✗ broken: DAG 'root': Edge 'a' to 'b' names node 'b', which does not exist. "
        "Make it with node(), sub_dag() or a branch first. (handler.py:4)",
        "✓ echo: 1 node",
    ]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nowhere", "cannot be imported: line 1 of handler.py: ModuleNotFoundError: No module named 'nowhere'"),
        ("def define(flow", "SyntaxError"),
        ("define = None", "has no function define"),
        ("import os; print('bye'); os._exit(0)", "ended the process (exit code 0). It said last: bye"),
        ("raise SystemExit(3)", "ended the process (exit code 3)"),
        ("def define(flow, context):\n    typo()", "NameError: name 'typo' is not defined (handler.py:2)"),
        ("def define(flow, context):\n    pass", "It has no node."),
    ],
)
def test_whatever_keeps_a_handler_from_loading_is_told(faasflow: Run, project: Project, code: str, reason: str) -> None:
    project.flow("odd", code)

    result = faasflow("validate", "odd")

    assert result.exit_code == 1
    assert result.stdout.startswith("✗ odd: ")
    assert reason in result.stdout


def test_a_function_that_the_stack_does_not_have_is_a_warning(faasflow: Run, project: Project) -> None:
    project.flow("chain", CHAIN)

    result = faasflow("validate")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [
        "! chain: node 'shout' calls function 'shout', which stack.yml does not have"
    ]


def test_a_function_that_no_stack_file_has_is_a_warning(
    faasflow: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "handler.py").write_text(textwrap.dedent(CHAIN))
    monkeypatch.chdir(tmp_path)

    result = faasflow("validate", "handler.py")

    assert result.exit_code == 0
    assert "calls function 'shout', and there is no stack file that has it" in result.stdout


def test_functions_called_inside_of_branches_are_looked_for_too(faasflow: Run, project: Project) -> None:
    project.flow(
        "deep",
        """
        from faasflow import Dag

        def define(flow, context):
            each = flow.dag().foreach_branch("each", dict, aggregator=str)
            inner = Dag()
            inner.node("far").apply("away.other-namespace")
            each.sub_dag("inner", inner)
        """,
    )

    assert "node 'far' calls function 'away.other-namespace'" in faasflow("validate").stdout


def test_what_a_handler_prints_and_its_settings_do_not_disturb(faasflow: Run, project: Project) -> None:
    project.flow(
        "chatty",
        """
        import os
        print("loading")

        def define(flow, context):
            print("defining")
            for number in range(int(os.environ["nodes"])):
                flow.sync_node().modify(print)
        """,
        environment={"nodes": "3"},
    )

    assert faasflow("validate").stdout == "✓ chatty: 1 node\n"


def test_a_flow_may_look_at_the_query(faasflow: Run, project: Project) -> None:
    project.flow(
        "picky", 'def define(flow, context):\n    flow.sync_node().modify({"a": print}[context.query["by"]])\n'
    )

    assert faasflow("validate").exit_code == 1
    assert faasflow("validate", "--query", "by=a").stdout == "✓ picky: 1 node\n"


def test_a_target_is_a_flow_a_file_or_a_folder(faasflow: Run, project: Project) -> None:
    project.flow("echo", ECHO)
    project.handler("apart", ECHO)
    (project.folder / "apart" / "second.py").write_text(CHAIN.replace("\n    ", "\n"))

    result = faasflow("validate", "echo", "echo/handler.py", "apart", "apart/handler.py", "apart/second.py")

    assert [line.split(":")[0] for line in result.stdout.splitlines() if line[0] != "!"] == [
        "✓ echo",
        "✓ echo",
        "✓ apart",
        "✓ apart",
        "✓ second",
    ]


def test_the_stack_file_is_found_from_a_folder_below(
    faasflow: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.flow("echo", ECHO)
    monkeypatch.chdir(project.folder / "echo")

    assert faasflow("validate").stdout == "✓ echo: 1 node\n"


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("ehco", "There is no flow 'ehco' in ", "Did you mean 'echo'?"),
        ("other", "There is no flow 'other' in ", "Its flows are echo."),
        ("shout", "Function 'shout' is no flow: its lang is 'python3-http'.", "faasflow invoke shout"),
        (".", "is no flow: it has no handler.py.", "Name the folder of one."),
    ],
)
def test_what_is_no_flow_is_refused_with_a_hint(
    faasflow: Run, project: Project, target: str, message: str, hint: str
) -> None:
    project.flow("echo", ECHO)
    project.function("shout", SHOUT)

    result = faasflow("validate", target)

    assert result.exit_code == 1
    assert message in result.stderr
    assert hint in result.stderr


def test_signs_are_coloured_on_a_terminal(project: Project, terminal: Callable[..., Terminal]) -> None:
    project.flow("echo", ECHO)

    shown = terminal("validate")

    assert shown.end() == 0
    assert shown.output == "\x1b[32m✓\x1b[0m echo: 1 node\r\n".encode()


@pytest.mark.parametrize(
    ("form", "start"), [("mermaid", "flowchart TD\n"), ("dot", "digraph flow {\n"), ("json", "{\n")]
)
def test_a_graph_is_written_in_the_format_that_is_asked_for(
    faasflow: Run, project: Project, form: str, start: str
) -> None:
    project.flow("chain", CHAIN)

    result = faasflow("graph", "chain", "--format", form)

    assert result.exit_code == 0
    assert result.stdout.startswith(start)
    assert "shout" in result.stdout


def test_a_graph_is_mermaid_unless_told_otherwise(faasflow: Run, project: Project) -> None:
    project.flow("chain", CHAIN)

    assert faasflow("graph", "chain").stdout == faasflow("graph", "chain", "--format", "mermaid").stdout


def test_the_json_of_a_graph_is_what_the_flow_itself_exports(faasflow: Run, project: Project) -> None:
    project.flow("chain", CHAIN)

    graph = json.loads(faasflow("graph", "chain", "--format", "json").stdout)

    assert (graph["start-node"], graph["end-node"], list(graph["nodes"])) == ("shout", "mark", ["shout", "mark"])


def test_the_graph_of_a_broken_flow_is_an_error(faasflow: Run, project: Project) -> None:
    project.flow("broken", BROKEN)

    result = faasflow("graph", "broken")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("faasflow: error: Flow 'broken': DAG 'root': Edge 'a' to 'b'")
