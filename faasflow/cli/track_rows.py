"""A story as rows to show: one for each node, whether it ran or not, and one for each execution that failed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from faasflow.cli.console import duration
from faasflow.cli.story import Story, name_of
from faasflow.cli.track_path import count_text
from faasflow.naming import listed

_AT_REST = ("FINISHED", "FAILED", "SKIPPED", "CANCELLED")

Record = Mapping[str, Any]
"""A row of the nodes of a story."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node: its `state`, the number of its latest `attempt`, for how many `seconds` it ran or runs, and in a few
    words what it waits for or what became of it. A row may stand for many `nodes`; then it has a `title`."""

    path: str
    state: str
    attempt: int | None = None
    seconds: float | None = None
    functions: tuple[str, ...] = ()
    details: str = ""
    title: str = ""
    nodes: int = 1

    @property
    def name(self) -> str:
        return self.title or name_of(self.path)


def node_rows(story: Story) -> list[NodeRow]:
    """The nodes in the order of the graph, then what runs after the end; where there is no graph, what is recorded in
    the order in which it started."""
    folded = {row["path"]: row for row in story["nodes"] if "branches" not in row}
    splits = {row["path"]: row for row in story["nodes"] if "branches" in row}
    if story["graph"] is None:
        paths = sorted(
            (path for path in {**splits, **folded} if not path.startswith("$")),
            key=lambda path: _started(folded.get(path) or splits[path]),
        )
        places = [_place_of_record(path, folded.get(path), splits.get(path)) for path in paths]
    else:
        places = [place for place in story["graph"] if not _is_hidden(place)]
    rows = [_row(place, folded.get(place["path"]), splits.get(place["path"]), story) for place in places]
    return [*rows, *(_closing_row(step, folded.get(step), story) for step in story["closing"])]


def begun_rows(story: Story) -> list[NodeRow]:
    """`node_rows` without what is inside of branches that were not opened: the node that opens them stands for it."""
    places = {place["path"]: place for place in story["graph"] or ()}
    return [row for row in node_rows(story) if not _is_inside_of_nothing(row, places)]


def failing(story: Story) -> list[Record]:
    """The executions that failed and, as long as the request goes on, those that are tried again: first the one that
    the request failed with, then the earliest."""
    first = (story["failure"] or {}).get("node", "")
    found = [record for record in _executions(story) if _is_of_interest(record, story)]
    return sorted(found, key=lambda record: (record["path"] != first, record["state"] != "FAILED", _started(record)))


def waits_text(waits: Mapping[str, Any] | None, story: Story, *, since: float | None = None, prefix: str = "") -> str:
    """What a node waits for, and until when; the names of nodes without the `prefix` that it shares with them."""
    if not waits:
        return ""
    until = waits.get("until")
    match waits["for"]:
        case "nodes":
            return f"waits for {listed([name_of(path.removeprefix(prefix)) for path in waits['nodes']])}"
        case "attempt":
            return f"next attempt {_until(until, story)}"
        case "connection":
            times = f"{waits['tries']} times" if waits["tries"] > 1 else "once"
            begun = clock_time(waits["since"], story["now"])
            return f"no connection since {begun}, tried {times}, next {_until(until, story)}: {waits['message']}"
        case "lease":
            return f"leased until {clock_time(waits['until'], story['now'])}"
        case "resume":
            return "paused"
        case "queue":
            return f"in the queue for {duration(story['now'] - since)}" if since is not None else "in the queue"
        case "clock":
            return "its process is gone; the clock repeats it"
        case _:
            return ""


def clock_time(seconds: float, now: float) -> str:
    """A time of day, with its date where that is another one than now."""
    moment, today = datetime.fromtimestamp(seconds), datetime.fromtimestamp(now)
    return f"{moment:%H:%M:%S}" if moment.date() == today.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def _until(until: float | None, story: Story) -> str:
    if until is None:
        return "soon"
    if until <= story["now"]:
        return "due now"
    return f"{clock_time(until, story['now'])}, in {duration(until - story['now'])}"


def _row(place: Mapping[str, Any], record: Record | None, split: Record | None, story: Story) -> NodeRow:
    return NodeRow(
        path=place["path"],
        state=str(place["state"]),
        attempt=_attempt(record),
        seconds=_seconds(place, record, split, story),
        functions=tuple(place["functions"]),
        details=_details(place, record, split, story),
    )


def _details(place: Mapping[str, Any], record: Record | None, split: Record | None, story: Story) -> str:
    prefix = place["path"][: place["path"].rfind("/") + 1]
    is_at_rest = place["state"] in _AT_REST
    waits = "" if is_at_rest else waits_text(place["waits"], story, since=place["since"], prefix=prefix)
    failure = ""
    if record is not None and record.get("failure") and record["state"] == "FAILED":
        failure = record["failure"]["error_type"] + (", tolerated" if record.get("continues") else "")
    running = (place.get("executions") or {}).get("RUNNING", 0)
    under_way = f"{running} running" if running else ""
    return ", ".join(filter(None, [count_text(place), _chosen(split), under_way, failure, waits]))


def _chosen(split: Record | None) -> str:
    """What a condition chose."""
    options = split.get("options") if split is not None else None
    if options is None or isinstance(options, Mapping):
        return ""
    return f"chose {', '.join(options)}" if options else "chose nothing"


def _attempt(record: Record | None) -> int | None:
    if record is None:
        return None
    return int(record.get("attempt") or len(record.get("attempts", ())) + 1)


def _seconds(place: Mapping[str, Any], record: Record | None, split: Record | None, story: Story) -> float | None:
    started = min((row["started"] for row in (split, record) if row and row["started"] is not None), default=None)
    ended = record["ended"] if record is not None else None
    if place["state"] in _AT_REST:
        latest = ended if ended is not None else story["ended"] if started is not None else None
        return latest - started if started is not None and latest is not None else None
    begun = started if started is not None else place["since"]
    return float(story["now"] - begun) if begun is not None and place["state"] == "RUNNING" else None


def _closing_row(step: str, record: Record | None, story: Story) -> NodeRow:
    if record is None:
        return NodeRow(step, "RUNNING")
    if record["ended"] is None:
        return NodeRow(step, str(record["state"]), _attempt(record), details=waits_text(record.get("waits"), story))
    failure = record["failure"]
    seconds = record["ended"] - record["started"]
    details = failure["error_type"] if failure else ""
    return NodeRow(step, str(record["state"]), _attempt(record), seconds, details=details)


def _place_of_record(path: str, record: Record | None, split: Record | None) -> dict[str, Any]:
    """What there is to say of a node without its graph."""
    place: dict[str, Any] = {"path": path, "functions": (), "since": None, "waits": None, "kind": "node"}
    if record is None:
        return place | {"state": "RUNNING", "since": split["ended"] if split else None}
    if "executions" not in record:
        return place | {"state": record["state"], "waits": record.get("waits")}
    executions = record["executions"]
    state = "FAILED" if executions.get("FAILED") else "FINISHED" if set(executions) == {"FINISHED"} else "RUNNING"
    return place | {"state": state, "executions": executions, "of": record["of"]}


def _executions(story: Story) -> Iterator[Record]:
    seen = set()
    for record in story["nodes"]:
        for one in record.get("failures", [] if "branches" in record else [record]):
            if "executions" not in one and one["path"] not in seen:
                seen.add(one["path"])
                yield one


def _is_of_interest(record: Record, story: Story) -> bool:
    if record["state"] == "FAILED":
        # The end of a branch has the failure of the node that ended it, too.
        return unquote(record["failure"]["node"]) == unquote(record["path"])
    is_live = story["ended"] is None or record["path"].startswith("$")
    return record["state"] == "RETRYING" and bool(record["attempts"]) and is_live


def _is_inside_of_nothing(row: NodeRow, places: Mapping[str, Mapping[str, Any]]) -> bool:
    parts = row.path.split("/")[:-1]
    for length in range(1, len(parts) + 1):
        node, _, option = parts[length - 1].partition("=")
        around = places.get("/".join([*parts[: length - 1], node]))
        if around is not None and around["kind"] != "node":
            return "branches" not in around or (bool(option) and row.state == "SKIPPED")
    return False


def _is_hidden(place: Mapping[str, Any]) -> bool:
    return bool(place.get("is_virtual")) and place["state"] not in ("FAILED", "RETRYING", "RUNNING")


def _started(record: Record) -> float:
    attempts: Sequence[Record] = record.get("attempts") or [record]
    return float(attempts[0]["started"] or record["started"] or 0.0)
