"""Reads a console block into steps, and tells whether what a command wrote is what the page shows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.docs.pages import PageError


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a console block and what the page says comes of it."""

    command: str
    line: int
    expected: str
    status: int
    in_background: bool

    def fits(self, output: str, *, so_far: bool = False) -> bool:
        """Whether `output` is the expected one; with `so_far` more may follow."""
        pattern = "".join(map(_line_pattern, self.expected.splitlines()))
        return bool((re.match if so_far else re.fullmatch)(pattern, _tidy(output)))


def read_console(text: str, line: int) -> list[Step]:
    """The steps of a console block that starts at `line`."""
    chunks = re.split(r"^\$ ", text, flags=re.MULTILINE)
    if chunks[0].strip() or len(chunks) == 1:
        raise PageError(line, "A console block starts with '$ ' and a command.")
    steps, at = [], line + chunks[0].count("\n")
    for chunk in chunks[1:]:
        steps.append(_read_step(chunk, at))
        at += chunk.count("\n")
    return steps


def _read_step(chunk: str, line: int) -> Step:
    rows = chunk.splitlines()
    command = rows.pop(0)
    while rows and (command.endswith("\\") or rows[0].startswith("> ")):
        command += "\n" + rows.pop(0).removeprefix("> ")
    found = re.search(r"\s+# exits (\d+)$", command)
    command = command[: found.start()] if found else command
    return Step(
        command=command.removesuffix("&").strip(),
        line=line,
        expected=_tidy("\n".join(rows)),
        status=int(found[1]) if found else 0,
        in_background=command.endswith("&"),
    )


def _tidy(output: str) -> str:
    text = "\n".join(row.rstrip() for row in output.splitlines()).strip("\n")
    return text + "\n" if text else ""


def _line_pattern(line: str) -> str:
    if line.strip() == "...":
        return r"(?:[^\n]*\n)*?"
    parts, end = [], 0
    for found in _MOVING.finditer(line):
        parts += [re.escape(line[end : found.start()]), _ANY[found.lastgroup or ""]]
        end = found.end()
    return "".join([*parts, re.escape(line[end:]), r"\n"])


# What differs from run to run, and how wide the columns around it are.
_ANY = {
    "text": r"[^\n]*?",
    "date": r"\d{4}-\d\d-\d\d",
    "time": r"\d\d:\d\d:\d\d(?:\.\d+)?",
    "length": r"(?:\d+ h \d\d m|\d+ m \d\d s|\d+(?:\.\d+)? m?s)\b",
    "columns": r"(?<=\S) {2,}(?=\S)",
}
_MOVING = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in {**_ANY, "text": r"\.\.\."}.items()))
