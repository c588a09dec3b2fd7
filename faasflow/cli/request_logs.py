"""The log lines that belong to a request: gateways keep logs by function, and say nothing of requests.

Lines that carry the request's id are its own. Of a function that writes no ids it is the time that tells: all lines
of that time are shown, but those that carry the id of another request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faasflow.errors import FaasflowError

if TYPE_CHECKING:
    from faasflow.cli.remote import LogLine, Remote

BEFORE, AFTER = 0.25, 1.0
"""Seconds by which a line may be earlier or later than what it is about: clocks differ, and lines take their time."""

_REQUEST = re.compile(r"""\brequest(?:=|"\s*:\s*)("(?:[^"\\]|\\.)*"|[^\s,}]+)""")
_VALUE = r'("(?:[^"\\]|\\.)*"|\S+)'
_FIELDS = re.compile(rf"\bflow={_VALUE} request={_VALUE} (?:node={_VALUE} (?:attempt=\d+ )?)?")
"""How a line of a flow begins, behind its level."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is asked for: the lines of a request between two times, in seconds since the epoch; of those that name
    nodes, only those of `node`."""

    request_id: str
    start: float
    end: float
    node: str = ""


def lines_in(remote: Remote, name: str, window: Window) -> list[LogLine]:
    """The lines of function `name` that belong to a request; `FaasflowError` if its log cannot be had."""
    found: list[LogLine] = []
    for line in remote.logs(name, since=window.start - BEFORE):
        if line.time > window.end + AFTER:
            break
        found.append(line)
    return own_lines(found, window.request_id, node=window.node)


def own_lines(lines: Sequence[LogLine], request_id: str, *, node: str = "") -> list[LogLine]:
    """Those that carry the id of a request, and of these the ones that name `node` if any does; where none carries the
    id, all that carry no other one's."""
    whole = re.compile(rf"(?<![\w-]){re.escape(request_id)}(?![\w-])")
    marks = [(line, _mark(line.text)) for line in lines]
    own = [(line, mark) for line, mark in marks if (mark[0] == request_id if mark else whole.search(line.text))]
    if own:
        named = [line for line, mark in own if node and mark and mark[1] == node]
        return named or [line for line, _ in own]
    return [line for line in lines if not _REQUEST.search(line.text)]


def without_fields(text: str) -> str:
    """A line of a flow without the fields that say what it belongs to."""
    return _FIELDS.sub("", text, count=1)


def _mark(text: str) -> tuple[str, str] | None:
    """Request and node that a line of a flow is marked with; `None` for one that is not, or not so."""
    if "{" in text and (mark := _json_mark(text[text.index("{") :])):
        return mark
    found = _FIELDS.search(text)
    return (_unquoted(found[2]), _unquoted(found[3] or "")) if found else None


def _json_mark(text: str) -> tuple[str, str] | None:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return (
        (str(row["request"]), str(row.get("node", "")))
        if isinstance(row, dict) and "flow" in row and "request" in row
        else None
    )


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return value


def merged(remote: Remote, names: Iterable[str], window: Window) -> tuple[list[LogLine], list[FaasflowError]]:
    """The lines of several functions by time, and why some could not be had."""
    found: list[LogLine] = []
    failed: list[FaasflowError] = []
    for name in dict.fromkeys(names):
        try:
            found += lines_in(remote, name, window)
        except FaasflowError as error:
            error.message = f"{name}: {error.message}"
            failed.append(error)
    return sorted(found, key=lambda line: line.time), failed
