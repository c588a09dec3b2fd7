"""Adds a function to the text of a stack file and leaves every other byte of it as it was, comments and all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from faasflow.errors import FaasflowError

NEW_STACK = """\
version: 1.0
provider:
  name: openfaas
  gateway: http://127.0.0.1:8080

"""


class StackTextError(FaasflowError, ValueError):
    """A stack file to which nothing can be added as text."""


@dataclass(frozen=True, slots=True)
class _Place:
    """An entry goes before line `line` (from 0), its name `indent` columns in, below `header` if there is one."""

    line: int
    indent: int
    header: str = ""
    follows_entry: bool = False


def add_function(text: str, name: str, entry: str) -> str:
    """`text` with an entry for `name` under `functions:`, whose settings are the lines of `entry`. `StackTextError` if
    there is one already, or if the text is not what a stack file is."""
    before = _parse(text)
    functions = before.get("functions") or {}
    if not isinstance(functions, dict):
        raise StackTextError("'functions' is not a map of names to functions.", hint="Correct the stack file first.")
    if name in functions:
        raise StackTextError(f"Function {name!r} exists already.", hint="Choose another name, or remove the entry.")
    changed = _inserted(text, _place(text), name, entry)
    if not _is_added(before, changed, name, entry):
        raise StackTextError(
            f"The layout of the file leaves no safe place for function {name!r}.",
            hint="Add it by hand:\n" + "\n".join(_lines(name, entry, 2)),
        )
    return changed


def _parse(text: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as exc:
        raise StackTextError(f"It is not valid YAML: {exc}", hint="Correct the stack file first.") from exc
    if not isinstance(document, dict):
        raise StackTextError("It is not a map with 'functions'.", hint="Correct the stack file first.")
    return document


def _place(text: str) -> _Place:
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    for key, value in pairs:
        if key.value == "functions":
            return _place_in(lines, key, value)
    return _Place(len(lines), 2, header="functions:", follows_entry=bool(lines))


def _place_in(lines: list[str], key: yaml.Node, value: yaml.Node) -> _Place:
    if not isinstance(value, yaml.MappingNode) or not value.value or value.flow_style:
        return _Place(key.start_mark.line + 1, key.start_mark.column + 2)
    line = value.end_mark.line if value.end_mark.column == 0 else value.end_mark.line + 1
    line = min(line, len(lines))
    # Blank lines and comments at the margin in front of what follows belong to that.
    while line < len(lines) and _is_margin(lines[line - 1]):
        line -= 1
    return _Place(line, value.value[0][0].start_mark.column, follows_entry=True)


def _is_margin(line: str) -> bool:
    return not line.strip() or line.startswith("#")


def _inserted(text: str, place: _Place, name: str, entry: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    head, tail = lines[: place.line], lines[place.line :]
    if head and not head[-1].endswith("\n"):
        head[-1] += newline
    added = [place.header] if place.header else []
    added += _lines(name, entry, place.indent)
    if place.follows_entry and head and head[-1].strip():
        added.insert(0, "")
    return "".join([*head, *(line + newline for line in added), *tail])


def _lines(name: str, entry: str, indent: int) -> list[str]:
    return [" " * indent + f"{name}:", *(" " * (indent + 2) + line for line in entry.splitlines())]


def _is_added(before: dict[str, Any], changed: str, name: str, entry: str) -> bool:
    """Whether `changed` says what `before` says, and the new entry, and nothing else."""
    try:
        after = yaml.safe_load(changed)
    except yaml.YAMLError:
        return False
    functions = {**(before.get("functions") or {}), name: yaml.safe_load(entry)}
    return bool(after == {**before, "functions": functions})
