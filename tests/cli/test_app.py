"""What holds for every command: it starts quickly, explains itself, and ends with a status and a line that helps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import Result

import faasflow as package
from faasflow.cli import main
from tests.cli.support import BROKEN, COMMAND, ECHO, Project, Terminal

HEAVY = {
    "consul",
    "flask",
    "jaeger_client",
    "minio",
    "msgspec",
    "opentracing",
    "requests",
    "sqlite3",
    "waitress",
    "yaml",
}
Run = Callable[..., Result]


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom faasflow.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print('loaded', *sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    loaded = output[output.index("loaded") :].split()
    assert "faasflow.cli.run" in loaded
    assert HEAVY & set(loaded) == set()


def test_commands_are_listed_in_the_order_in_which_they_are_needed(faasflow: Run) -> None:
    listed = [line.split()[0] for line in faasflow().output.partition("Commands:\n")[2].splitlines()]

    assert listed == [
        "new",
        "up",
        "run",
        "invoke",
        "list",
        "state",
        "track",
        "logs",
        "result",
        "pause",
        "resume",
        "stop",
        "dead-letters",
        "retry",
        "rerun",
        "validate",
        "graph",
        "doctor",
        "tick",
        "unreadable",
        "worker",
        "completion",
    ]


@pytest.mark.parametrize("name", list(main.commands))
def test_every_help_has_an_example_and_says_what_an_option_does(faasflow: Run, name: str) -> None:
    result = faasflow(name, "--help")

    assert result.exit_code == 0
    assert f"    faasflow {name}" in result.output or f"(faasflow {name}" in result.output
    options = [option for option in main.commands[name].params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []
    assert "..." not in main.commands[name].get_short_help_str(52)


def test_the_version_is_that_of_the_package(faasflow: Run) -> None:
    assert faasflow("--version").output == f"faasflow, version {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["walk"], "No such command 'walk'.", "faasflow --help"),
        (["--fast"], "No such option '--fast'.", "faasflow --help"),
        (["run"], "Missing argument 'TARGET'.", "faasflow run --help"),
        (["run", "a", "--timeout", "soon"], "'soon' is not a duration. Write it like '30s' or '1m30s'.", "run --help"),
        (["run", "a", "--timeout", "0"], "'0' is not a duration.", "run --help"),
        (["run", "a", "--query", "b"], "'b' is not NAME=VALUE.", "run --help"),
        (["invoke", "a", "--header", "b"], "'b' is not 'NAME: VALUE'.", "invoke --help"),
        (["invoke", "a", "--sign", "X-Hub-Signature"], "--sign and --key belong together", "invoke --help"),
        (["invoke", "a", "--key", "x", "--key-file", "y"], "--key and --key-file exclude each other", "invoke --help"),
        (["tick", "a", "--key-file", "nowhere"], "'nowhere' cannot be read: No such file", "tick --help"),
        (["tick", "a", "--every", "often"], "'often' is not a duration.", "tick --help"),
        (["retry"], "Name one REQUEST, or ask for --all dead letters.", "retry --help"),
        (["retry", "r1", "--all"], "Name one REQUEST, or ask for --all dead letters.", "retry --help"),
        (["retry", "--all", "--input", "-"], "--data and --wait belong to one REQUEST", "retry --help"),
        (["retry", "r1", "--error", "ValueError"], "choose among --all dead letters", "retry --help"),
        (["retry", "r1", "--since", "2h"], "choose among --all dead letters", "retry --help"),
        (["retry", "--all", "--before", "noon"], "'noon' is no time. Write how long ago", "retry --help"),
        (["invoke", "a", "--async", "--wait", "3s"], "--async and --wait exclude each other", "invoke --help"),
        (["run", "a", "--data", "@nowhere"], "'nowhere' cannot be read: No such file", "run --help"),
    ],
)
@pytest.mark.usefixtures("project")
def test_misuse_ends_with_2_and_a_line_and_a_hint(
    faasflow: Run, project: Project, arguments: list[str], message: str, hint: str
) -> None:
    project.flow("a", ECHO)

    result = faasflow(*arguments)

    assert result.exit_code == 2
    error, hinted = result.stderr.splitlines()
    assert error.startswith("faasflow: error: ")
    assert message in error
    assert hinted.startswith("hint: faasflow")
    assert hinted.endswith(hint)
    assert result.stdout == ""


def test_what_cannot_be_done_ends_with_1_and_no_traceback(project: Project) -> None:
    ended = project.run("run", "greet")

    assert ended.returncode == 1
    assert ended.stderr.decode().startswith("faasflow: error: There is no stack file 'stack.yml'.")
    assert b"Traceback" not in ended.stderr


def test_errors_are_red_on_a_terminal_alone(project: Project, terminal: Callable[..., Terminal]) -> None:
    shown = terminal("run", "greet")
    assert shown.end() == 1
    plain = terminal("run", "greet", NO_COLOR="1")
    assert plain.end() == 1

    assert shown.output.startswith(b"\x1b[31mfaasflow: error: ")
    assert b"\x1b" not in plain.output
    assert b"\x1b" not in project.run("run", "greet").stderr


def test_a_closed_pipe_ends_quietly(project: Project) -> None:
    for number in range(60):
        project.flow(f"broken-{number}" * 3, BROKEN)

    ended = subprocess.run(
        ["bash", "-c", f'"{COMMAND[0]}" -m faasflow.cli validate | head -1'],
        cwd=project.folder,
        capture_output=True,
        text=True,
    )

    assert len(ended.stdout.splitlines()) == 1
    assert ended.stderr == ""


def test_a_command_without_standard_streams_does_its_work(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.flow("echo", ECHO)
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit) as ended:
        main(["validate", "echo"])

    assert ended.value.code == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(faasflow: Run, shell: str) -> None:
    result = faasflow("completion", shell)

    assert result.exit_code == 0
    assert "_FAASFLOW_COMPLETE" in result.output


def test_commands_are_completed(project: Project) -> None:
    completed = project.run(_FAASFLOW_COMPLETE="bash_complete", COMP_WORDS="faasflow va", COMP_CWORD="1")

    assert completed.stdout.split() == [b"plain,validate"]
