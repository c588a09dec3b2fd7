"""What a flow recorded of a request, as one row per node, however many branches ran it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from faasflow.engine.folding import fold
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
        return name_of(self.path)

    @property
    def is_complete(self) -> bool:
        return self.done == self.total

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.started)


def rows(story: Story) -> list[Row]:
    """A row for each node that is recorded, in the order in which they started."""
    folded = fold(story["nodes"])
    splits = {row["path"]: row for row in folded if "branches" in row}
    found = [_row(row, splits.get(row["path"])) for row in folded if "branches" not in row and row["ended"] is not None]
    return sorted(found, key=lambda row: (row.started, row.ended))


def name_of(path: str) -> str:
    """A node's path, to be read by people."""
    step, _, run = path.partition(".")
    if step in _CLOSING:
        return f"{_CLOSING[step]} of retry {run}" if run else _CLOSING[step]
    return unquote(path)


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


def is_closed(story: Story) -> bool:
    """Whether the request has ended and what runs after its end has run too; the callback may take a day."""
    recorded = {node["path"] for node in _recorded(story)}
    return has_ended(story) and all(step in recorded or step.startswith("$callback") for step in story["closing"])


def _recorded(story: Story) -> list[Mapping[str, Any]]:
    """What has an outcome; a story also tells of steps that are under way, or wait for their next attempt."""
    return [node for node in story["nodes"] if node["ended"] is not None]


def _row(record: Mapping[str, Any], split: Mapping[str, Any] | None) -> Row:
    executions = record.get("executions")
    states = executions if executions is not None else {record["state"]: 1}
    failed = states.get(NodeState.FAILED, 0)
    return Row(
        path=record["path"],
        done=states.get(NodeState.FINISHED, 0) + failed,
        total=record["of"] if executions is not None else 1,
        failed=failed,
        started=record["started"] if split is None else min(record["started"], split["started"]),
        ended=record["ended"],
        branches=split["branches"] if split is not None else None,
        is_repeated=executions is not None,
    )
