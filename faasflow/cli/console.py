"""What the commands write: results to stdout as they are, everything else as lines, in colour on a terminal only."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO, TypeVar

import click

Item = TypeVar("Item")


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody watches this stream."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def has_colour(stream: TextIO) -> bool:
    """Whether to write in colour: on a terminal that can, unless `NO_COLOR` is set (see no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, *, stream: TextIO) -> str:
    """`text` in a colour where `stream` shows colours."""
    return click.style(text, fg=colour) if has_colour(stream) else text


def mark(name: str, *, stream: TextIO) -> str:
    """The sign for `good`, `bad`, `pending` or `warning`, in its colour; plain letters where it cannot be shown."""
    sign, plain, colour = _MARKS[name]
    try:
        sign.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        sign = plain
    return paint(sign, colour, stream=stream)


def show(text: str = "") -> None:
    """A line of the answer, to stdout; what that cannot encode is escaped."""
    click.echo(_encodable(text, sys.stdout), color=has_colour(sys.stdout))


def note(text: str) -> None:
    """A line beside the answer, to stderr."""
    click.echo(text, err=True, color=has_colour(sys.stderr))


def report_error(message: str, *, hint: str = "") -> None:
    """Say on stderr what is wrong and what to do."""
    note(paint(f"faasflow: error: {shortened(message, _LONGEST)}", "red", stream=sys.stderr))
    if hint:
        note(paint("hint:", "yellow", stream=sys.stderr) + f" {hint}")


def write_result(data: bytes) -> None:
    """The bytes of a result to stdout, unchanged; on a terminal a line that does not end is ended."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    if is_terminal(sys.stdout) and data and not data.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def show_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, is_cut: bool = False) -> None:
    """Columns as wide as their longest entry, in the manner of faas-cli. With `is_cut` a terminal shows of the last one
    what fits into the line; what is no terminal is given all."""
    lines = [tuple(titles), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    limit = columns(sys.stdout) if is_cut and is_terminal(sys.stdout) else None
    for line in lines:
        text = "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        show(_cut(text, limit, keep=sum(widths[:-1]) + 2 * len(widths[:-1])))


def counted(items: Sequence[Item]) -> Iterator[Item]:
    """The items one by one; on a terminal a line on stderr counts them, over which whatever comes next is written."""
    line = ""
    for number, item in enumerate(items, start=1):
        if is_terminal(sys.stderr):
            line = f"{number} of {len(items)} ..."
            _write_over(line)
        yield item
    _write_over(" " * len(line))


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` columns, without its middle where it is longer."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def columns(stream: TextIO) -> int:
    """How wide the terminal is."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_WIDTH
    except (OSError, ValueError):
        return _USUAL_WIDTH


def duration(seconds: float) -> str:
    """A length of time, as short as it reads well: `12 ms`, `3.4 s`, `2 m 05 s`, `1 h 02 m`."""
    if seconds < 0.9995:
        return f"{max(seconds, 0.0) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} m"


def _encodable(text: str, stream: TextIO) -> str:
    encoding = stream.encoding or "utf-8"
    if codecs.lookup(encoding).name == "ascii":  # click takes that for a mistake, and writes UTF-8
        encoding = "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _write_over(line: str) -> None:
    if line:
        sys.stderr.write(f"{line}\r")
        sys.stderr.flush()


def _cut(text: str, limit: int | None, *, keep: int) -> str:
    """`text` in `limit` columns; what is in the first `keep` stays, and a little of the rest."""
    if limit is None or len(text) <= limit:
        return text
    return text[: max(limit - 1, keep + _LEAST)].rstrip() + "…"


_USUAL_WIDTH = 80
_LEAST = 10
_LONGEST = 2_000
_MARKS = {
    "good": ("✓", "ok", "green"),
    "bad": ("✗", "x", "red"),
    "warning": ("!", "!", "yellow"),
    "pending": ("·", "-", "cyan"),
}
