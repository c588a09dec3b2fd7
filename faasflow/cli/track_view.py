"""What `faasflow track` shows of a request, in lines: what it is, the path through its flow, a table of its nodes, and
of what failed all there is to know. Pure."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from faasflow.cli.console import duration
from faasflow.cli.look import Look
from faasflow.cli.story import Story, name_of
from faasflow.cli.tracebacks import own_frames
from faasflow.cli.track_fold import LIMIT, folded
from faasflow.cli.track_path import path_lines
from faasflow.cli.track_rows import NodeRow, Record, begun_rows, clock_time, waits_text

EXCERPT_LINES, EXCERPT_BYTES = 10, 1024
LOG_HEAD, LOG_TAIL = 5, 15
_TITLES = ("Node", "State", "Attempt", "Duration", "Function", "Details")
_CUTS = (("Details", 24), ("Function", 16), ("Node", 24), ("Details", 16), ("Node", 16), ("Function", 10), ("Node", 12))


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The beginning of a value of `size` bytes; without any it was not kept."""

    data: bytes = b""
    size: int = 0

    @property
    def text(self) -> str | None:
        """What it says; `None` for what is no text. Where it was cut, a character may have lost its end."""
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            is_cut = self.size > len(self.data) and error.start >= len(self.data) - 3
            return self.data[: error.start].decode() if is_cut else None


@dataclass(frozen=True, slots=True)
class Log:
    """What a function wrote at the time: lines, each with when it came."""

    name: str
    lines: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True, slots=True)
class Close:
    """An execution seen from near: its record, what it worked on, what came of it, and what was logged meanwhile."""

    record: Record
    values: Mapping[str, Excerpt] = field(default_factory=dict)
    logs: Sequence[Log] = ()


def header_lines(story: Story, look: Look) -> list[str]:
    """Which request this is, how it stands, since when."""
    state = str(story["state"])
    title = f"{story['flow']}, request {look.clean(story['request_id'])}"
    lines = [f"{look.paint(f'{look.sign(state)} {state}', state)}  {title}"]
    now = story["now"]
    took = duration((story["ended"] or now) - story["created"])
    parts = [f"started {clock_time(story['created'], now)}", f"{'took' if story['ended'] else 'for'} {took}"]
    if story["run"]:
        parts.append("retried once" if story["run"] == 1 else f"retried {story['run']} times")
    if story["deadline"] and not story["ended"]:
        parts.append(f"has until {clock_time(story['deadline'], now)}")
    if story["callback"]:
        parts.append(_callback_text(story))
    return [*lines, *_joined(parts, look)]


def overview_lines(
    story: Story, look: Look, *, height: int | None = None, unfolded: Container[str] = (), is_folded: bool = True
) -> list[str]:
    """The header, the path and the table; of a table that is higher than `height` what matters least is counted. A
    long table is folded unless it is not to be, and has all nodes that are in one of the states `unfolded`."""
    lines = header_lines(story, look)
    if story["graph"]:
        lines += ["", *path_lines(story["graph"], look)]
    elif story["graph_error"]:
        lines += ["", look.cut(f"The graph is not known: {look.clean(story['graph_error'])}")]
    every = begun_rows(story)
    rows = _folded(every, story, unfolded) if is_folded else every
    room = max(3, height - len(lines) - 3) if height is not None else len(rows)
    kept = _most_important(rows, room)
    left = [row for row in rows if row not in kept]
    if not rows:
        return lines
    hint = [_unfold_text(every, rows, look)] if len(rows) < len(every) else []
    return [*lines, "", *table_lines(kept, look), *([_counted(left, look)] if left else []), *hint]


def _folded(rows: Sequence[NodeRow], story: Story, unfolded: Container[str]) -> list[NodeRow]:
    whole = [row for row in rows if row.state in unfolded]
    rest = folded([row for row in rows if row.state not in unfolded], story["graph"] or (), limit=LIMIT)
    return [*rest, *whole] if len(rows) > LIMIT else [*rows]


def _unfold_text(every: Sequence[NodeRow], rows: Sequence[NodeRow], look: Look) -> str:
    return look.cut(f"{len(every):,} nodes in {len(rows)} lines. Each one: --all; those in a state: --state running")


def table_lines(rows: Sequence[NodeRow], look: Look) -> list[str]:
    """The table of the nodes; columns in which nothing stands are left out."""
    cells = [_cells(row, look) for row in rows]
    used = [column for column in range(len(_TITLES)) if any(line[column] for line in cells)]
    titles = [_TITLES[column] for column in used]
    cells = [[line[column] for column in used] for line in cells]
    widths = _widths([titles, *cells], used, look)
    lines = [_line(titles, widths, look)]
    for row, line in zip(rows, cells, strict=True):
        text = _line(line, widths, look)
        sign = look.sign(row.state)
        lines.append(look.paint(sign, row.state) + text[len(sign) :])
    return lines


def failure_lines(close: Close, story: Story, look: Look) -> list[str]:
    """A failed execution: where, when, why, on what, and what was logged."""
    record = close.record
    failure = record.get("failure") or _last_failure(record)
    lines = [*_title(record, failure, story, look)]
    if failure:
        lines += _text_lines(f"{failure['error_type']}: {failure['message']}", look, state="FAILED")
        if failure.get("hint"):
            lines += _text_lines(f"hint: {failure['hint']}", look)
        if not failure.get("code"):
            lines += [
                look.faint(look.cut(f"    {look.clean(line)}")) for line in own_frames(failure.get("traceback", ""))
            ]
    lines += _attempt_lines(record, story, look)
    for part, value in close.values.items():
        lines += _value_lines(part, value, record["path"], story, look)
    for log in close.logs:
        lines += _log_lines(log, story, look)
    return lines


def request_failure_lines(story: Story, look: Look) -> list[str]:
    """Why a request failed that no node failed."""
    failure = story["failure"]
    lines = [look.paint(f"{look.sign('FAILED')} the request", "FAILED")]
    lines += _text_lines(f"{failure['error_type']}: {failure['message']}", look, state="FAILED")
    return lines + (_text_lines(f"hint: {failure['hint']}", look) if failure.get("hint") else [])


def way_out_lines(story: Story) -> list[str]:
    """How a failed request can go on."""
    if story["state"] != "FAILED":
        return []
    retry = shlex.join(["faasflow", "retry", story["request_id"], "--flow", story["flow"]])
    return ["", f"Go on from there: {retry}"]


def brief_line(record: Record, story: Story, look: Look) -> str:
    """A failed execution in one line."""
    failure = record.get("failure") or _last_failure(record) or {}
    sign = look.paint(look.sign(str(record["state"])), str(record["state"]))
    message = " ".join(str(failure.get("message", "")).split())
    text = f"{name_of(record['path'])}  {failure.get('error_type', '')}: {message}"
    return f"{sign} {look.cut(look.clean(text), indent=2)}"


def size_text(size: int) -> str:
    """A number of bytes, as short as it reads well."""
    if size < 1000:
        return f"{size} B"
    if size < 999_950:
        return f"{size / 1000:.1f} kB"
    return f"{size / 1e6:.1f} MB"


def command(story: Story, *options: str) -> str:
    """How to ask for more of a request."""
    return " ".join(map(shlex.quote, ["faasflow", "track", story["request_id"], *options]))


def _callback_text(story: Story) -> str:
    host = story["callback"]
    step = next((name for name in story["closing"] if name.startswith("$callback")), "")
    record = next((row for row in story["nodes"] if step and row["path"] == step), None)
    if not step:
        return f"callback to {host} at the end"
    if record is None:
        return f"callback to {host} is under way"
    if record["state"] == "FINISHED":
        return f"callback to {host} delivered"
    if record["state"] == "FAILED":
        return f"callback to {host} given up after {record['attempt']} attempts"
    return f"callback to {host} failed {len(record['attempts'])} times, {waits_text(record.get('waits'), story)}"


def _joined(parts: Sequence[str], look: Look) -> list[str]:
    lines = [parts[0]]
    for part in parts[1:]:
        if look.width is not None and len(lines[-1]) + len(part) + 2 > look.width:
            lines.append(part)
        else:
            lines[-1] += f", {part}"
    return [look.cut(line) for line in lines]


def _most_important(rows: Sequence[NodeRow], room: int) -> list[NodeRow]:
    ranks = ("FAILED", "RETRYING", "RUNNING", "WAITING", "FINISHED", "CANCELLED", "SKIPPED")
    ranked = sorted(rows, key=lambda row: ranks.index(row.state))
    kept = ranked[:room] if len(rows) > room else ranked
    return [row for row in rows if row in kept]


def _counted(rows: Sequence[NodeRow], look: Look) -> str:
    states = [row.state for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return look.cut(f"{look.more} {len(rows)} more: {counts}")


def _cells(row: NodeRow, look: Look) -> list[str]:
    return [
        f"{look.sign(row.state)} {look.clean(row.name)}",
        row.state,
        str(row.attempt) if row.attempt is not None and row.attempt > 1 else "",
        duration(row.seconds) if row.seconds is not None else "",
        ", ".join(row.functions),
        look.clean(row.details),
    ]


def _widths(lines: Sequence[Sequence[str]], used: Sequence[int], look: Look) -> list[int]:
    """As wide as the longest entry; where that is too much, one column after the other is cut."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(used))]
    if look.width is None:
        return widths
    room = look.width - 2 * (len(used) - 1)
    by_title = {_TITLES[column]: place for place, column in enumerate(used)}
    for title, width in _CUTS:
        place = by_title.get(title)
        if place is not None and sum(widths) > room:
            widths[place] = max(min(width, widths[place]), widths[place] - (sum(widths) - room))
    return widths


def _line(cells: Sequence[str], widths: Sequence[int], look: Look) -> str:
    last = len(cells) - 1
    fitted = [
        look.middle_cut(cell, width) if place < last or look.width is None else _end_cut(cell, width, look)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(cell.ljust(width) for cell, width in zip(fitted, widths, strict=True)).rstrip()


def _end_cut(text: str, width: int, look: Look) -> str:
    return text if len(text) <= width else text[: max(1, width - len(look.more))].rstrip() + look.more


def _title(record: Record, failure: Mapping[str, Any] | None, story: Story, look: Look) -> Iterator[str]:
    """Where it failed, and when."""
    state = str(record["state"])
    operation = (failure or {}).get("operation", "")
    where = f"{look.sign(state)} {name_of(record['path'])}" + (f" in {operation!r}" if operation else "")
    yield look.paint(look.cut(look.clean(where)), state)
    last = record["attempts"][-1] if record.get("attempts") and record["started"] is None else record
    parts = []
    if last["started"] is not None:
        parts.append(clock_time(last["started"], story["now"]))
        parts.append(duration(last["ended"] - last["started"]) if last["ended"] else "")
    attempt = record.get("attempt") or len(record.get("attempts", ()))
    parts += [f"attempt {attempt}" if attempt and attempt > 1 else "", waits_text(record.get("waits"), story)]
    if any(parts):
        yield look.cut(f"  {', '.join(filter(None, parts))}")


def _last_failure(record: Record) -> dict[str, Any] | None:
    attempts = record.get("attempts") or ()
    return dict(attempts[-1]) if attempts else None


def _text_lines(text: str, look: Look, *, state: str = "WAITING") -> list[str]:
    """A text of any length, in lines that fit below a title."""
    lines = text.rstrip().splitlines() or [""]
    if look.width is not None:
        lines = [part for line in lines for part in textwrap.wrap(look.clean(line), look.width - 2) or [""]]
    return [look.paint(f"  {line}", state) for line in lines]


def _attempt_lines(record: Record, story: Story, look: Look) -> Iterator[str]:
    attempts = record.get("attempts") or ()
    if not attempts:
        return
    yield "  attempts that failed before:" if record["started"] is not None else "  attempts:"
    for one in attempts:
        error = " ".join(f"{one['error_type']}: {one['message']}".split())
        time = f"{clock_time(one['started'], story['now'])}, {duration(one['ended'] - one['started'])}"
        yield look.cut(f"    {one['attempt']}  {time}  {look.clean(error)}")


def _value_lines(part: str, value: Excerpt, path: str, story: Story, look: Look) -> Iterator[str]:
    more = command(story, "--node", path, f"--{part}")
    if value.text is None:
        yield f"  {part} ({size_text(value.size)}, no text): {more}"
        return
    lines = value.text.splitlines()
    yield f"  {part} ({size_text(value.size)}):" if value.size else f"  {part}: empty"
    for line in lines[:EXCERPT_LINES]:
        yield look.faint(look.cut(f"    {look.clean(line)}"))
    if len(lines) > EXCERPT_LINES or value.size > len(value.data):
        yield f"    {look.more} all of it: {more}"


def _log_lines(log: Log, story: Story, look: Look) -> Iterator[str]:
    """The log; of a long one the beginning and the end, which is where it broke."""
    if not log.lines:
        yield f"  {log.name} wrote nothing at that time, or it is not kept"
        return
    yield f"  {log.name} wrote:"
    left_out = len(log.lines) - LOG_HEAD - LOG_TAIL
    for number, (time, text) in enumerate(log.lines):
        if left_out <= 0 or number < LOG_HEAD or number >= len(log.lines) - LOG_TAIL:
            yield look.faint(look.cut(f"    {clock_time(time, story['now'])}  {look.clean(text)}"))
        elif number == LOG_HEAD:
            yield f"    {look.more} {left_out} more lines: faasflow logs --request {shlex.quote(story['request_id'])}"
