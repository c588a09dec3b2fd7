"""Shows how a run gets on: a line for every node that is done and, on a terminal, below them what is going on now,
which is written anew again and again. What is no terminal is told now and then what is going on. Branches of a foreach
share one line.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Self, TextIO

from faasflow.cli.console import duration, is_terminal, mark, shortened
from faasflow.cli.story import Row, Story, rows, running
from faasflow.engine.lifecycle import RequestState
from faasflow.naming import listed, readable_path

_DEFAULT_WIDTH = 80
_NARROWEST, _WIDEST = 40, 120
_MARGIN = 4  # for what a terminal shows of Ctrl-C
_SHORTEST_NAME = 10
_SHOWN = 5
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_SPINNER = "|/-\\"
_BAR = 10
_WIDE = 20  # branches from which on a bar, a rate and the time that is left are shown
_PLAIN_PAUSE = 10.0
_UP_AND_ERASE = "\x1b[{}F\x1b[J"
_ERASE = "\r\x1b[J"


class Progress:
    """The progress of one request. What is no terminal, and a terminal that cannot move its cursor (`TERM=dumb`), gets
    only lines that stay; with `is_quiet` there are none at all. At the end of a `with` what was there only for now is
    removed."""

    def __init__(self, stream: TextIO, *, is_quiet: bool = False) -> None:
        self._stream = stream
        self._plan: Mapping[str, Sequence[str] | None] = {}
        self._began = time.monotonic()
        self._seen: set[str] = set()
        self._drawn = 0
        self._is_quiet = is_quiet
        self._moves = is_terminal(stream) and os.environ.get("TERM") != "dumb"
        self._next_status = self._began + _PLAIN_PAUSE
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
        under_way = [self._line(row, "pending", now=story["now"]) for row in found if not row.is_complete]
        status = self._status(story)
        stay = [*(self._line(row, "good") for row in fresh), *self._told_now_and_then([*under_way[-_SHOWN:], status])]
        self._draw(stay, [*under_way[-_SHOWN:], shortened(f"{next(self._spinner)} {status}", self._width() - _MARGIN)])

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

    def _told_now_and_then(self, lines: Sequence[str]) -> Sequence[str]:
        """What stays of what is only for now, where nothing can be written over: a look every ten seconds."""
        if self._moves or time.monotonic() < self._next_status:
            return []
        self._next_status = time.monotonic() + _PLAIN_PAUSE
        return lines

    def _line(self, row: Row, sign: str, *, now: float | None = None) -> str:
        width = self._name_width()
        end = duration(row.seconds)
        if now is not None and (pace := _pace(row, now)):
            width, end = min(width, self._width() - _MARGIN - 22 - len(pace)), pace
        text = f"{shortened(row.name, max(width, _SHORTEST_NAME)):{width}}  {_count(row):>16}  {end:>8}"
        return f"{mark('bad' if row.failed else sign, stream=self._stream)} {text.rstrip()}"

    def _status(self, story: Story) -> str:
        names = [readable_path(path) for path in running(story, self._plan)]
        now = f", running {listed(names)}" if names else ""
        spent = duration(time.monotonic() - self._began)
        return f"{spent}{now}"

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
        if self._is_quiet or not (stay or self._moves):
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


def _pace(row: Row, now: float) -> str:
    """How fast many branches get on: a bar, the rate, and the time that is left; empty for few."""
    spent = now - row.started
    if row.total is None or row.total < _WIDE or spent <= 0 or not row.done:
        return ""
    rate = row.done / spent
    full = _BAR * row.done // row.total
    bar = f"[{'#' * full}{'.' * (_BAR - full)}]"
    return f"{bar} {_rate(rate)}, {duration((row.total - row.done) / rate)} left"


def _rate(rate: float) -> str:
    if rate < 1:
        return f"{rate * 60:.1f}/min"
    return f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def _can_show(text: str, stream: TextIO) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
