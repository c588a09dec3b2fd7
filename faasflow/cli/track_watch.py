"""A request shown live: on a terminal its overview, written anew again and again; elsewhere a line for each change."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from faasflow.cli.console import note, show
from faasflow.cli.look import Look
from faasflow.cli.story import Story, is_closed
from faasflow.cli.track_rows import NodeRow, node_rows
from faasflow.cli.track_view import header_lines, overview_lines
from faasflow.errors import FaasflowError

if TYPE_CHECKING:
    from faasflow.cli.track import Tracked

_PAUSE, _LOOKS = 0.5, 3.0
_USUAL_HEIGHT = 24
_ERASE = "\r\x1b[J"
_UP_AND_ERASE = "\x1b[{}F\x1b[J"


def watch(tracked: Tracked, *, as_json: bool) -> Story:
    """Show a request until it has ended, and what it came to then. A gateway that is away for a while is waited for."""
    show_one = _Json() if as_json else _Screen() if _can_redraw() else _Lines()
    story = tracked.story()
    while True:
        show_one(story)
        if is_closed(story):
            return story
        story = _next(tracked, story)


def _next(tracked: Tracked, before: Story) -> Story:
    """The story after a moment, a longer one where it takes long to get."""
    from faasflow.cli.remote import RemoteError

    pause = _PAUSE
    while True:
        time.sleep(pause)
        began = time.monotonic()
        try:
            return tracked.story()
        except FaasflowError as error:
            if isinstance(error, RemoteError) and error.code < 500:
                raise
            note(f"{error.message} Asking again.") if pause == _PAUSE else None
        pause = min(10.0, max(2 * pause, _LOOKS * (time.monotonic() - began)))


class _Screen:
    """Draws the overview in place; the last one stays."""

    def __init__(self) -> None:
        self._drawn = 0

    def __call__(self, story: Story) -> None:
        look = Look.of(sys.stdout)
        lines = overview_lines(story, look, height=_height())
        erase = _UP_AND_ERASE.format(self._drawn) if self._drawn else _ERASE
        # Counted first: Ctrl-C may come right after the write.
        self._drawn = sum(_height_of(line, look) for line in lines)
        sys.stdout.write(erase + "".join(f"{line}\n" for line in lines))
        sys.stdout.flush()


class _Lines:
    """Writes a line for each node that stands otherwise than before, and for each state of the request."""

    def __init__(self) -> None:
        self._look = Look.of(sys.stdout)
        self._seen: dict[str, tuple[str, str]] = {}
        self._state = ""

    def __call__(self, story: Story) -> None:
        now = f"{datetime.fromtimestamp(story['now']):%H:%M:%S}"
        if not self._state:
            for line in header_lines(story, self._look):
                show(line)
        for row in node_rows(story):
            standing = (row.state, "" if row.state == "RUNNING" and not _counts(row) else row.details)
            if self._seen.get(row.path, ("WAITING", row.details)) != standing:
                show(f"{now}  {_text(row, self._look)}")
            self._seen[row.path] = standing
        if self._state not in ("", story["state"]):
            show(f"{now}  {story['state']}")
        self._state = story["state"]


class _Json:
    """Writes a story in one line, when it is another one than before."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, story: Story) -> None:
        same = json.dumps({**story, "now": 0})
        if same != self._last:
            show(json.dumps(story))
        self._last = same


def _text(row: NodeRow, look: Look) -> str:
    from faasflow.cli.console import duration

    took = duration(row.seconds) if row.seconds is not None and row.state in ("FINISHED", "FAILED") else ""
    details = f"({row.details})" if row.details else ""
    return " ".join(filter(None, [look.sign(row.state), look.clean(row.name), row.state, took, details]))


def _counts(row: NodeRow) -> bool:
    return "/" in row.details or "done" in row.details


def _height_of(line: str, look: Look) -> int:
    """How many lines the terminal makes of one."""
    return max(1, math.ceil(len(click.unstyle(line)) / look.width)) if look.width else 1


def _can_redraw() -> bool:
    return Look.of(sys.stdout).is_terminal and os.environ.get("TERM") != "dumb"


def _height() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).lines or _USUAL_HEIGHT
    except (OSError, ValueError):
        return _USUAL_HEIGHT
