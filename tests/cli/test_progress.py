"""What a terminal of 80 columns shows while a flow runs, and what stays on it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest

from faasflow.cli.progress import Progress
from tests.cli.support import CHAIN, ECHO, SHOUT, Project, Terminal, processes_in, screen

On = Callable[..., Terminal]

WIDE = """
    import pathlib, time

    def define(flow, context):
        dag = flow.dag()
        each = dag.foreach_branch("each", branches, aggregator=lambda results: str(len(results)))
        each.node("work").modify(lambda data: data)
        dag.node("last").modify(lambda data: data + b" branches")
        dag.edge("each", "last")

    def branches(data):
        return {str(number): "" for number in range(int(data))}
"""
SLOW = """
    import time

    def define(flow, context):
        dag = flow.dag()
        dag.node("first").modify(lambda data: data)
        dag.node("long").modify(lambda data: time.sleep(SECONDS))
        dag.edge("first", "long")
"""


class Watched(io.StringIO):
    """A terminal without a size."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def without_times(lines: list[str]) -> list[str]:
    """Lines with single spaces, every time a T and every request id an ID."""
    timed = [re.sub(r"\d+(\.\d)? m?s\b", "T", " ".join(line.split())) for line in lines]
    timed = [re.sub(r"^\d\d:\d\d:\d\d", "00:00:00", line) for line in timed]
    return [re.sub(r"request \w{20}", "request ID", line) for line in timed]


def test_a_line_stays_for_every_node_and_the_result_comes_last(project: Project, terminal: On) -> None:
    project.flow("chain", CHAIN)
    project.function("shout", SHOUT)

    shown = terminal("run", "chain", "--data", "hello")

    assert shown.end() == 0
    lines = without_times(shown.screen)
    assert "00:00:00 shout shouting" in lines
    assert [line for line in lines if "shouting" not in line] == [
        "chain, request ID",
        "✓ shout T",
        "✓ mark T",
        "FINISHED in T",
        "HELLO!",
    ]
    assert shown.output.endswith(b"HELLO!\r\n"), "a terminal's line is ended"


def test_what_runs_now_is_shown_and_goes_again(project: Project, terminal: On) -> None:
    project.flow("slow", SLOW.replace("SECONDS", "1.5"))

    shown = terminal("run", "slow")
    shown.read_until("running long")

    assert without_times(shown.screen)[:2] == ["slow, request ID", "✓ first T"]
    assert re.fullmatch(r"\S [\d.]+ m?s, running long", shown.screen[2])
    assert shown.end() == 0
    assert without_times(shown.screen) == ["slow, request ID", "✓ first T", "✓ long T", "FINISHED in T"]


def test_branches_share_a_line_that_counts_them(project: Project, terminal: On) -> None:
    project.flow("wide", WIDE)

    shown = terminal("run", "wide", "--data", "300")

    assert shown.end() == 0
    assert without_times(shown.screen) == [
        "wide, request ID",
        "✓ each/work 300 of 300 T",
        "✓ each 300 branches T",
        "✓ last T",
        "FINISHED in T",
        "300 branches",
    ]
    assert re.search(rb"\xc2\xb7\x1b\[0m each/work +\d+ of 300 ", shown.output), "and was counted up before"


def test_a_failure_is_marked_and_told_below(project: Project, terminal: On) -> None:
    project.flow("faulty", CHAIN)
    project.function("shout", "def handle(event, context):\n    return {'statusCode': 418, 'body': 'a teapot'}\n")

    shown = terminal("run", "faulty")

    assert shown.end() == 1
    assert without_times(shown.screen)[:4] == [
        "faulty, request ID",
        "✗ shout T",
        "FAILED in T",
        "faasflow: error: Node 'shout' failed in 'shout': CallError: Function 'shout' answered 418.",
    ]
    assert "hint: It said: a teapot" in shown.screen


def test_without_colour_there_is_none(project: Project, terminal: On) -> None:
    project.flow("echo", ECHO)

    shown = terminal("run", "echo", "--data", "a", NO_COLOR="1")

    assert shown.end() == 0
    assert not re.search(rb"\x1b\[[0-9;]*m", shown.output)
    assert without_times(shown.screen) == ["echo, request ID", "✓ sync T", "FINISHED in T", "a"]


def test_a_dumb_terminal_gets_no_controls_at_all(project: Project, terminal: On) -> None:
    project.flow("echo", ECHO)

    shown = terminal("run", "echo", "--data", "a", TERM="dumb")

    assert shown.end() == 0
    assert b"\x1b" not in shown.output
    assert len(shown.screen) == 4


def test_ctrl_c_clears_what_was_shown_for_now(project: Project, terminal: On) -> None:
    project.flow("slow", SLOW.replace("SECONDS", "60"))

    shown = terminal("run", "slow")
    shown.read_until("running long")
    shown.press_ctrl_c()

    assert shown.end() == 130
    assert without_times(shown.screen) == [
        "slow, request ID",
        "✓ first T",
        "Interrupted. Its state was temporary; --state-dir DIR would have kept it.",
    ]
    assert processes_in(project.folder) == []


def story(*nodes: dict[str, Any], state: str = "RUNNING") -> dict[str, Any]:
    return {"state": state, "created": 0.0, "ended": 3.0, "now": 2.0, "nodes": [*nodes]}


def node(path: str, ended: float = 1.0) -> dict[str, Any]:
    return {"path": path, "state": "FINISHED", "started": 0.0, "ended": ended}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setenv("TERM", "xterm")
    return Watched()


def test_no_line_is_wider_than_the_terminal(shown: Watched) -> None:
    plan = {name * 40: [] for name in ("first-", "second-", "third-")}
    with Progress(shown) as progress:
        progress.begin("flow", plan)
        progress.update(story(node("first-" * 40)))
        lines = screen(shown.getvalue())

    assert max(map(len, lines)) <= 76
    assert lines[1].startswith("✓ first-first-")
    assert "…" in lines[1]


def test_only_the_latest_lines_of_many_branches_are_shown(shown: Watched) -> None:
    plan: dict[str, list[str] | None] = {f"each/n{number}": None for number in range(20)}
    opened = {"path": "each", "branches": 2, "started": 0.0, "ended": 0.0}
    with Progress(shown) as progress:
        progress.begin("flow", plan)
        progress.update(story(opened, *(node(f"each/n{number}@0", number) for number in range(20))))
        lines = screen(shown.getvalue())

    assert len(lines) == 1 + 5 + 1


def test_what_the_engine_added_itself_is_not_shown(shown: Watched) -> None:
    with Progress(shown) as progress:
        progress.begin("flow", {"a": []})
        progress.update(story(node("a"), node("end_0")))
        progress.finish(story(node("a"), node("end_0"), node("$finally", 2.0), state="FINISHED"))

    assert without_times(screen(shown.getvalue())) == ["flow", "✓ a T", "✓ finally T", "FINISHED in T"]


def test_a_notice_stays_above_what_is_shown_for_now(shown: Watched) -> None:
    with Progress(shown) as progress:
        progress.begin("flow", {"a": [], "b": ["a"]})
        progress.update(story(node("a")))
        progress.say("a: the process ended")
        progress.update(story(node("a")))
        lines = screen(shown.getvalue())

    assert without_times(lines)[:3] == ["flow", "✓ a T", "a: the process ended"]
    assert lines[3].endswith("running b")


def test_what_is_no_terminal_gets_the_lines_that_stay() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.begin("flow", {"a": [], "b": ["a"]})
        progress.wait("anything")
        progress.update(story(node("a")))
        progress.update(story(node("a")))
        progress.finish(story(node("a"), node("b"), state="FINISHED"))

    assert without_times(stream.getvalue().splitlines()) == ["flow", "ok a T", "ok b T", "FINISHED in T"]


def test_what_is_no_terminal_is_told_every_ten_seconds_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faasflow.cli.progress._PLAIN_PAUSE", 0.0)
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.begin("flow", {"a": [], "b": ["a"]})
        progress.update(story(node("a")))

    assert without_times(stream.getvalue().splitlines()) == ["flow", "ok a T", "T, running b"]


def test_quiet_is_nothing_at_all(shown: Watched) -> None:
    with Progress(shown, is_quiet=True) as progress:
        progress.begin("flow", {"a": []})
        progress.update(story(node("a")))
        progress.finish(story(node("a"), state="FINISHED"))

    assert shown.getvalue() == ""


def test_many_branches_have_a_bar_a_rate_and_the_time_that_is_left(shown: Watched) -> None:
    opened = {"path": "each", "branches": 100, "started": 0.0, "ended": 0.0}
    with Progress(shown) as progress:
        progress.begin("flow", {"each": [], "each/" + "work" * 20: None})
        rows = [node("each", 0.0) | opened, *(node("each/" + "work" * 20 + f"@{n}") for n in range(40))]
        progress.update(story(*rows))
        line = screen(shown.getvalue())[1]

    assert line.split("  ")[-1] == "[####......] 20/s, 3.0 s left"
    assert "40 of 100" in line
    assert len(line) <= 76
