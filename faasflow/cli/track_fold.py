"""A long table of nodes in few rows: those of one level and one state in one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from faasflow.cli.console import duration
from faasflow.cli.story import name_of
from faasflow.cli.track_path import levels_of
from faasflow.cli.track_rows import NodeRow

LIMIT = 40
"""Rows up to which a table is shown as it is, and which a folded one has at most."""

_TOGETHER = 4
_URGENT = ("FAILED", "RETRYING", "RUNNING")
_SHOWN_URGENT = 5


def folded(rows: Sequence[NodeRow], places: Sequence[Mapping[str, Any]], *, limit: int = LIMIT) -> list[NodeRow]:
    """At most `limit` rows for any number: those of a level that are in one state become one, then levels that follow
    each other. Of those that failed, are tried again or run the first ones of a level stay."""
    if len(rows) <= limit:
        return [*rows]
    level = levels_of(places)
    for fold in (_by_level, _by_run, _by_state):
        found = [*fold(rows, level)]
        if len(found) <= limit:
            break
    return found


def _by_level(rows: Sequence[NodeRow], level: Mapping[str, int]) -> Iterator[NodeRow]:
    of_level: dict[int, list[NodeRow]] = {}
    for row in rows:
        of_level.setdefault(level.get(row.path, len(level)), []).append(row)
    for number, members in sorted(of_level.items()):
        for state in dict.fromkeys(row.state for row in members):
            alike = [row for row in members if row.state == state]
            kept = alike[:_SHOWN_URGENT] if state in _URGENT else []
            yield from _together(kept, alike[len(kept) :], f"level {number + 1}" if number < len(level) else "")


def _by_run(rows: Sequence[NodeRow], level: Mapping[str, int]) -> Iterator[NodeRow]:
    """Levels that follow each other in one state, as those of a chain."""
    ordered = sorted(rows, key=lambda row: level.get(row.path, len(level)))
    for state, run in groupby(ordered, key=lambda row: row.state):
        members = [*run]
        kept = members[:_SHOWN_URGENT] if state in _URGENT else []
        yield from _together(kept, members[len(kept) :], _span(members[len(kept) :], level))


def _by_state(rows: Sequence[NodeRow], level: Mapping[str, int]) -> Iterator[NodeRow]:
    for state in dict.fromkeys(row.state for row in rows):
        members = [row for row in rows if row.state == state]
        kept = members[:_SHOWN_URGENT] if state in _URGENT else []
        yield from _together(kept, members[len(kept) :], _span(members[len(kept) :], level))


def _together(kept: Sequence[NodeRow], rest: Sequence[NodeRow], where: str) -> Iterator[NodeRow]:
    yield from kept
    if len(rest) < _TOGETHER:
        yield from rest
        return
    more = "more " if kept else ""
    yield replace(
        rest[0],
        path="",
        title=f"{len(rest)} {more}nodes" + (f", {where}" if where else ""),
        attempt=None,
        seconds=None,
        functions=_few(dict.fromkeys(name for row in rest for name in row.functions)),
        details=f"{name_of(rest[0].path)} to {name_of(rest[-1].path)}{_times(rest)}",
        nodes=len(rest),
    )


def _span(rows: Sequence[NodeRow], level: Mapping[str, int]) -> str:
    numbers = [level[row.path] + 1 for row in rows if row.path in level]
    if not numbers:
        return ""
    first, last = min(numbers), max(numbers)
    return f"level {first}" if first == last else f"levels {first} to {last}"


def _times(rows: Sequence[NodeRow]) -> str:
    spent = [row.seconds for row in rows if row.seconds is not None]
    return f", {duration(min(spent))} to {duration(max(spent))} each" if spent else ""


def _few(names: Mapping[str, None]) -> tuple[str, ...]:
    shown = [*names][:2]
    return (*shown, f"{len(names) - 2} more") if len(names) > 2 else tuple(shown)
