"""Many executions of one node as one row: how many there are, how they stand, and the first that failed. Pure.

The rows are those of `story`. What runs once in a request keeps its row; what runs in branches of a foreach has one for
each branch, and is folded by its path without the branches' options.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from faasflow.engine.lifecycle import NodeState
from faasflow.engine.records import Failure
from faasflow.naming import escape

SHOWN = 20
"""How many of the executions that failed, or are tried again, are kept as they are."""

Row = dict[str, Any]


def fold(rows: Iterable[Mapping[str, Any]], *, keep: str = "") -> list[Row]:
    """The rows with one for all executions of a node in branches: `executions` by state, `of` how many (`None` where
    that is not known yet), when the first `started` and the last `ended`, the highest `attempt`, and in `failures` the
    first rows that tell of an error. Rows of the path `keep` are there as they are, too. Folding again changes
    nothing."""
    counts = Counts(rows)
    found: list[Row] = []
    for path, group in counts.splits.items():
        found.append(_opened(path, group) if _is_folded(group) else dict(group[0]))
    for path, group in counts.executions.items():
        found.append(_executed(path, group, counts.expected(path)) if _is_folded(group) else dict(group[0]))
    found += [dict(row) for row in counts.rows if "@" in row["path"] and row["path"] == keep]
    return found


class Counts:
    """The rows of a story by path without options: openings of branches in `splits`, all others in `executions`.
    `foreach` has paths of nodes that are known to open branches, beside those that have."""

    def __init__(self, rows: Iterable[Mapping[str, Any]], *, foreach: Collection[str] = ()) -> None:
        self.rows = list(rows)
        self._foreach = foreach
        self.splits: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self.executions: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in self.rows:
            path, _, _ = row["path"].partition("@")
            (self.splits if "branches" in row else self.executions)[path].append(row)

    def expected(self, path: str) -> int | None:
        """How often the node at `path` runs in all; `None` as long as something around it may still open branches."""
        outer, option = self._around(path)
        if not outer:
            return 1
        opened, of = self.splits.get(outer, []), self.expected(outer)
        if of is None or sum(int(split.get("opened", 1)) for split in opened) != of:
            return None
        if not option:
            return sum(int(split["branches"]) for split in opened)
        if any("options" not in split for split in opened):
            return 1 if of == 1 else None
        return sum(_chosen(split).get(option, 0) for split in opened)

    def _around(self, path: str) -> tuple[str, str]:
        """The innermost node around `path` that opens branches, and which of its options; nothing for none."""
        outer = path.rpartition("/")[0]
        while outer:
            node, _, option = outer.rpartition("/")[2].partition("=")
            parent = outer.rpartition("/")[0]
            inner = f"{parent}/{node}" if parent else node
            if option or inner in self.splits or inner in self._foreach:
                return inner, option
            outer = parent
        return "", ""


def _is_folded(rows: list[Mapping[str, Any]]) -> bool:
    return "@" in rows[0]["path"]


def _opened(path: str, splits: list[Mapping[str, Any]]) -> Row:
    chosen = Counter[str]()
    for split in splits:
        chosen.update(_chosen(split))
    row: Row = {
        "path": path,
        "branches": sum(split["branches"] for split in splits),
        "opened": len(splits),
        "started": min(split["started"] for split in splits),
        "ended": max(split["ended"] for split in splits),
    }
    return {**row, "options": dict(chosen)} if "options" in splits[0] else row


def _chosen(split: Mapping[str, Any]) -> Mapping[str, int]:
    """How often each option of a condition was chosen, by its text in paths; a single opening lists their names."""
    options = split.get("options", ())
    return options if isinstance(options, Mapping) else {escape(option): 1 for option in options}


def _executed(path: str, rows: list[Mapping[str, Any]], of: int | None) -> Row:
    ended = [row for row in rows if row["ended"] is not None]
    told = [row for row in rows if row["state"] in (NodeState.FAILED, NodeState.RETRYING) and _is_own(row)]
    told.sort(key=lambda row: (row["state"] != NodeState.FAILED, row["started"] or 0.0))
    states = [str(row["state"]) for row in rows]
    started = [_begun(row) for row in rows]
    return {
        "path": path,
        "executions": {state: states.count(state) for state in dict.fromkeys(states)},
        "of": of,
        "attempt": max((row.get("attempt") or len(row.get("attempts", ())) + 1 for row in rows), default=1),
        "started": min((time for time in started if time is not None), default=None),
        "ended": max((row["ended"] for row in ended), default=None),
        "failures": [dict(row) for row in told[:SHOWN]],
    }


def _is_own(row: Mapping[str, Any]) -> bool:
    """Whether an execution failed itself: the last of its branch has the failure that ended the branch, too."""
    failure = row.get("failure")
    node = failure.node if isinstance(failure, Failure) else (failure or {}).get("node", row["path"])
    return bool(node == row["path"])


def _begun(row: Mapping[str, Any]) -> float | None:
    """When the first attempt of an execution began."""
    attempts = row.get("attempts") or [row]
    time: float | None = attempts[0]["started"]
    return time
