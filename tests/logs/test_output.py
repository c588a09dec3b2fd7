"""What a process writes, line by line: records, prints, and both at the same time."""

from __future__ import annotations

import contextvars
import io
import json
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from faasflow import logs
from faasflow.config import LogFormat, LogLevel
from faasflow.logs.form import LONGEST
from faasflow.scope import Scope, entered
from tests.support import wait_until

NODE = Scope("f", "r1", "n", 1)
START = "INFO flow=f request=r1 node=n attempt=1"


class Written:
    """What arrived at the real streams."""

    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()

    @property
    def records(self) -> list[Any]:
        return [json.loads(line) for line in self.err.getvalue().splitlines()]


@contextmanager
def written(form: LogFormat, level: LogLevel = LogLevel.INFO, *, in_one: bool = False) -> Iterator[Written]:
    """What is written within a `with`; both streams are the same one with `in_one`."""
    streams = Written()
    if in_one:
        streams.err = streams.out
    with redirect_stdout(streams.out), redirect_stderr(streams.err), logs.configured(level, form):
        yield streams


TEXT, JSON = LogFormat.TEXT, LogFormat.JSON


def test_a_print_in_pieces_is_one_line() -> None:
    with written(TEXT) as log, entered(NODE):
        print("a", end="", flush=True)
        print("b", "c", sep="-")

    assert log.lines == [f"{START} stdout: ab-c"]


def test_a_print_outside_of_requests_passes_as_it_is() -> None:
    with written(TEXT) as log:
        print("\x1b[31mred\x1b[0m")

    assert log.lines == ["\x1b[31mred\x1b[0m"]


def test_a_print_outside_of_requests_is_json_all_the_same() -> None:
    with written(JSON) as log:
        print("a", file=sys.stderr)

    [record] = log.records
    assert (record["logger"], record["level"], record["message"]) == ("stderr", "info", "a")


def test_a_print_cannot_forge_a_line() -> None:
    with written(TEXT) as log, entered(NODE):
        print("a\r\nb\rERROR flow=f request=r2 mine: c\x1b[2K\u2028d")

    assert log.lines == [
        f"{START} stdout: a",
        f"{START} stdout: b\\rERROR flow=f request=r2 mine: c\\x1b[2K\\u2028d",
    ]


def test_a_line_that_does_not_end_is_written_after_a_moment() -> None:
    with written(TEXT) as log:
        with entered(NODE):
            print("a", end="")
        at_once = log.lines
        wait_until(lambda: log.lines, "the line to be written")

    assert (at_once, log.lines) == ([], [f"{START} stdout: a"])


def test_a_line_that_does_not_end_is_written_before_its_thread_works_for_something_else() -> None:
    with written(TEXT) as log:
        with entered(NODE):
            print("a", end="")
        print("b")

    assert log.lines == [f"{START} stdout: a", "b"]


def test_a_line_that_does_not_end_is_written_before_a_record() -> None:
    with written(TEXT, in_one=True) as log, entered(NODE):
        print("a", end="")
        logging.getLogger("mine").info("b")

    assert log.lines == [f"{START} stdout: a", f"{START} mine: b"]


def test_a_line_that_does_not_end_is_written_at_the_end() -> None:
    with written(TEXT) as log, entered(NODE):
        print("a", end="")
        at_once = log.lines

    assert (at_once, log.lines) == ([], [f"{START} stdout: a"])


def test_a_very_long_line_is_broken_and_every_part_is_marked() -> None:
    with written(TEXT) as log, entered(NODE):
        print("a" * (2 * LONGEST + 5))

    start = f"{START} stdout: "
    assert [len(line.removeprefix(start)) for line in log.lines] == [LONGEST, LONGEST, 5]


def test_a_very_long_line_that_never_ends_is_not_kept() -> None:
    with written(TEXT) as log, entered(NODE):
        sys.stdout.write("a" * (LONGEST + 5))
        at_once = log.lines

    assert at_once == [f"{START} stdout: " + "a" * LONGEST]
    assert log.lines[1:] == [f"{START} stdout: aaaaa"]


def test_prints_of_many_threads_do_not_mix() -> None:
    with written(TEXT) as log:

        def work(number: int) -> None:
            with entered(Scope("f", f"r{number}", "n", 1)):
                for part in range(50):
                    for piece in ("<", f"r{number}", "-", str(part), ">"):
                        print(piece, end="", flush=True)
                    print()

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))
        wanted = [
            f"INFO flow=f request=r{number} node=n attempt=1 stdout: <r{number}-{part}>"
            for number in range(16)
            for part in range(50)
        ]

    assert Counter(log.lines) == Counter(wanted)


def test_a_thread_that_runs_in_a_copy_of_the_context_is_marked_too() -> None:
    with written(TEXT) as log, entered(NODE):
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(print, "a"))
        thread.start()
        thread.join()

    assert log.lines == [f"{START} stdout: a"]


def test_a_forked_child_writes_what_it_prints_and_nothing_of_its_parent(tmp_path: Path) -> None:
    file = tmp_path / "out"
    with file.open("w") as out, redirect_stdout(out), logs.configured(LogLevel.INFO, TEXT), entered(NODE):
        print("begun ", end="")
        child = os.fork()
        if not child:
            print("in the child", end="", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print("and ended")

    assert file.read_text().splitlines() == [f"{START} stdout: in the child", f"{START} stdout: begun and ended"]


def test_the_stream_answers_like_the_one_it_stands_for(tmp_path: Path) -> None:
    file = tmp_path / "out"
    with file.open("w", encoding="ascii") as out, redirect_stdout(out), logs.configured(LogLevel.INFO, TEXT):
        stream: Any = sys.stdout
        print("\u00e4")
        stream.writelines(["a\n", "b\n"])
        found = (stream.fileno(), stream.isatty(), stream.encoding, stream.buffer, stream.writable(), stream.name)
        wanted = (out.fileno(), False, "ascii", out.buffer, True, out.name)
        with pytest.raises(TypeError, match="must be str, not bytes"):
            stream.write(b"a")

    assert found == wanted
    assert file.read_text() == "\\u00e4\na\nb\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_stays_json_where_a_stream_cannot_encode_all(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with redirect_stdout(stream), logs.configured(LogLevel.INFO, LogFormat.JSON):
        print("ü € 😀")

    assert json.loads(stream.buffer.getvalue().decode(encoding))["message"] == "ü € 😀"


@pytest.mark.parametrize("form", [TEXT, LogFormat.JSON])
def test_a_process_without_standard_streams_prints_and_logs_nowhere(
    form: LogFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with logs.configured(LogLevel.INFO, form):
        print("printed", flush=True)
        print("in pieces", end="", file=sys.stderr)
        logging.getLogger("shop").info("logged")

    assert (sys.stdout, sys.stderr) == (None, None)


def test_records_are_marked_and_those_below_the_level_are_left_out() -> None:
    with written(JSON) as log:
        mine = logging.getLogger("mine")
        with entered(NODE):
            mine.info("Got %d.", 3)
            mine.debug("More.")

    [record] = log.records
    assert record | {"time": ""} == {
        "time": "",
        "level": "info",
        "logger": "mine",
        "message": "Got 3.",
        "flow": "f",
        "request": "r1",
        "node": "n",
        "attempt": 1,
    }


@pytest.mark.parametrize(
    ("level", "names"),
    [
        (LogLevel.DEBUG, ["DEBUG", "INFO", "WARNING", "ERROR"]),
        (LogLevel.INFO, ["INFO", "WARNING", "ERROR"]),
        (LogLevel.WARNING, ["WARNING", "ERROR"]),
        (LogLevel.ERROR, ["ERROR"]),
    ],
)
def test_the_level_says_what_is_written(level: LogLevel, names: list[str]) -> None:
    with written(TEXT, level) as log:
        for name in ("DEBUG", "INFO", "WARNING", "ERROR"):
            logging.getLogger("mine").log(getattr(logging, name), "x")

    assert [line.split()[0] for line in log.err.getvalue().splitlines()] == names


@pytest.mark.parametrize("name", ["urllib3.connectionpool", "waitress", "werkzeug", "nats.aio", "jaeger_tracing"])
def test_libraries_tell_only_what_is_wrong_at_every_level(name: str) -> None:
    with written(TEXT, LogLevel.DEBUG) as log:
        logging.getLogger(name).debug("https://user:password@example.com")
        logging.getLogger(name).info("connected")
        logging.getLogger(name).warning("lost")

    assert log.err.getvalue() == f"WARNING {name}: lost\n"


def test_a_traceback_is_one_line_of_json() -> None:
    with written(JSON) as log:
        try:
            {}["é\nx"]
        except KeyError:
            logging.getLogger("mine").exception("Oh\nno.")

    [record] = log.records
    assert record["message"] == "Oh\nno."
    assert record["traceback"].splitlines()[0] == "Traceback (most recent call last):"
    assert record["traceback"].endswith("KeyError: 'é\\nx'")


def test_what_ends_a_thread_is_one_record() -> None:
    with written(JSON) as log:
        thread = threading.Thread(target=lambda: 1 / 0, name="mine")
        thread.start()
        thread.join()

    [record] = log.records
    assert record["message"] == "Thread 'mine' ended with ZeroDivisionError."
    assert record["traceback"].endswith("ZeroDivisionError: division by zero")


def test_everything_is_as_before_afterwards() -> None:
    before = (sys.stdout, sys.stderr, logging.root.level, [*logging.root.handlers], threading.excepthook)
    with logs.configured(LogLevel.ERROR, LogFormat.JSON):
        pass

    assert (sys.stdout, sys.stderr, logging.root.level, logging.root.handlers, threading.excepthook) == before
