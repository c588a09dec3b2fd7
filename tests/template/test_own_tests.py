"""A flow's own tests run as the welcome message says, and in the build of its image, which they can end."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.template.build_folder import TEMPLATE, make_build_folder, new_function
from tests.template.dockerfile import read_dockerfile

STAGE = read_dockerfile(TEMPLATE / "Dockerfile").stages["test"]
DEFAULTS = dict(word.split("=", 1) for line in STAGE.all("ARG") for word in line.words)
FAILING = """
def test_fails():
    assert False, "as it should"
"""

OTHER = """
def Define(flow, context):
    dag = flow.dag()
    dag.node("first").apply("f")
    dag.node("last").apply("g")
    dag.edge("first", "last")
"""

BROKEN = """
def define(flow, context):
    dag = flow.dag()
    dag.node("here").apply("f")
    dag.edge("here", "nowhere")
"""


def run_test_stage(python: Path, folder: Path, **arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the last command of the stage as a builder does, with `folder` in the place of /home/app."""
    environment = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        **DEFAULTS,
        **arguments,
    }
    command = ["sh", "-c", STAGE.all("RUN")[-1].text]
    return subprocess.run(command, cwd=folder / "function", env=environment, capture_output=True, text=True)


def passed(folder: Path) -> bool:
    return (folder / ".tested").is_file()


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    return new_function(tmp_path / "a-flow")


def test_the_build_of_the_sample_passes_its_tests(python: Path, flow: Path, tmp_path: Path) -> None:
    folder = make_build_folder(flow, tmp_path / "build")

    done = run_test_stage(python, folder)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert passed(folder)


def test_the_test_that_comes_from_the_template_holds_for_any_flow(python: Path, flow: Path, tmp_path: Path) -> None:
    (flow / "handler.py").write_text(OTHER)
    (flow / "handler_test.py").unlink()
    folder = make_build_folder(flow, tmp_path / "build")

    done = run_test_stage(python, folder)

    assert (done.returncode, passed(folder)) == (0, True), done.stdout
    assert "1 passed" in done.stdout


def test_a_failing_test_ends_the_build(python: Path, flow: Path, tmp_path: Path) -> None:
    (flow / "more_test.py").write_text(FAILING)
    folder = make_build_folder(flow, tmp_path / "build")

    done = run_test_stage(python, folder)

    assert done.returncode != 0
    assert "as it should" in done.stdout
    assert not passed(folder)


def test_a_flow_that_cannot_run_ends_the_build_where_no_test_tells(python: Path, flow: Path, tmp_path: Path) -> None:
    (flow / "handler.py").write_text(BROKEN)
    (flow / "handler_test.py").write_text("def test_nothing(): ...\n")
    folder = make_build_folder(flow, tmp_path / "build")

    done = run_test_stage(python, folder)

    assert done.returncode != 0
    assert "'nowhere'" in done.stdout + done.stderr
    assert not passed(folder)


def test_tests_can_be_switched_off_for_a_build(python: Path, flow: Path, tmp_path: Path) -> None:
    (flow / "more_test.py").write_text(FAILING)
    folder = make_build_folder(flow, tmp_path / "build")

    done = run_test_stage(python, folder, TEST_ENABLED="false")

    assert (done.returncode, passed(folder)) == (0, True)


def test_another_command_can_be_the_test(python: Path, flow: Path, tmp_path: Path) -> None:
    folder = make_build_folder(flow, tmp_path / "build")

    done = run_test_stage(python, folder, TEST_COMMAND="test -f handler.py && echo 'looked at'; false")

    assert done.returncode != 0
    assert "looked at" in done.stdout


def test_the_commands_of_the_welcome_message_run_the_tests_of_a_new_flow(
    python: Path, flow: Path, tmp_path: Path
) -> None:
    """In a project that pulled the template, with the environment that the message lets one make."""
    shutil.copytree(TEMPLATE, tmp_path / "template" / "faas-flow")
    (tmp_path / ".venv").symlink_to(python.parents[1])
    message = yaml.safe_load((TEMPLATE / "template.yml").read_text())["welcome_message"]
    commands = re.findall(r"^    (python3 -m venv .*|\.venv/.*|PYTHONPATH=.*)$", message, re.MULTILINE)

    assert commands[:2] == [
        "python3 -m venv .venv",
        ".venv/bin/pip install -r template/faas-flow/requirements.txt -r template/faas-flow/requirements-test.txt",
    ]
    done = subprocess.run(
        commands[2].replace("NAME", flow.name), shell=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
