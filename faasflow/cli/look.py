"""How lines are to look where they are written: how wide, with which signs, in colour or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TextIO

import click

from faasflow.cli.console import columns, has_colour, is_terminal
from faasflow.graph.drawing import printable

SIGNS = {
    "FINISHED": ("✓", "ok", "green"),
    "FAILED": ("✗", "x", "red"),
    "RUNNING": ("▸", ">", "cyan"),
    "RETRYING": ("↻", "~", "yellow"),
    "PAUSED": ("‖", "=", "yellow"),
    "STOPPED": ("✗", "x", "yellow"),
    "WAITING": ("·", "-", ""),
    "SKIPPED": ("○", "o", ""),
    "CANCELLED": ("·", "-", ""),
}
_UNICODE = "".join(sign for sign, _, _ in SIGNS.values()) + "→"


@dataclass(frozen=True, slots=True)
class Look:
    """Lines of at most `width` columns, of any length for `None`; with letters for signs if `is_plain`."""

    width: int | None = None
    is_plain: bool = False
    has_colour: bool = False
    is_terminal: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Self:
        """That of a stream: a terminal has a width, a pipe is given all."""
        watched = is_terminal(stream)
        return cls(columns(stream) if watched else None, not _can_show(stream), has_colour(stream), watched)

    @property
    def arrow(self) -> str:
        return "->" if self.is_plain else "→"

    @property
    def more(self) -> str:
        return "..." if self.is_plain else "…"

    def sign(self, state: str) -> str:
        """The sign of a state, without colour."""
        return SIGNS[state][1 if self.is_plain else 0]

    def paint(self, text: str, state: str) -> str:
        """`text` in the colour of a state."""
        colour = SIGNS[state][2]
        return click.style(text, fg=colour) if self.has_colour and colour else text

    def faint(self, text: str) -> str:
        return click.style(text, dim=True) if self.has_colour else text

    def clean(self, text: str) -> str:
        """Text from elsewhere, without what would steer a terminal."""
        return printable(text.expandtabs(4)) if self.is_terminal else text

    def cut(self, text: str, *, indent: int = 0) -> str:
        """The beginning of `text`, as much as fits behind `indent`."""
        if self.width is None or len(text) <= self.width - indent:
            return text
        return text[: max(1, self.width - indent - len(self.more))].rstrip() + self.more

    def middle_cut(self, text: str, width: int) -> str:
        """`text` in at most `width` columns, without its middle where it is longer."""
        if self.width is None or len(text) <= width:
            return text
        kept = max(2, width - len(self.more))
        return f"{text[: kept - kept // 2]}{self.more}{text[len(text) - kept // 2 :]}"


def _can_show(stream: TextIO) -> bool:
    try:
        _UNICODE.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
