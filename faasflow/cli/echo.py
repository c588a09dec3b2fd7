"""Shows beside a run what its functions write: prints, and from a level on what they log, each line with a time."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

import click

from faasflow.cli.console import has_colour, is_terminal, paint
from faasflow.cli.tracebacks import FrameFilter
from faasflow.cli.written import Written
from faasflow.graph.drawing import printable

_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


class Echo:
    """Says what functions write, as lines of `time node text` (the function's name outside of nodes) for `stream`.

    All that is printed is said, and what is logged from `level` on; what this package logs itself only at `debug`. Of
    a traceback the frames of others are left out."""

    def __init__(self, say: Callable[[str], None], *, level: str, stream: TextIO) -> None:
        self._say = say
        self._least = logging.getLevelNamesMapping()[level.upper()]
        self._stream = stream
        self._frames: dict[tuple[str, str], FrameFilter] = defaultdict(FrameFilter)
        self._lock = threading.Lock()

    def take(self, function: str, line: str) -> None:
        """A line that a function's process wrote."""
        written = Written.of(line)
        if not self._is_wanted(written):
            return
        for text in self._own_lines(function, written):
            self._say(self._shown(function, written, text))

    def _is_wanted(self, written: Written) -> bool:
        if written.is_of_engine:
            return self._least <= logging.DEBUG
        return written.is_printed or written.weight >= self._least

    def _own_lines(self, function: str, written: Written) -> list[str]:
        with self._lock:
            frames = self._frames[function, written.node]
            return [line for line in written.text.split("\n") if frames.takes(line)]

    def _shown(self, function: str, written: Written, text: str) -> str:
        time = f"{datetime.now():%H:%M:%S}"
        time = click.style(time, dim=True) if has_colour(self._stream) else time
        place = paint(_readable(written.place or function, self._stream), "cyan", stream=self._stream)
        said = _readable(written.introduced(text), self._stream)
        colour = _COLOURS.get(written.level)
        return f"{time} {place}  {paint(said, colour, stream=self._stream) if colour else said}"


def _readable(text: str, stream: TextIO) -> str:
    """Text from elsewhere, on a terminal without what would steer that."""
    return printable(text.expandtabs(4)) if is_terminal(stream) else text
