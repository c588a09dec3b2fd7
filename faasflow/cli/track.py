"""`faasflow track`: how a request gets on, where it broke, with what, and what was logged at that moment."""

from __future__ import annotations

import base64
import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import note, show, write_result
from faasflow.cli.finding import flow_of
from faasflow.cli.look import SIGNS
from faasflow.cli.options import remote_options
from faasflow.cli.request import request_argument
from faasflow.errors import BadRequestError, FaasflowError

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote
    from faasflow.cli.request_logs import Window
    from faasflow.cli.story import Story
    from faasflow.cli.track_rows import Record
    from faasflow.cli.track_view import Close, Excerpt, Log

_UNSUCCESSFUL = ("FAILED", "STOPPED")
_NEAR, _BRIEF = 2, 5


@click.command(short_help="Show how a request gets on, and where it broke.")
@click.option("--node", metavar="NODE", help="Show one node from near, by its path as the table has it.")
@click.option("--input", "part", flag_value="input", help="Write what NODE, or the whole REQUEST, worked on.")
@click.option("--output", "part", flag_value="output", help="Write what NODE came to.")
@click.option("--watch", is_flag=True, help="Go on showing how it gets on until it has ended, or Ctrl-C.")
@click.option("--all", "is_all", is_flag=True, help="Show each node of a large request, and not levels of them.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.lower() for state in SIGNS], case_sensitive=False),
    help="Show each node that is in this state; may be given often.",
)
@click.option("--no-logs", is_flag=True, help="Leave out what functions logged.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON; times are seconds since the epoch.")
@remote_options
@request_argument
@click.pass_context
def track(
    context: click.Context,
    remote: Remote,
    request: str,
    flow: str | None,
    node: str | None,
    part: str | None,
    watch: bool,
    is_all: bool,
    states: tuple[str, ...],
    no_logs: bool,
    as_json: bool,
) -> None:
    """Show how a REQUEST gets on: its path through the flow, a table of its nodes, what waits and for what. Of a node
    that failed: its error, what it worked on, what it was answered, and what flow and function logged meanwhile.

    Ends with 1 for a request that failed, was stopped, or is not known, else with 0.

    \b
    Examples:
      faasflow track cv6bo1rkf1nc73a2dmv0
      faasflow track orders order-1 --watch
      faasflow track orders order-1 --node ship --input > input.json
    """
    _check_use(node, part, watch=watch, as_json=as_json)
    tracked = Tracked(remote, flow or flow_of(remote, request), request, with_logs=not no_logs)
    if part is not None:
        write_result(_value(tracked, node, part))
        return
    if node is not None:
        story = _show_node(tracked, node, as_json=as_json)
    elif watch:
        from faasflow.cli.track_watch import watch as watched

        story = watched(tracked, as_json=as_json)
    else:
        story = tracked.story()
    if node is None and not (watch and as_json):
        shown = Shown(with_overview=not watch, is_folded=not is_all, unfolded=[state.upper() for state in states])
        _show_json(tracked, story) if as_json else show_all(tracked, story, shown)
    if story["state"] in _UNSUCCESSFUL:
        context.exit(FAILED)


@dataclass(slots=True)
class Tracked:
    """A request, and how to get at what is known of it. `reasons` collects why values and
    logs could not be had."""

    remote: Remote
    flow: str
    request_id: str
    with_logs: bool = True
    reasons: dict[str, FaasflowError] = field(default_factory=dict)

    def story(self, node: str = "") -> Story:
        """What the flow tells of it now, branches folded but those of the path `node`."""
        from faasflow.cli.remote import story_of, story_path

        query = urlencode({"fold": "true", **({"node": node} if node else {})})
        return story_of(self.remote.read(self.flow, story_path(self.request_id), query=query))

    def value(self, node: str, part: str) -> bytes:
        """The input or output of a node, or its result; `RemoteError` if it is not kept."""
        from faasflow.cli.remote import data_path

        query = urlencode({"part": part, **({"node": node} if node else {})})
        return self.remote.read(self.flow, data_path(self.request_id), query=query).content

    def close(self, record: Record, story: Story) -> Close:
        """An execution with its values and logs, as much as is kept."""
        from faasflow.cli.track_view import Close

        parts = [part for part in ("input", "output") if record.get(f"{part}_size") is not None]
        if record["state"] == "FINISHED":
            parts.append("result")
        values = {_SHOWN[part]: self._excerpt(record["path"], part) for part in parts}
        had = {part: value for part, value in values.items() if value is not None}
        return Close(record, had, self._logs(record, story))

    def _excerpt(self, node: str, part: str) -> Excerpt | None:
        """The beginning of a value; `None` if it cannot be had (any more), as while the data store is away."""
        from faasflow.cli.track_view import EXCERPT_BYTES, Excerpt

        try:
            data = self.value(node, part)
        except FaasflowError as error:
            self.reasons[f"A value is missing: {error.message}"] = error
            return None
        return Excerpt(data[:EXCERPT_BYTES], len(data))

    def _logs(self, record: Record, story: Story) -> list[Log]:
        from faasflow.cli.request_logs import Window

        last = record["attempts"][-1] if record["started"] is None and record.get("attempts") else record
        if not self.with_logs or last["started"] is None or record["path"].startswith("$callback"):
            return []
        window = Window(self.request_id, last["started"], last["ended"] or story["now"], record["path"])
        found = [self._log(name, window) for name in dict.fromkeys([*_functions(record, story), self.flow])]
        return [log for log in found if log is not None]

    def _log(self, name: str, window: Window) -> Log | None:
        from faasflow.cli.request_logs import lines_in, without_fields
        from faasflow.cli.track_view import Log

        try:
            lines = lines_in(self.remote, name, window)
        except FaasflowError as error:
            self.reasons[f"Logs are missing: {error.message}"] = error
            return None
        return Log(name, [(line.time, without_fields(line.text)) for line in lines])


@dataclass(frozen=True, slots=True)
class Shown:
    """Whether the overview is shown, with a long table folded, and in which states each node is shown nevertheless."""

    with_overview: bool = True
    is_folded: bool = True
    unfolded: Sequence[str] = ()


def show_all(tracked: Tracked, story: Story, shown: Shown) -> None:
    """The request, and below it what failed."""
    from faasflow.cli.look import Look
    from faasflow.cli.track_view import overview_lines, request_failure_lines, way_out_lines

    look = Look.of(sys.stdout)
    if shown.with_overview:
        _show_lines(overview_lines(story, look, is_folded=shown.is_folded, unfolded=shown.unfolded))
    if story["failure"] and not story["failure"]["node"]:
        _show_lines(["", *request_failure_lines(story, look)])
    _show_failing(tracked, story)
    _show_lines(way_out_lines(story))
    _note_reasons(tracked)


def _show_failing(tracked: Tracked, story: Story) -> None:
    """What failed: of a request that ended with it the first from near, of one that goes on in spite of it in short."""
    from faasflow.cli.look import Look
    from faasflow.cli.track_rows import failing
    from faasflow.cli.track_view import brief_line, command, failure_lines

    look, records = Look.of(sys.stdout), failing(story)
    near, brief = _parted(records, story)
    for record in near:
        _show_lines(["", *failure_lines(tracked.close(record, story), story, look)])
    if brief:
        left = len(records) - len(near) - len(brief)
        more = f" ({left} or more like these)" if left else ""
        _show_lines(["", *(brief_line(record, story, look) for record in brief)])
        _show_lines([f"One from near{more}: {command(story, '--node', 'NODE')}"])


def _parted(records: Sequence[Record], story: Story) -> tuple[Sequence[Record], Sequence[Record]]:
    near = records[:_NEAR] if story["state"] == "FAILED" else []
    return near, records[len(near) : len(near) + _BRIEF]


def _show_node(tracked: Tracked, node: str, *, as_json: bool) -> Story:
    """One node from near: an execution, or all there is to say of its executions in branches."""
    from faasflow.cli.look import Look
    from faasflow.cli.track_view import failure_lines, header_lines

    story = tracked.story(node)
    path, records = _records(story, node)
    if as_json:
        show(
            json.dumps(
                {"node": path, "executions": [_document(tracked, record, story) for record in records]}, indent=2
            )
        )
        return story
    look = Look.of(sys.stdout)
    _show_lines([*header_lines(story, look), ""])
    _show_place(story, path, look)
    for record in records:
        _show_lines(["", *failure_lines(tracked.close(record, story), story, look)])
    _note_reasons(tracked)
    return story


def _show_place(story: Story, path: str, look: Any) -> None:
    from faasflow.cli.track_rows import node_rows
    from faasflow.cli.track_view import brief_line, table_lines

    base = path.partition("@")[0]
    _show_lines(table_lines([row for row in node_rows(story) if row.path == base], look))
    if base == path:
        folded = [row for row in story["nodes"] if row["path"] == path and "executions" in row]
        failures = [brief_line(one, story, look) for row in folded for one in row["failures"]]
        _show_lines(["", *failures] if failures else [])


def _records(story: Story, node: str) -> tuple[str, list[Record]]:
    """The path that is meant, and the executions of it; a misuse for a node that the request does not have."""
    from faasflow.cli.story import name_of

    rows = [row for row in story["nodes"] if "branches" not in row]
    inner = [one for row in rows for one in row.get("failures", ())]
    places = [place["path"] for place in story["graph"] or ()]
    paths = dict.fromkeys([*(row["path"] for row in [*rows, *inner]), *places])
    path = node if node in paths else next((one for one in paths if node == name_of(one)), None)
    if path is None:
        close = difflib.get_close_matches(node, [name_of(one) for one in paths], 3, 0.5)
        hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else "The table of the request has the names."
        raise BadRequestError(f"Request {story['request_id']!r} has no node {node!r}.", hint=hint)
    found = {row["path"]: row for row in [*inner, *rows] if row["path"] == path and "executions" not in row}
    return path, list(found.values())


def _value(tracked: Tracked, node: str | None, part: str) -> bytes:
    if node is None:
        return tracked.value("", part)
    story = tracked.story(node)
    path, records = _records(story, node)
    is_finished = any(record["state"] == "FINISHED" for record in records)
    return tracked.value(path, "result" if part == "output" and is_finished else part)


def _check_use(node: str | None, part: str | None, *, watch: bool, as_json: bool) -> None:
    if part == "output" and node is None:
        raise click.UsageError("--output belongs to a --node. The result of a request: faasflow result REQUEST")
    if part is not None and (watch or as_json):
        raise click.UsageError("--input and --output write a value as it is, and go with neither --watch nor --json.")
    if watch and node is not None:
        raise click.UsageError("--watch shows all nodes, and does not go with --node.")


def _functions(record: Record, story: Story) -> Sequence[str]:
    """The functions that an execution called: of one that failed in a call, that one."""
    path = record["path"].partition("@")[0]
    functions = next((place["functions"] for place in story["graph"] or () if place["path"] == path), ())
    failure = record.get("failure") or (record["attempts"][-1] if record.get("attempts") else {})
    operation = failure.get("operation", "")
    if operation in functions or (story["graph"] is None and failure.get("code") and "://" not in operation):
        return [operation]
    return list(functions) if not operation else []


def _show_json(tracked: Tracked, story: Story) -> None:
    """The story, and what failed with its values and logs."""
    from faasflow.cli.track_rows import failing

    near = [_document(tracked, record, story) for record in _parted(failing(story), story)[0]]
    show(
        json.dumps({**story, "failing": near, "notes": [error.message for error in tracked.reasons.values()]}, indent=2)
    )


def _document(tracked: Tracked, record: Record, story: Story) -> dict[str, Any]:
    close = tracked.close(record, story)
    values = {
        part: {
            "size": value.size,
            "excerpt": value.text,
            **({} if value.text is not None else {"base64": _base64(value.data)}),
        }
        for part, value in close.values.items()
    }
    logs = {log.name: [{"time": time, "text": text} for time, text in log.lines] for log in close.logs}
    return {**record, **values, "logs": logs}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _show_lines(lines: Sequence[str]) -> None:
    for line in lines:
        show(line)


def _note_reasons(tracked: Tracked) -> None:
    for reason, error in tracked.reasons.items():
        note(reason + (f" {error.hint}" if error.hint else ""))


_SHOWN = {"input": "input", "output": "output", "result": "output"}
