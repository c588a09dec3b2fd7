"""What `faasflow up` shows on a terminal: lines of functions with a time, and short enough to be read. Pure."""

from __future__ import annotations

import textwrap
from datetime import datetime

import click

from faasflow.cli.console import shortened
from faasflow.cli.look import Look
from faasflow.cli.written import Written
from faasflow.naming import readable_path

_LONGEST_ID = 8
_INDENT = "  "
_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


def short_lines(line: str, look: Look, now: datetime) -> list[str]:
    """A line of the gateway, or `[name] text` of a function, as lines that fit: `12:01:02 name 6gj2…kq1 node  text`.

    What a flow logs of itself is cut; what others write is wrapped, as nothing of it may get lost."""
    name, bracket, text = line.partition("] ")
    if not (line.startswith("[") and bracket):
        return _wrapped(look.clean(line), look, "")
    written = Written.of(text)
    where = [name[1:], *([shortened(written.request_id, _LONGEST_ID)] if written.request_id else [])]
    where += [written.place] if written.place else []
    start = f"{now:%H:%M:%S} {look.clean(' '.join(where))}  "
    said = look.clean(_said(written))
    lines = [look.cut(start + said)] if written.is_of_engine else _wrapped(start + said, look, _INDENT)
    painted = lines[0].removeprefix(start)
    return [_painted(start, "cyan", look) + _coloured(painted, written, look), *lines[1:]]


def _said(written: Written) -> str:
    if not written.is_of_engine:
        return written.introduced(written.text)
    # The place is said already.
    text = written.text.removeprefix(f"{written.node} ") if written.node else written.text
    return readable_path(text) if written.node and written.node in text else text


def _wrapped(text: str, look: Look, indent: str) -> list[str]:
    if look.width is None or len(text) <= look.width:
        return [text]
    return textwrap.wrap(
        text,
        look.width,
        subsequent_indent=indent or _INDENT,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    ) or [""]


def _coloured(text: str, written: Written, look: Look) -> str:
    colour = _COLOURS.get(written.level)
    if colour is not None:
        return _painted(text, colour, look)
    return look.faint(text) if written.is_of_engine else text


def _painted(text: str, colour: str, look: Look) -> str:
    return click.style(text, fg=colour) if look.has_colour else text
