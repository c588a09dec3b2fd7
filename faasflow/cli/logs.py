"""`faasflow logs`: what functions write, one of them, or all that a request called."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import is_terminal, note, report_error, show
from faasflow.cli.finding import flow_of
from faasflow.cli.options import moment, remote_options
from faasflow.cli.request import Named

if TYPE_CHECKING:
    from faasflow.cli.remote import LogLine, Remote

_NEVER_RAN = ("WAITING", "SKIPPED", "CANCELLED")


@click.command(short_help="Show what functions write.")
@click.argument("name", required=False)
@click.option("--request", metavar="ID", help="Only what belongs to this request: of its flow, and what that called.")
@click.option("--since", type=moment, metavar="TIME", help="Only what was written since: 10m, 2h ago, or RFC 3339.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines.")
@click.option("--follow", is_flag=True, help="Go on with the lines that come, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Write a line of JSON for each line, as the gateway tells it.")
@remote_options
@click.pass_context
def logs(
    context: click.Context,
    remote: Remote,
    name: str | None,
    request: str | None,
    since: float | None,
    tail: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Show what a function or flow NAME wrote to its log, with the time of each line.

    With --request NAME is the flow, and may be left out. Its lines and those of the functions that it called come by
    time, with their names. Gateways keep logs by function: of a function that does not write the id of the request all
    is shown that it wrote while that ran.

    \b
    Examples:
      faasflow logs render-report --since 10m
      faasflow logs weather-report --tail 50 --follow
      faasflow logs --request cv6bo1rkf1nc73a2dmv0
    """
    if request is None:
        if name is None:
            raise click.UsageError("Name a function or flow, or a request with --request.")
        _write(remote.logs(name, since=since, tail=tail, follow=follow), with_name=False, as_json=as_json)
        return
    if follow:
        raise click.UsageError("--follow shows one function, and does not go with --request.")
    named = Named.of(request)
    remote = remote.at(named.gateway) if named.gateway else remote
    flow = named.flow or name or flow_of(remote, named.id)
    lines, is_complete = _of_request(remote, flow, named.id, since)
    _write(lines if tail is None else lines[max(0, len(lines) - tail) :], with_name=True, as_json=as_json)
    if not is_complete:
        context.exit(FAILED)


def _of_request(remote: Remote, flow: str, request: str, begin: float | None) -> tuple[list[LogLine], bool]:
    """The lines that belong to a request, and whether they could all be had."""
    from faasflow.cli.remote import story_of, story_path
    from faasflow.cli.request_logs import Window, merged

    story = story_of(remote.read(flow, story_path(request), query="fold=true"))
    start = max(float(story["created"]), begin or 0.0)
    end = max([float(row["ended"]) for row in story["nodes"] if row["ended"]], default=0.0)
    window = Window(request, start, max(end, float(story["ended"] or story["now"])))
    lines, failed = merged(remote, [flow, *called(story)], window)
    for error in failed:
        report_error(error.message, hint=error.hint)
    if not lines and not failed:
        note("Nothing was written, or nothing of it is kept.")
    return lines, not failed


def called(story: Mapping[str, Any]) -> list[str]:
    """The functions that a request called, or may be calling; where its graph is not known, the one that failed."""
    if story["graph"] is None:
        failure = story["failure"] or {}
        operation = str(failure.get("operation", ""))
        return [operation] if failure.get("code") and "://" not in operation else []
    ran = [row for row in story["graph"] if row["state"] not in _NEVER_RAN]
    return list(dict.fromkeys(function for row in ran for function in row["functions"]))


def _write(lines: Iterable[LogLine], *, with_name: bool, as_json: bool) -> None:
    for line in lines:
        show(json.dumps(line.row) if as_json else shown(line, with_name=with_name))


def shown(line: LogLine, *, with_name: bool) -> str:
    """A line with its time; on a terminal without what would steer that."""
    from faasflow.graph.drawing import printable

    moment = datetime.fromtimestamp(line.time)
    text = printable(line.text.expandtabs(4)) if is_terminal(sys.stdout) else line.text
    name = f"{line.name}  " if with_name else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}  {name}{text}"
