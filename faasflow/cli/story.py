"""Folds what a flow recorded of a request into one row per node, however many branches ran it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from faasflow.engine.lifecycle import NodeState, RequestState

Story = Mapping[str, Any]
"""What `GET /flow/<id>` answers."""

_CLOSING = {"$on_failure": "on_failure", "$finally": "finally", "$callback": "callback"}


@dataclass(frozen=True, slots=True)
class Row:
    """A node by its path without the options of foreach branches: how many of its executions are `done`, of how many
    (`None` where that is not known yet). `branches` counts those that it opened itself. Times are in seconds."""

    path: str
    done: int
    total: int | None
    failed: int
    started: float
    ended: float
    branches: int | None = None
    is_repeated: bool = False

    @property
    def name(self) -> str:
        """The path, to be read by people."""
        return _CLOSING.get(self.path) or unquote(self.path)

    @property
    def is_complete(self) -> bool:
        return self.done == self.total

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.started)


def rows(story: Story) -> list[Row]:
    """A row for each node that is recorded, in the order in which they started."""
    folded = _Folded(story)
    return sorted((folded.row(path) for path in folded.nodes), key=lambda row: (row.started, row.ended))


def running(story: Story, waits_for: Mapping[str, Sequence[str] | None]) -> list[str]:
    """The paths of the nodes that must be running: all they wait for is done, they are not. Inside of branches nothing
    can be said."""
    done = {node["path"] for node in _recorded(story) if "branches" not in node}
    return [
        path
        for path, before in waits_for.items()
        if path not in done and before is not None and all(one in done for one in before)
    ]


def has_ended(story: Story) -> bool:
    return RequestState(story["state"]).has_ended


def is_closed(story: Story, *, has_on_failure: bool, has_finally: bool) -> bool:
    """Whether the request has ended and what runs after its end has run too."""
    recorded = {node["path"] for node in _recorded(story)}
    expected = {"$finally"} if has_finally else set()
    if has_on_failure and story["state"] == RequestState.FAILED:
        expected.add("$on_failure")
    return has_ended(story) and expected <= recorded


def _recorded(story: Story) -> list[Mapping[str, Any]]:
    """What has an outcome; a story also tells of steps that are under way, or wait for their next attempt."""
    return [node for node in story["nodes"] if node["ended"] is not None]


class _Folded:
    """The records of a story by path: executions of nodes, and openings of branches."""

    def __init__(self, story: Story) -> None:
        self.nodes: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self.splits: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for node in _recorded(story):
            path, _, _ = node["path"].partition("@")
            (self.splits if "branches" in node else self.nodes)[path].append(node)

    def row(self, path: str) -> Row:
        records, splits = self.nodes[path], self.splits.get(path, [])
        return Row(
            path=path,
            done=len(records),
            total=self._expected(path),
            failed=sum(record["state"] == NodeState.FAILED for record in records),
            started=min(record["started"] for record in [*records, *splits]),
            ended=max(record["ended"] for record in records),
            branches=sum(split["branches"] for split in splits) if splits else None,
            is_repeated=self._foreach(path) is not None,
        )

    def _expected(self, path: str) -> int | None:
        """How often the node runs in all; not known while a foreach around it may still open branches, or where a
        condition inside of one chooses."""
        foreach = self._foreach(path)
        if foreach is None:
            return 1
        if "=" in path[len(foreach) :] or len(self.splits[foreach]) != self._expected(foreach):
            return None
        return sum(int(split["branches"]) for split in self.splits[foreach])

    def _foreach(self, path: str) -> str | None:
        """The innermost foreach around a node."""
        outer = path.rpartition("/")[0]
        while outer and outer not in self.splits:
            outer = outer.rpartition("/")[0]
        return outer or None
