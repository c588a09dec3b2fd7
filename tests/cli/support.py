"""Projects to run commands in, the command as a process, and the screen of a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

COMMAND = [sys.executable, "-m", "faasflow.cli"]
ROOT = Path(__file__).parents[2]
LIMIT = 60.0

ECHO = """
    def define(flow, context):
        flow.sync_node().modify(lambda data: data)
"""
CHAIN = """
    def define(flow, context):
        dag = flow.dag()
        dag.node("shout").apply("shout")
        dag.node("mark").modify(mark)
        dag.edge("shout", "mark")

    def mark(data):
        return data + b"!"
"""
SHOUT = """
    def handle(event, context):
        print("shouting", flush=True)
        return {"statusCode": 200, "body": event.body.upper()}
"""
BROKEN = """
    def define(flow, context):
        dag = flow.dag()
        dag.node("a").modify(print)
        dag.edge("a", "b")
"""


class Project:
    """A folder with a stack file that grows by one function at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = folder / "stack.yml"
        self._functions: dict[str, dict[str, Any]] = {}

    def flow(self, name: str, code: str, **settings: Any) -> Path:
        """Add a flow and give its handler file."""
        return self.function(name, code, lang="faas-flow", labels={"faas-flow": "1"}, **settings)

    def function(self, name: str, code: str, *, lang: str = "python3-http", **settings: Any) -> Path:
        handler = self.handler(name, code)
        self._functions[name] = {"lang": lang, "handler": f"./{name}", "image": f"{name}:latest", **settings}
        self.stack.write_text(yaml.safe_dump({"functions": self._functions}, sort_keys=False))
        return handler

    def handler(self, name: str, code: str) -> Path:
        """Write a handler file that no stack file lists."""
        handler = self.folder / name / "handler.py"
        handler.parent.mkdir(parents=True, exist_ok=True)
        handler.write_text(textwrap.dedent(code).lstrip("\n"))
        return handler

    def run(self, *arguments: str, data: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
        """Run the command to its end, with pipes around it."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=environment(variables),
            input=data,
            capture_output=True,
            timeout=LIMIT,
        )

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start the command, with pipes around it."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def on_terminal(self, *arguments: str, **variables: str) -> Terminal:
        """Start the command on a terminal of 80 columns."""
        return Terminal([*COMMAND, *arguments], self.folder, environment({"TERM": "xterm", **variables}))


class Terminal:
    """A command with a terminal as its input, output and error stream."""

    def __init__(self, command: list[str], folder: Path, variables: Mapping[str, str]) -> None:
        self._own, other = pty.openpty()
        self.output = b""
        self._child = subprocess.Popen(
            ["sh", "-c", 'stty cols 80 rows 24 && exec "$@"', "sh", *command],
            cwd=folder,
            env=variables,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)

    @property
    def pid(self) -> int:
        return self._child.pid

    def read(self) -> bool:
        """Take what was written; false when there is nothing more to come."""
        try:
            data = os.read(self._own, 65536)
        except OSError:  # the other side is closed
            return False
        self.output += data
        return bool(data)

    def read_until(self, text: str) -> None:
        """Take what is written up to `text`."""
        while text.encode() not in self.output:
            assert self.read(), f"It ended without {text!r}: {self.output.decode()}"

    def press_ctrl_c(self) -> None:
        self._child.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Wait for the end; the exit status."""
        while self.read():
            pass
        return self._child.wait(timeout=LIMIT)

    def close(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        os.close(self._own)

    @property
    def screen(self) -> list[str]:
        """The lines that are to be seen, without colours."""
        return screen(self.output.decode())


def screen(output: str, *, columns: int | None = None) -> list[str]:
    """What a terminal shows of `output`. It knows the few controls that are used: line ends, moving to the start of a
    line above, erasing what is below, colours. With `columns` longer lines are broken into several."""
    lines, row, column = [""], 0, 0
    parts = re.split(r"(\x1b\[[0-9;]*[A-Za-z]|\r|\n)", output)
    for part in parts if columns is None else _broken(parts, columns):
        if part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif found := re.fullmatch(r"\x1b\[(\d*)F", part):
            row, column = row - int(found[1] or 1), 0
        elif part == "\x1b[J":
            lines[row:] = [lines[row][:column]]
        elif not re.fullmatch(r"\x1b\[[0-9;]*m", part):
            assert "\x1b" not in part, part
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


def _broken(parts: Iterable[str], columns: int) -> Iterator[str]:
    column = 0
    for part in parts:
        if part.startswith(("\x1b", "\r", "\n")):
            column = column if part.endswith("m") or part == "\x1b[J" else 0
            yield part
            continue
        for character in part:
            if column == columns:
                column = 0
                yield "\n"
            column += 1
            yield character


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of this process without those that change what commands write, and others on top."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "OPENFAAS_URL", "COLUMNS")}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


def processes_in(folder: Path) -> list[str]:
    """The command lines of the processes that serve a handler below `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"{folder}/" in command and "faasflow.local.serve" in command:
            found.append(command)
    return found
