"""How each node of a flow stands in one request: what is recorded of it, and for the others what they wait for. Pure.

`story` tells what is recorded; here the graph is laid beside it, so that also those nodes have a state of which nothing
is recorded yet, or ever will be. A node in branches of a foreach has one row for all its executions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faasflow.engine.folding import Counts, Row, fold
from faasflow.engine.lifecycle import NodeState, RequestState
from faasflow.graph import Place, PlaceKind


@dataclass(frozen=True, slots=True)
class Moment:
    """A request at one time: its state, when it was `created`, the path of the node that it `failed` with, the keys of
    the steps that are `parked`. A step that is ready and not leased for longer than `patience` seconds is not running,
    but still in the queue."""

    state: RequestState
    created: float
    now: float
    failed: str = ""
    parked: Collection[str] = ()
    patience: float = 4.0


def outlook(places: Sequence[Place], rows: Iterable[Mapping[str, Any]], moment: Moment) -> list[Row]:
    """A row for each place, in their order: `path`, `kind`, `after`, `functions`, its `state`, what it `waits` for, and
    `since` when it could run. Where it runs in branches, also how many `executions` there are in each state, `of` how
    many. A node with branches has `branches`: how many are `done`, how many of these `failed`, `of` how many."""
    found = _Outlook(places, list(rows), moment)
    return [found.row(place) for place in places]


@dataclass(frozen=True, slots=True)
class _Standing:
    state: NodeState
    waits: Row | None = None
    since: float | None = None


class _Outlook:
    def __init__(self, places: Sequence[Place], rows: Sequence[Mapping[str, Any]], moment: Moment) -> None:
        self._moment = moment
        self._kinds = {place.path: place.kind for place in places}
        foreach = {path for path, kind in self._kinds.items() if kind is PlaceKind.FOREACH}
        self._counts = Counts(rows, foreach=foreach)
        self._folded = {row["path"]: row for row in fold(rows) if "branches" not in row}

    def row(self, place: Place) -> Row:
        standing = self._of_many(place) if self._is_repeated(place.path) else self._of_one(place)
        row: Row = {
            "path": place.path,
            "kind": place.kind,
            "after": place.after,
            "functions": place.functions,
            "state": standing.state,
            "waits": standing.waits,
            "since": standing.since,
        }
        if place.is_virtual:
            row["is_virtual"] = True
        if self._is_repeated(place.path):
            row |= {"executions": self._executions(place.path), "of": self._counts.expected(place.path)}
        if place.path in self._counts.splits:
            row["branches"] = self._branches(place)
        return row

    def _of_one(self, place: Place) -> _Standing:
        row = self._folded.get(place.path)
        if self._is_done(place.path):
            return _Standing(NodeState(self._folded[place.path]["state"]))
        if self._moment.state.has_ended:
            if self._broke(place.path):
                return _Standing(NodeState.FAILED)
            is_skipped = self._is_never(place.path) or self._moment.state is RequestState.FINISHED
            return _Standing(NodeState.SKIPPED if is_skipped else NodeState.CANCELLED)
        if row is not None:
            return _Standing(NodeState(row["state"]), row.get("waits"), self._begun(place, row))
        if self._is_never(place.path):
            return _Standing(NodeState.SKIPPED)
        if self._is_parked(place.path):
            return _Standing(NodeState.WAITING, {"for": "resume"})
        if place.path in self._counts.splits:
            return self._open(place)
        return self._untouched(place)

    def _open(self, place: Place) -> _Standing:
        """A node whose branches are open and not joined."""
        branches = self._branches(place)
        waits = {"for": "branches", "done": branches["done"], "of": branches["of"]}
        since = float(self._counts.splits[place.path][0]["ended"])
        if self._moment.state is RequestState.PAUSED:
            return _Standing(NodeState.WAITING, {"for": "resume"}, since)
        return _Standing(NodeState.RUNNING, waits, since)

    def _untouched(self, place: Place) -> _Standing:
        """A node of which nothing is recorded while its request goes on."""
        missing = [path for path in place.after or () if not self._is_done(path)]
        if place.after is None:
            missing = [path for path in self._around(place.path)[:1] if path not in self._counts.splits]
        if missing:
            return _Standing(NodeState.WAITING, {"for": "nodes", "nodes": missing})
        return self._ready(self._ready_since(place))

    def _ready(self, since: float) -> _Standing:
        """A step that could run and has no lease: it is run, for a moment already, or it is still in the queue."""
        if self._moment.now - since <= self._moment.patience:
            return _Standing(NodeState.RUNNING, None, since)
        is_paused = self._moment.state is RequestState.PAUSED
        return _Standing(NodeState.WAITING, {"for": "resume" if is_paused else "queue"}, since)

    def _begun(self, place: Place, row: Mapping[str, Any]) -> float | None:
        """About when the attempt that is under way began."""
        if row["state"] != NodeState.RUNNING:
            return None
        return float(row["attempts"][-1]["next"]) if row.get("attempts") else self._ready_since(place)

    def _ready_since(self, place: Place) -> float:
        if place.after is None:
            return float(self._counts.splits[self._around(place.path)[0]][0]["ended"])
        ended = [self._folded[path]["ended"] for path in place.after if self._is_done(path)]
        return max(map(float, ended), default=self._moment.created)

    def _of_many(self, place: Place) -> _Standing:
        """A node that runs once in each branch."""
        executions, of = self._executions(place.path), self._counts.expected(place.path)
        done = executions.get(NodeState.FINISHED, 0) + executions.get(NodeState.FAILED, 0)
        outermost = self._around(place.path)[-1]
        if self._is_done(outermost) or self._moment.state.has_ended:
            if self._broke(place.path):
                return _Standing(NodeState.FAILED)
            is_over = of == 0 or self._folded.get(outermost, {}).get("state") == NodeState.FINISHED
            return _Standing(_last_state(executions, done, of, is_over=is_over))
        if of is not None and done == of:
            return _Standing(_last_state(executions, done, of, is_over=True))
        return self._under_way(place, executions, done, of)

    def _under_way(self, place: Place, executions: Mapping[str, int], done: int, of: int | None) -> _Standing:
        retrying = executions.get(NodeState.RETRYING, 0)
        if self._moment.state is RequestState.PAUSED and not executions.get(NodeState.RUNNING):
            return _Standing(NodeState.WAITING, {"for": "resume"})
        if retrying and done + retrying == of:
            waits = [row.get("waits") or {} for row in self._counts.executions[place.path]]
            timed = [one for one in waits if one.get("until") is not None]
            soonest = min(timed, key=lambda one: float(one["until"]), default={"for": "attempt", "until": None})
            return _Standing(NodeState.RETRYING, soonest)
        missing = self._awaited(place)
        if executions or place.path in self._counts.splits or not missing:
            return _Standing(NodeState.RUNNING)
        return _Standing(NodeState.WAITING, {"for": "nodes", "nodes": missing})

    def _awaited(self, place: Place) -> list[str]:
        """What no branch is through with, of what has to be done before the place."""
        if place.after is None:
            return [path for path in self._around(place.path)[:1] if path not in self._counts.splits]
        return [path for path in place.after if not self._has_ended_anywhere(path)]

    def _has_ended_anywhere(self, path: str) -> bool:
        return any(row["ended"] is not None for row in self._counts.executions.get(path, ()))

    def _is_done(self, path: str) -> bool:
        """Whether a node that runs once has its outcome."""
        row = self._folded.get(path)
        return row is not None and "executions" not in row and row["ended"] is not None

    def _is_never(self, path: str) -> bool:
        """Whether a condition around a node chose otherwise."""
        return self._counts.expected(path) == 0

    def _is_parked(self, path: str) -> bool:
        return f"node/{path}" in self._moment.parked or f"branches/{path}" in self._moment.parked

    def _is_repeated(self, path: str) -> bool:
        return any(self._kinds[outer] is PlaceKind.FOREACH for outer in self._around(path))

    def _executions(self, path: str) -> dict[str, int]:
        return dict(self._folded.get(path, {}).get("executions") or {})

    def _branches(self, place: Place) -> Row:
        """How many branches have come to their end, how many of these failed, and of how many."""
        ended = [row for end in place.ends for row in self._counts.executions.get(end, ()) if row["ended"] is not None]
        failed = [row for row in self._inside(place.path) if _has_failed(row)]
        of = sum(split["branches"] for split in self._counts.splits[place.path])
        if place.kind is PlaceKind.CONDITION:
            return {"done": len(ended), "failed": sum(map(_has_failed, ended)), "of": of}
        # A failure that is not tolerated leaves its branch without an end.
        depth = 1 + sum(self._kinds[outer] is PlaceKind.FOREACH for outer in self._around(place.path))
        lost = {_branch(row, depth) for row in failed}
        return {"done": len(lost | {_branch(row, depth) for row in ended}), "failed": len(lost), "of": of}

    def _broke(self, path: str) -> bool:
        """Whether the request failed with a node, or with one in its branches."""
        broken = self._moment.failed.partition("@")[0]
        return broken == path or broken.startswith((f"{path}/", f"{path}="))

    def _inside(self, path: str) -> Iterator[Mapping[str, Any]]:
        """The executions in the branches of a node."""
        for inner, rows in self._counts.executions.items():
            if inner.startswith((f"{path}/", f"{path}=")):
                yield from rows

    def _around(self, path: str) -> list[str]:
        """The nodes with branches around a node, the innermost first."""
        found, parts = [], path.split("/")[:-1]
        for length in range(len(parts), 0, -1):
            outer = "/".join([*parts[: length - 1], parts[length - 1].partition("=")[0]])
            if self._kinds.get(outer, PlaceKind.NODE) is not PlaceKind.NODE:
                found.append(outer)
        return found


def _has_failed(row: Mapping[str, Any]) -> bool:
    """Whether an execution failed, and what depends on it with it."""
    return row["state"] == NodeState.FAILED and not row.get("continues")


def _branch(row: Mapping[str, Any], depth: int) -> str:
    """The branch of a foreach that an execution is in: its options, from the outermost foreach on."""
    return "/".join(row["path"].partition("@")[2].split("/")[:depth])


def _last_state(executions: Mapping[str, int], done: int, of: int | None, *, is_over: bool) -> NodeState:
    """That of a node that runs in no further branch. Where the branches `is_over`, failed ones were tolerated, and are
    told beside it."""
    failed = executions.get(NodeState.FAILED, 0)
    if done == 0:
        return NodeState.SKIPPED if is_over else NodeState.CANCELLED
    if failed == done:
        return NodeState.FAILED
    return NodeState.FINISHED if is_over or done == of else NodeState.CANCELLED
