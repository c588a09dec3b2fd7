"""`faasflow run` shows what the flow writes, and gives it the environment it asks for."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from faasflow.cli.written import Written
from tests.cli.support import CHAIN, LIMIT, Project, Terminal
from tests.support import wait_until

Run = Callable[..., Result]

SPEAKING = """
    import logging, sys

    def define(flow, context):
        dag = flow.dag()
        dag.node("first step").modify(speak)

    def speak(data):
        print("printed\\nin two lines")
        print("to stderr", file=sys.stderr)
        logging.getLogger("shop").info("logged")
        logging.getLogger("shop").warning("careful")
        logging.getLogger("shop").debug("details")
        return data
"""
READING = """
    import os

    def define(flow, context):
        flow.sync_node().modify(lambda data: f"{os.environ['FROM_STACK']} {os.environ['GIVEN']}")
"""


def lines_of(result: Result) -> list[str]:
    """What a run wrote beside its result, every time of day as T."""
    return [re.sub(r"^\d\d:\d\d:\d\d", "T", line) for line in result.stderr.splitlines()]


def test_prints_and_logs_of_a_flow_appear_with_time_and_node(faasflow: Run, project: Project) -> None:
    project.flow("speaking", SPEAKING)

    result = faasflow("run", "speaking", "--data", "x")

    assert result.stdout == "x"
    assert [line for line in lines_of(result) if line.startswith("T ")] == [
        "T first step  printed",
        "T first step  in two lines",
        "T first step  to stderr",
        "T first step  shop: logged",
        "T first step  WARNING shop: careful",
    ]
    assert "\x1b" not in result.stderr


def test_the_level_says_what_is_shown_of_what_is_logged(faasflow: Run, project: Project) -> None:
    project.flow("speaking", SPEAKING)

    less = lines_of(faasflow("run", "speaking", "--log-level", "warning"))
    more = lines_of(faasflow("run", "speaking", "--log-level", "debug"))

    assert "T first step  printed" in less
    assert not any("logged" in line for line in less)
    assert "T first step  DEBUG shop: details" in more
    assert "T speaking  faasflow.engine.engine: The request was started." in more


def test_a_log_of_json_reads_the_same(faasflow: Run, project: Project) -> None:
    project.flow("speaking", SPEAKING, environment={"log_format": "json"})

    shown = lines_of(faasflow("run", "speaking"))

    assert {"T first step  printed", "T first step  WARNING shop: careful"} <= {*shown}


def test_quiet_leaves_the_result_and_errors(faasflow: Run, project: Project) -> None:
    project.flow("speaking", SPEAKING)

    result = faasflow("run", "speaking", "--data", "x", "--quiet")

    assert (result.stdout, result.stderr) == ("x", "")


def test_what_a_called_function_writes_is_named_by_it_and_without_frames_of_others(
    faasflow: Run, project: Project
) -> None:
    project.flow("chain", CHAIN)
    project.function("shout", 'def handle(event, context):\n    print("loud")\n    raise ValueError("too loud")\n')

    shown = lines_of(faasflow("run", "chain"))

    assert [line for line in shown if line.startswith("T shout  ")][:-1] == [
        "T shout  loud",
        "T shout  Traceback (most recent call last):",
        f'T shout    File "{project.folder}/shout/handler.py", line 3, in handle',
        'T shout      raise ValueError("too loud")',
    ]


def test_a_failed_node_is_named_as_it_was_written_with_its_own_frames_only(faasflow: Run, project: Project) -> None:
    project.flow(
        "faulty",
        """
        import json

        def define(flow, context):
            flow.dag().node("read the order").modify(lambda data: json.loads("nonsense"))
        """,
    )

    errors = faasflow("run", "faulty", "-q").stderr.splitlines()

    assert errors[0].startswith("faasflow: error: Node 'read the order' failed in ")
    assert [line for line in errors if "File " in line] == [
        f'  File "{project.folder}/faulty/handler.py", line 4, in <lambda>'
    ]


def test_on_a_terminal_lines_have_colour_and_cannot_steer_it(
    project: Project, terminal: Callable[..., Terminal]
) -> None:
    project.flow("speaking", SPEAKING.replace("in two lines", "\\x1b[2Jgone"))

    shown = terminal("run", "speaking")

    assert shown.end() == 0
    assert b"\x1b[36mfirst step\x1b[0m  printed" in shown.output
    assert b"\x1b[33mWARNING shop: careful\x1b[0m" in shown.output
    assert b"\x1b[2J" not in shown.output


def test_functions_get_the_environment_of_the_stack_and_what_is_given(faasflow: Run, project: Project) -> None:
    project.flow("reading", READING, environment={"FROM_STACK": "stack", "GIVEN": "less"})

    assert faasflow("run", "reading", "-e", "GIVEN=more").stdout == "stack more"


def test_a_variable_without_a_value_is_passed_on(project: Project) -> None:
    project.flow("reading", READING, environment={"FROM_STACK": "stack"})

    assert project.run("run", "reading", "-e", "GIVEN", GIVEN="from here").stdout == b"stack from here"
    missing = project.run("run", "reading", "-e", "GIVEN")
    assert missing.returncode == 2
    assert b"'GIVEN' is not set here. Set it, or write GIVEN=VALUE." in missing.stderr


def test_variables_come_from_files_and_options_beat_them(faasflow: Run, project: Project) -> None:
    project.flow("reading", READING)
    (project.folder / "a.env").write_text("# comment\n\nFROM_STACK='a file'\nexport GIVEN=a\n")
    (project.folder / "b.env").write_bytes(b"\xef\xbb\xbfGIVEN=b=b\r\n")

    both = faasflow("run", "reading", "--env-file", "a.env", "--env-file", "b.env")
    option = faasflow("run", "reading", "-e", "GIVEN=option", "--env-file", "a.env")

    assert (both.stdout, option.stdout) == ("a file b=b", "a file option")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "'some.env' cannot be read: No such file or directory."),
        (b"\xff\xfe", "'some.env' is no UTF-8 text."),
        (b"fine=1\n=2\n", "some.env, line 2: '=2' is not NAME=VALUE."),
    ],
)
def test_a_wrong_file_of_variables_is_a_misuse(
    faasflow: Run, project: Project, content: bytes | None, message: str
) -> None:
    if content is not None:
        (project.folder / "some.env").write_bytes(content)

    result = faasflow("run", "reading", "--env-file", "some.env")

    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    "code",
    [
        READING,
        "import os\n\nNAME = os.environ['GIVEN']\n\ndef define(flow, context):\n    flow.sync_node().modify(len)\n",
        "import os\n\ndef define(flow, context):\n    flow.sync_node(os.environ['GIVEN'])\n",
    ],
)
def test_a_variable_that_is_missing_is_answered_with_the_way_to_set_it(
    faasflow: Run, project: Project, code: str
) -> None:
    project.flow("reading", code, environment={"FROM_STACK": "a"})

    result = faasflow("run", "reading", "-q")

    assert result.exit_code == 1
    assert (
        "hint: The environment variable 'GIVEN' is not set. Set it under `environment` of the function in the stack "
        "file, or for one run with `faasflow run -e GIVEN=VALUE`."
    ) in result.stderr.splitlines()


def test_an_interrupted_run_says_how_to_go_on(project: Project, tmp_path: Path) -> None:
    project.flow(
        "slow",
        "import time\n\ndef define(flow, context):\n    flow.dag().node('a').modify(lambda data: time.sleep(60))\n",
    )
    folder = tmp_path / "kept"
    running = project.start("run", "slow", "--state-dir", str(folder), "--id", "mine")
    assert running.stderr is not None
    assert running.stderr.readline() == b"slow, request mine\n"
    wait_until((folder / "flows" / "slow.db").exists, "the flow has started")

    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=LIMIT)

    assert running.returncode == 130
    assert f"Interrupted. Go on with it: faasflow run slow --state-dir {folder} --id mine" in errors.decode()


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("anything at all", Written("anything at all")),
        ("INFO: not of ours", Written("INFO: not of ours")),
        ("{broken", Written("{broken")),
        ('{"json": 1}', Written('{"json": 1}')),
        ("ERROR shop: it broke", Written("it broke", "ERROR", "shop")),
        (
            'INFO flow=f request="o 1" node=a%20b attempt=2 stdout: hello',
            Written("hello", "INFO", "stdout", "o 1", "a%20b", 2),
        ),
        ("INFO flow=f request=r faasflow.engine.engine: x", Written("x", "INFO", "faasflow.engine.engine", "r")),
        ("INFO flow=f request=r node=n attempt=1 stdout:", Written("", "INFO", "stdout", "r", "n")),
    ],
)
def test_lines_are_taken_apart(line: str, written: Written) -> None:
    assert Written.of(line) == written


def test_a_later_attempt_is_named() -> None:
    assert Written("", node="a%20b", attempt=2).place == "a b (attempt 2)"
