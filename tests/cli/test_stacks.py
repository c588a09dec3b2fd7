"""Stack files as people have them, each opened by every command; the folder `stacks` holds them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from faasflow.local import Gateway, load_stack
from tests.cli.support import Project
from tests.support import free_port

Run = Callable[..., Result]

STACKS = Path(__file__).parent / "stacks"
TWO_NODES = """
    def define(flow, context):
        dag = flow.dag()
        dag.node("a").modify(bytes.upper)
        dag.node("b").modify(bytes)
        dag.edge("a", "b")
"""
SHAPES = sorted(folder.name for folder in STACKS.iterdir() if folder.name != "handlers")


@pytest.fixture
def folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all stacks, so that commands may write beside them."""
    shutil.copytree(STACKS, project.folder, dirs_exist_ok=True)
    return project.folder


@pytest.mark.parametrize("shape", SHAPES)
def test_every_command_opens_the_stack(
    faasflow: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.chdir(folder / shape)
    results = {
        "validate": faasflow("validate"),
        "validate hello": faasflow("validate", "hello"),
        "graph": faasflow("graph", "hello"),
        "run": faasflow("run", "hello", data=b"hi"),
        "new": faasflow("new", "fresh"),
        "validate fresh": faasflow("validate", "fresh"),
    }

    assert {name: result.exit_code for name, result in results.items()} == dict.fromkeys(results, 0)
    assert "✓ hello: 1 node\n" in results["validate"].stdout
    assert results["run"].stdout.strip() == "HI"
    assert "hunter2" not in "".join(result.output for result in results.values())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gateway_serves_what_it_can_of_the_stack(
    faasflow: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.chdir(folder / shape)
    gateway = Gateway(load_stack(folder / shape), state_dir=folder / shape / ".faasflow", port=free_port())
    gateway.start()
    try:
        listed = faasflow("list", "-g", gateway.url)
        answer = faasflow("invoke", "hello", "-g", gateway.url, "--data", "hi")
        checked = faasflow("doctor", "hello", "-g", gateway.url)
    finally:
        gateway.stop(grace=2)

    assert (listed.exit_code, answer.exit_code, checked.exit_code) == (0, 0, 0), checked.output
    assert "hello" in listed.stdout
    assert answer.stdout.strip() == "HI"


def test_validate_says_of_each_function_why_it_is_not_hosted(
    faasflow: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "other-languages")

    lines = faasflow("validate").stdout.splitlines()

    assert [line.partition(":")[0] for line in lines] == ["! resize", "! proxy", "! figlet", "! fn", "✓ hello"]


def test_a_flow_in_go_is_answered_with_the_page_for_those_who_come_from_go(
    faasflow: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "flow-in-go")
    whole, one = faasflow("validate"), faasflow("run", "chain", data=b"")

    assert "! chain: not hosted here: it is a flow in Go (handler.go); docs/from-go.md" in whole.stdout
    assert (one.exit_code, "docs/from-go.md" in one.stderr) == (1, True)


def test_a_call_of_what_is_not_hosted_is_warned_of_and_not_run(faasflow: Run, project: Project) -> None:
    project.flow("caller", 'def define(flow, context):\n    flow.sync_node().apply("resize")\n')
    project.function("resize", "", lang="node20")

    checked, ran = faasflow("validate"), faasflow("run", "caller", data=b"")

    assert checked.exit_code == 0
    assert checked.stdout.splitlines()[-1].endswith("calls function 'resize', which is not hosted here")
    assert ran.exit_code == 1
    assert "stack.local.yml" in ran.stderr


def test_a_mistake_in_a_function_is_bad_and_the_flows_are_checked(faasflow: Run, project: Project) -> None:
    project.flow("echo", "def define(flow, context):\n    flow.sync_node().modify(bytes)\n")
    project.function("gone", "").unlink()

    result = faasflow("validate")

    assert result.exit_code == 1
    assert "✗ gone: it has no handler.py in" in result.stdout
    assert "✓ echo: 1 node" in result.stdout


def test_both_names_of_a_stack_file_are_an_error_for_every_command(faasflow: Run, project: Project) -> None:
    for name in ("stack.yml", "stack.yaml"):
        (project.folder / name).write_text("functions: {a: {image: a}}")

    results = [faasflow(*command) for command in (["validate"], ["run", "a"], ["graph", "a"], ["up"], ["new", "b"])]

    assert [result.exit_code for result in results] == [1] * 5
    assert all("has both stack.yml and stack.yaml" in result.stderr for result in results)


def test_new_writes_into_the_stack_file_that_is_there(
    faasflow: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "other-extension")

    assert faasflow("new", "fresh").exit_code == 0
    assert "fresh:" in Path("stack.yaml").read_text()
    assert not Path("stack.yml").exists()


def test_a_flow_that_calls_a_flow_is_warned_of_and_fails_by_name(faasflow: Run, project: Project) -> None:
    project.flow("outer", 'def define(flow, context):\n    flow.dag().node("n").apply("inner")\n')
    project.flow("inner", TWO_NODES)

    checked, ran = faasflow("validate", "outer"), faasflow("run", "outer", data=b"")

    assert checked.exit_code == 0
    assert "! outer: node 'n' calls function 'inner', a flow: the call fails if it only starts it." in checked.stdout
    assert ran.exit_code == 1
    assert "StartedFlowError: Function 'inner' is a flow: it answered 202" in ran.stderr


def test_a_flow_waits_for_the_result_of_another_one(faasflow: Run, project: Project) -> None:
    project.flow(
        "outer", 'def define(flow, context):\n    flow.dag().node("n").apply("inner", query={"wait": "30s"})\n'
    )
    project.flow("inner", TWO_NODES)

    assert faasflow("run", "outer", data=b"hi").stdout.strip() == "HI"


def test_a_template_that_was_removed_is_warned_of(faasflow: Run, project: Project) -> None:
    project.function("old", "def handle(req): return req", lang="python3")

    result = faasflow("validate")

    assert result.exit_code == 0
    assert "! old: the template python3 was removed" in result.stdout
