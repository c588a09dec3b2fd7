"""`faasflow run` brings one request of a flow to its end and leaves nothing behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.cli.support import CHAIN, COMMAND, ECHO, LIMIT, SHOUT, Project, processes_in
from tests.support import wait_until

Run = Callable[..., Result]

SLEEPY = """
    import time, pathlib

    def define(flow, context):
        dag = flow.dag()
        dag.node("first").modify(mark)
        dag.node("long").modify(lambda data: time.sleep(60))
        dag.edge("first", "long")

    def mark(data):
        pathlib.Path("first-is-done").touch()
"""


@pytest.fixture
def chain(project: Project) -> Project:
    project.flow("chain", CHAIN)
    project.function("shout", SHOUT)
    return project


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary ones."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def test_a_synchronous_flow_is_run(faasflow: Run, project: Project) -> None:
    project.flow("echo", ECHO)

    result = faasflow("run", "echo", "--data", "hello")

    assert (result.exit_code, result.stdout) == (0, "hello")
    id, node, end = result.stderr.splitlines()
    assert re.fullmatch("echo, request [0-9a-v]{20}", id)
    assert node.startswith("✓ sync ")
    assert end.startswith("FINISHED in ")


def test_an_asynchronous_flow_is_run_with_the_functions_it_calls(faasflow: Run, chain: Project) -> None:
    result = faasflow("run", "chain", "--data", "hello")

    assert (result.exit_code, result.stdout) == (0, "HELLO!")


def test_only_what_is_called_is_started(faasflow: Run, chain: Project) -> None:
    chain.function("bystander", 'import pathlib\npathlib.Path("started").touch()\ndef handle(event, context): ...\n')

    assert faasflow("run", "chain").exit_code == 0
    assert not (chain.folder / "started").exists()


def test_the_result_reaches_a_pipe_byte_for_byte_and_nothing_else_does(project: Project) -> None:
    data = bytes(range(256)) * 1000
    project.flow("echo", "print('loaded')\n" + ECHO.replace("\n    ", "\n"))

    ended = project.run("run", "echo", "--quiet", data=data)

    assert ended.returncode == 0
    assert ended.stdout == data
    assert ended.stderr == b""


def test_the_body_is_text_or_a_file_or_nothing(faasflow: Run, project: Project) -> None:
    project.flow("echo", ECHO)
    (project.folder / "body.bin").write_bytes(b"\xff\x00")

    assert faasflow("run", "echo", "--data", "grüße").stdout_bytes == "grüße".encode()
    assert faasflow("run", "echo", "--data", "@body.bin").stdout_bytes == b"\xff\x00"
    assert faasflow("run", "echo", "--data", "", data=b"unread").stdout_bytes == b""


def test_the_flow_is_given_its_query_and_its_id(faasflow: Run, project: Project) -> None:
    project.flow(
        "asked",
        """
        def define(flow, context):
            flow.sync_node().modify(lambda data: f"{context.query['a']} {context.query['b']} {context.request_id}")
        """,
    )

    result = faasflow("run", "asked", "--query", "a=1 & 2", "--query", "b=ü", "--id", "of/my own ü")

    assert result.stdout == "1 & 2 ü of/my own ü"


def test_json_tells_the_whole_story(faasflow: Run, chain: Project) -> None:
    result = faasflow("run", "chain", "--data", "hello", "--id", "mine", "--json")

    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (told["flow"], told["request_id"], told["state"]) == ("chain", "mine", "FINISHED")
    assert (told["result"], told["result_encoding"], told["failure"]) == ("HELLO!", "text", None)
    assert [(node["path"], node["state"]) for node in sorted(told["nodes"], key=lambda node: node["ended"])] == [
        ("shout", "FINISHED"),
        ("mark", "FINISHED"),
    ]


@pytest.mark.parametrize(
    ("data", "result", "encoding"),
    [
        ('{"a": [1]}', {"a": [1]}, "json"),
        ('"quoted"', "quoted", "json"),
        ("text", "text", "text"),
        ("", "", "text"),
    ],
)
def test_json_shows_a_result_as_what_it_holds(
    faasflow: Run, project: Project, data: str, result: object, encoding: str
) -> None:
    project.flow("echo", ECHO)

    told = json.loads(faasflow("run", "echo", "--data", data, "--json").stdout)

    assert (told["result"], told["result_encoding"]) == (result, encoding)


def test_json_shows_bytes_as_base64(faasflow: Run, project: Project) -> None:
    project.flow("echo", ECHO)

    told = json.loads(faasflow("run", "echo", "--json", data=b"\xff\x00").stdout)

    assert (told["result"], told["result_encoding"]) == ("/wA=", "base64")


def test_a_failed_function_is_told_with_what_it_said_and_wrote(faasflow: Run, chain: Project) -> None:
    chain.function(
        "shout", 'def handle(event, context):\n    print("about to fail")\n    raise ValueError("too loud")\n'
    )

    result = faasflow("run", "chain", "--quiet")

    assert (result.exit_code, result.stdout) == (1, "")
    error, hint, heading, *log = result.stderr.splitlines()
    assert error == "faasflow: error: Node 'shout' failed in 'shout': CallError: Function 'shout' answered 500."
    assert hint == "hint: It said: ValueError: too loud"
    assert heading == "  shout wrote:"
    assert log[-1] == "  ValueError: too loud"


def test_failed_code_is_told_with_its_own_lines(faasflow: Run, project: Project) -> None:
    project.flow(
        "faulty",
        """
        def define(flow, context):
            flow.sync_node().modify(read)

        def read(data: dict):
            return data["name"]
        """,
    )

    result = faasflow("run", "faulty", "--data", "{}", "-q")

    assert (result.exit_code, result.stdout) == (1, "")
    error, place, line, *marks = result.stderr.splitlines()
    assert error == "faasflow: error: Node 'sync' failed in 'read': KeyError: 'name'"
    assert place == f'  File "{project.folder}/faulty/handler.py", line 5, in read'
    assert line == '    return data["name"]'
    assert len(marks) <= 1


def test_what_on_failure_and_finally_do_is_waited_for(faasflow: Run, project: Project) -> None:
    project.flow(
        "faulty",
        """
        import pathlib, time

        def define(flow, context):
            dag = flow.dag()
            dag.node("a").modify(lambda data: data)
            dag.node("b").modify(lambda data: 1 / 0)
            dag.edge("a", "b")
            flow.on_failure(lambda error: "sorry")
            flow.finally_(tidy)

        def tidy(state):
            time.sleep(0.5)
            pathlib.Path("tidied").write_text(state)
        """,
    )

    result = faasflow("run", "faulty")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == "on_failure answered: sorry"
    assert (project.folder / "tidied").read_text() == "failure"


def test_json_of_a_failure_has_what_on_failure_returned(faasflow: Run, project: Project) -> None:
    project.flow(
        "faulty",
        """
        def define(flow, context):
            flow.sync_node().modify(lambda data: 1 / 0)
            flow.on_failure(lambda error: {"sorry": True})
        """,
    )

    result = faasflow("run", "faulty", "--json")

    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (told["state"], told["result"], told["failure"]["error_type"]) == (
        "FAILED",
        {"sorry": True},
        "ZeroDivisionError",
    )
    assert "on_failure answered" not in result.stderr


def test_a_function_that_is_not_there_is_told_before_anything_runs(faasflow: Run, project: Project) -> None:
    project.flow("chain", SLEEPY.replace(".modify(lambda data: time.sleep(60))", '.apply("shuot")'))
    project.function("shout", SHOUT)

    result = faasflow("run", "chain")

    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"faasflow: error: Node 'long' calls function 'shuot', which is not in {project.stack}.",
        "hint: Add it there, or name another stack file with -f.",
    ]
    assert not (project.folder / "first-is-done").exists()


def test_a_flow_without_a_stack_file_is_run(faasflow: Run, project: Project) -> None:
    project.handler("apart", ECHO)

    assert faasflow("run", "apart", "--data", "a").stdout == "a"
    assert faasflow("run", "apart/handler.py", "--data", "b").stdout == "b"


def test_a_flow_without_a_stack_file_cannot_call_functions(faasflow: Run, project: Project) -> None:
    project.handler("apart", CHAIN)

    result = faasflow("run", "apart")

    assert result.exit_code == 1
    assert "Node 'shout' calls function 'shout', and there is no stack file that has it." in result.stderr
    assert "hint: Put a stack.yml with it beside the flow or above" in result.stderr


def test_functions_of_a_handler_file_come_from_the_nearest_stack_file(faasflow: Run, chain: Project) -> None:
    chain.handler("nested/deeper", CHAIN)

    assert faasflow("run", "nested/deeper/handler.py", "--data", "a").stdout == "A!"


def test_a_broken_flow_is_told_with_its_line(faasflow: Run, project: Project) -> None:
    project.flow("broken", "def define(flow, context):\n    flow.dag().edge('a', 'b')\n")

    result = faasflow("run", "broken")

    assert result.exit_code == 1
    assert result.stderr.startswith("faasflow: error: Flow 'broken': DAG 'root': Edge 'a' to 'b' names node 'a'")
    assert "(handler.py:2)" in result.stderr


def test_a_flow_that_wants_signed_requests_is_run(faasflow: Run, project: Project) -> None:
    settings = {"authenticate_request": "true"}
    project.flow("echo", ECHO, environment=settings)

    assert faasflow("run", "echo", "--data", "hello").stdout == "hello"


def test_nothing_is_left_when_a_flow_has_ended(faasflow: Run, chain: Project, temporary: Path) -> None:
    assert faasflow("run", "chain").exit_code == 0

    assert list(temporary.iterdir()) == []
    assert processes_in(chain.folder) == []
    assert sorted(file.name for file in chain.folder.iterdir()) == ["chain", "shout", "stack.yml"]


def test_a_state_folder_that_is_given_is_kept(faasflow: Run, project: Project, temporary: Path) -> None:
    project.flow("echo", ECHO)

    first = faasflow("run", "echo", "--state-dir", "kept", "--id", "one", "--data", "a", "--json")
    again = faasflow("run", "echo", "--state-dir", "kept", "--id", "one", "--data", "a", "--json")

    assert (project.folder / "kept" / "flows" / "echo.db").exists()
    assert json.loads(first.stdout) | {"now": 0} == json.loads(again.stdout) | {"now": 0}
    assert list(temporary.iterdir()) == []


def test_a_flow_that_does_not_end_in_time_is_given_up(faasflow: Run, project: Project, temporary: Path) -> None:
    project.flow("sleepy", SLEEPY)

    result = faasflow("run", "sleepy", "--timeout", "3s")

    assert result.exit_code == 1
    assert "faasflow: error: Flow 'sleepy' did not end in time. Running: long." in result.stderr.splitlines()
    assert list(temporary.iterdir()) == []
    assert processes_in(project.folder) == []


def test_a_flow_whose_process_dies_again_and_again_is_told_so(faasflow: Run, project: Project) -> None:
    project.flow("dying", SLEEPY.replace("time.sleep(60)", "__import__('os')._exit(7)"))

    result = faasflow("run", "dying", "--timeout", "4s")

    assert result.exit_code == 1
    assert "hint: dying: the process ended with exit code 7" in result.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_everything_at_once(project: Project, temporary: Path, number: int, status: int) -> None:
    project.flow("sleepy", SLEEPY)
    running = project.start("run", "sleepy", TMPDIR=str(temporary))
    wait_until((project.folder / "first-is-done").exists, "the first node has run")
    assert processes_in(project.folder)

    sent = time.monotonic()
    running.send_signal(number)
    output, errors = running.communicate(timeout=LIMIT)

    assert running.returncode == status
    assert time.monotonic() - sent < 10
    assert output == b""
    assert (b"Interrupted." in errors) == (number is signal.SIGINT)
    assert processes_in(project.folder) == []
    assert list(temporary.iterdir()) == []


def test_a_second_ctrl_c_does_not_leave_things_half_done(project: Project, temporary: Path) -> None:
    project.flow("sleepy", SLEEPY)
    running = project.start("run", "sleepy", TMPDIR=str(temporary))
    wait_until((project.folder / "first-is-done").exists, "the first node has run")

    running.send_signal(signal.SIGINT)
    while running.poll() is None:
        running.send_signal(signal.SIGINT)
        time.sleep(0.01)
    running.communicate()

    assert running.returncode in (130, -signal.SIGINT), "the last one may come after the cleaning up"
    assert processes_in(project.folder) == []
    assert list(temporary.iterdir()) == []


def test_the_functions_end_with_a_run_that_is_killed(project: Project, temporary: Path) -> None:
    project.flow("sleepy", SLEEPY)
    running = project.start("run", "sleepy", TMPDIR=str(temporary))
    wait_until((project.folder / "first-is-done").exists, "the first node has run")

    running.kill()
    running.communicate()

    wait_until(lambda: processes_in(project.folder) == [], "the functions have ended")


def test_two_runs_side_by_side_do_not_meet(project: Project) -> None:
    project.flow("chain", CHAIN)
    project.function("shout", SHOUT)

    both = [project.start("run", "chain", "--data", text) for text in ("a", "b")]

    assert [one.communicate(timeout=LIMIT)[0] for one in both] == [b"A!", b"B!"]


def test_a_result_can_be_piped_into_the_next_flow(project: Project) -> None:
    project.flow("chain", CHAIN)
    project.function("shout", SHOUT)
    first = project.start("run", "chain", "--data", "a")

    second = subprocess.run(
        [*COMMAND, "run", "chain"],
        cwd=project.folder,
        stdin=first.stdout,
        capture_output=True,
        timeout=LIMIT,
    )
    first.communicate()

    assert second.stdout == b"A!!"
