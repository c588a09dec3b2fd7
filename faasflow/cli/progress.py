"""Shows on a terminal how a run gets on: a line for every node that is done, and below them what is going on now, which
is written anew again and again. Branches of a foreach share one line.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Self, TextIO
from urllib.parse import unquote

from faasflow.cli.console import duration, is_terminal, mark, shortened
from faasflow.cli.story import Row, Story, rows, running
from faasflow.engine.lifecycle import RequestState

_DEFAULT_WIDTH = 80
_NARROWEST, _WIDEST = 40, 120
_MARGIN = 4  # for what a terminal shows of Ctrl-C
_SHORTEST_NAME = 10
_SHOWN = 5
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_SPINNER = "|/-\\"
_UP_AND_ERASE = "\x1b[{}F\x1b[J"
_ERASE = "\r\x1b[J"


class Progress:
    """The progress of one request. What is no terminal gets nothing, and a terminal that cannot move its cursor
    (`TERM=dumb`) only the lines that stay. At the end of a `with` what was there only for now is removed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._plan: Mapping[str, Sequence[str] | None] = {}
        self._began = time.monotonic()
        self._seen: set[str] = set()
        self._drawn = 0
        self._is_shown = is_terminal(stream)
        self._moves = os.environ.get("TERM") != "dumb"
        # What the gateway has to say comes from threads of its own.
        self._lock = threading.Lock()
        self._spinner = itertools.cycle(_SPINNER if _can_show(_SPINNER, stream) else _PLAIN_SPINNER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._draw([], [])

    def begin(self, line: str, waits_for: Mapping[str, Sequence[str] | None]) -> None:
        """Show a first line. The nodes that will follow, and what each waits for, are those of `waits_for`."""
        self._plan = waits_for
        self.say(line)

    def wait(self, what: str) -> None:
        """Show that something is waited for."""
        spent = duration(time.monotonic() - self._began)
        self._draw([], [f"{next(self._spinner)} {spent}, {what}"])

    def update(self, story: Story) -> None:
        """Show a story: the nodes that are done since the last one, and what is going on."""
        found = self._rows(story)
        fresh = sorted((row for row in found if row.is_complete), key=lambda row: row.ended)
        self._seen.update(row.path for row in fresh)
        under_way = [self._line(row, "pending") for row in found if not row.is_complete]
        self._draw([self._line(row, "good") for row in fresh], [*under_way[-_SHOWN:], self._status(story)])

    def finish(self, story: Story) -> None:
        """Show what is left of the last story, and its state."""
        has_all = story["state"] == RequestState.FINISHED
        left = sorted(self._rows(story), key=lambda row: row.ended)
        lines = [self._line(row, "good" if has_all or row.is_complete else "pending") for row in left]
        self._draw([*lines, f"{story['state']} in {duration(story['ended'] - story['created'])}"], [])

    def say(self, line: str) -> None:
        """A line that stays."""
        self._draw([line], [])

    def _rows(self, story: Story) -> list[Row]:
        """What was not shown for good yet. Nodes that are in no plan are the engine's own."""
        known = [row for row in rows(story) if row.path in self._plan or row.path.startswith("$")]
        return [row for row in known if row.path not in self._seen]

    def _line(self, row: Row, sign: str) -> str:
        width = self._name_width()
        text = f"{shortened(row.name, width):{width}}  {_count(row):>16}  {duration(row.seconds):>8}"
        return f"{mark('bad' if row.failed else sign, stream=self._stream)} {text.rstrip()}"

    def _status(self, story: Story) -> str:
        names = [unquote(path) for path in running(story, self._plan)]
        now = f", running {', '.join(names)}" if names else ""
        spent = duration(time.monotonic() - self._began)
        return shortened(f"{next(self._spinner)} {spent}{now}", self._width() - _MARGIN)

    def _name_width(self) -> int:
        longest = max([_SHORTEST_NAME, *map(len, self._plan)])
        return max(_SHORTEST_NAME, min(longest, self._width() - 34))

    def _width(self) -> int:
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        return min(columns or _DEFAULT_WIDTH, _WIDEST)

    def _draw(self, stay: Sequence[str], for_now: Sequence[str]) -> None:
        """Replace what was there only for now by lines that stay and by others that are there only for now."""
        if not self._is_shown:
            return
        # A line that the terminal breaks into two could not be erased as one.
        shown = for_now if self._moves and self._width() >= _NARROWEST else []
        with self._lock:
            erase = "" if not self._drawn else _ERASE if self._drawn == 1 else _UP_AND_ERASE.format(self._drawn - 1)
            # Counted first: Ctrl-C may come right after the write, and what is there must then be erased.
            self._drawn = len(shown)
            self._stream.write(erase + "".join(f"{line}\n" for line in stay) + "\n".join(shown))
            self._stream.flush()


def _count(row: Row) -> str:
    if row.is_repeated and row.failed:
        return f"{row.failed} of {row.total or row.done} failed"
    if row.is_repeated:
        return f"{row.done} of {row.total}" if row.total is not None else f"{row.done} done"
    if row.branches is not None:
        return "1 branch" if row.branches == 1 else f"{row.branches} branches"
    return ""


def _can_show(text: str, stream: TextIO) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
