"""`faasflow new` makes a flow that is tested, runs, and is listed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from faasflow.cli import main
from faasflow.cli.new import scaffold
from faasflow.local import load_stack

TEMPLATE = Path(__file__).parents[2] / "template" / "faas-flow" / "function"
FILES = ["__init__.py", "handler.py", "handler_test.py", "requirements.txt"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["new", *arguments])


def test_a_new_flow_is_what_faas_cli_makes_of_the_template() -> None:
    made = {file.name.removesuffix(".txt"): file.read_bytes() for file in scaffold()}

    assert made == {file.name: file.read_bytes() for file in TEMPLATE.iterdir() if file.is_file()}


def test_a_new_flow_is_listed_in_a_new_stack_file(folder: Path) -> None:
    result = new("greet")

    assert result.exit_code == 0, result.output
    assert sorted(file.name for file in (folder / "greet").iterdir()) == FILES
    spec = load_stack(folder).functions["greet"]
    assert (spec.lang, spec.handler, spec.labels) == ("faas-flow", folder / "greet", {"faas-flow": "1"})
    assert spec.secrets == ("faasflow-hmac-secret",)


def test_the_tests_of_new_flows_pass_side_by_side(folder: Path) -> None:
    assert new("greet").exit_code == 0
    assert new("see-off").exit_code == 0
    assert new("see-you").exit_code == 0

    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "--import-mode=importlib", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
    )

    assert "3 passed" in tests.stdout, tests.stdout


def test_a_new_flow_runs() -> None:
    assert new("greet").exit_code == 0

    result = CliRunner().invoke(main, ["run", "greet", "--data", "hello"])

    assert (result.exit_code, result.stdout) == (0, 'you said "hello"')


def test_the_next_steps_name_what_was_made() -> None:
    output = new("greet").output

    assert "wrote greet/handler.py\n" in output
    assert "  pytest --import-mode=importlib greet " in output
    assert "  faasflow run greet --data hello " in output


def test_another_stack_file_gets_the_entry_and_the_folder_beside_it(folder: Path) -> None:
    (folder / "team").mkdir()
    stack = folder / "team" / "flows.yml"
    stack.write_text("# ours\nfunctions:\n")

    result = new("greet", "--append", "team/flows.yml")

    assert result.exit_code == 0, result.output
    assert stack.read_text().startswith("# ours\nfunctions:\n  greet:\n    lang: faas-flow\n")
    assert load_stack(stack).functions["greet"].handler == folder / "team" / "greet"
    assert "faasflow up -f team/flows.yml" in result.output


def test_shared_settings_are_used_where_they_are(folder: Path) -> None:
    (folder / "flow.yml").write_text("environment:\n  exec_timeout: 90s\n")

    assert new("greet").exit_code == 0

    assert load_stack(folder).functions["greet"].environment == {"exec_timeout": "90s"}


@pytest.mark.parametrize("name", ["Greet", "-greet", "greet-", "gr_eet", "grüße", "a" * 64, "a/b", ".."])
def test_a_name_that_faas_cli_would_refuse_is_misuse(folder: Path, name: str) -> None:
    result = new("--", name)

    assert result.exit_code == 2
    assert f"{name!r} cannot name a function" in result.output
    assert list(folder.iterdir()) == []


def test_an_existing_folder_is_left_alone(folder: Path) -> None:
    (folder / "greet").mkdir()

    result = new("greet")

    assert result.exit_code == 1
    assert "faasflow: error: 'greet' exists already.\nhint: " in result.stderr
    assert [file.name for file in folder.iterdir()] == ["greet"]


def test_an_existing_entry_is_left_alone_and_no_folder_is_made(folder: Path) -> None:
    stack = folder / "stack.yml"
    stack.write_text("functions:\n  greet: {lang: faas-flow}\n")

    result = new("greet")

    assert result.exit_code == 1
    assert "stack.yml: Function 'greet' exists already." in result.stderr
    assert stack.read_text() == "functions:\n  greet: {lang: faas-flow}\n"
    assert [file.name for file in folder.iterdir()] == ["stack.yml"]
