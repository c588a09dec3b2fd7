"""`faasflow list` and `faasflow state`: what is on a gateway, and how requests get on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import columns, duration, is_terminal, shortened, show, show_table
from faasflow.cli.finding import flow_of
from faasflow.cli.options import remote_options
from faasflow.cli.request import request_argument
from faasflow.cli.selection import Selection, requests_of, selection_options
from faasflow.engine.lifecycle import RequestState

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote

_UNSUCCESSFUL = ("FAILED", "STOPPED")
_USUAL_LIMIT = 20
_LEAST_ID, _LEAST_FAILURE = 10, 12


@click.command("list", short_help="List flows and functions, or a flow's requests.")
@click.argument("flow", required=False)
@selection_options("With FLOW", [state.value for state in RequestState])
@click.option("--limit", type=click.IntRange(min=1), help="With FLOW: how many requests (default: 20).")
@click.option("--all", "is_all", is_flag=True, help="With FLOW: all requests that fit, however many.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON; times are seconds since the epoch.")
@remote_options
def list_(
    remote: Remote, flow: str | None, selection: Selection, limit: int | None, is_all: bool, as_json: bool
) -> None:
    """List the flows and functions of a gateway, or the newest requests of FLOW: when they started, how long they took,
    and the node in which they failed.

    Flows are those with the label faas-flow: "1".

    \b
    Examples:
      faasflow list
      faasflow list greet --limit 5
      faasflow list greet --state failed --state stopped --since 2d
    """
    _check_use(flow, selection, limit, is_all)
    if flow is None:
        functions = [_function(function) for function in remote.functions()]
        _write(functions, ("Name", "Kind", "Invocations", "Replicas"), as_json=as_json)
        return
    requests = [*requests_of(remote, flow, selection, limit=None if is_all else limit or _USUAL_LIMIT)]
    if as_json:
        show(json.dumps(requests, indent=2))
    else:
        show_requests(requests)


def _check_use(flow: str | None, selection: Selection, limit: int | None, is_all: bool) -> None:
    if flow is None and (is_all or not selection.is_all):
        raise click.UsageError("--state, --since, --before and --all choose among the requests of one FLOW. Name it.")
    if is_all and limit is not None:
        raise click.UsageError("--all and --limit exclude each other.")


def show_requests(requests: Sequence[Mapping[str, Any]], *, with_flow: bool = False) -> None:
    """A table of requests, of rows that a flow answered. On a terminal it is no wider than that."""
    first = 0 if with_flow else 1
    titles = ("Flow", "Request", "State", "Started", "Duration", "Failure")[first:]
    lines = [_request(request)[first:] for request in requests]
    if is_terminal(sys.stdout):
        _narrow(titles, lines)
    show_table(titles, lines, is_cut=True)


@click.command(short_help="Write the state of a request.")
@remote_options
@request_argument
@click.pass_context
def state(context: click.Context, remote: Remote, flow: str | None, request: str) -> None:
    """Write the state of a REQUEST: RUNNING, PAUSED, FINISHED, FAILED or STOPPED.

    Ends with 1 for FAILED and STOPPED, and if no such request is known.

    \b
    Example:
      faasflow state greet cv6bo1rkf1nc73a2dmv0
    """
    from urllib.parse import urlencode

    from faasflow.cli.remote import RemoteError

    name = flow or flow_of(remote, request)
    answer = remote.read(name, query=urlencode({"state": request}))
    word = answer.text.strip()
    if word not in RequestState.__members__:
        raise RemoteError(f"{name!r} did not answer as a flow does.", code=answer.status_code, hint="Is it a flow?")
    show(word)
    if word in _UNSUCCESSFUL:
        context.exit(FAILED)


def _function(described: Mapping[str, Any]) -> dict[str, Any]:
    from faasflow.cli.remote import is_flow

    return {
        "name": str(described.get("name", "")),
        "kind": "flow" if is_flow(described) else "function",
        "invocations": int(described.get("invocationCount") or 0),
        "replicas": int(described.get("replicas") or 0),
    }


def _write(rows: list[dict[str, Any]], titles: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        show(json.dumps(rows, indent=2))
    else:
        show_table(titles, ([str(value) for value in row.values()] for row in rows))


def _request(request: Mapping[str, Any]) -> list[str]:
    started = datetime.fromtimestamp(request["created"]).strftime("%Y-%m-%d %H:%M:%S")
    spent = duration((request["ended"] or time.time()) - request["created"])
    failure = ": ".join(part for part in (unquote(request.get("node") or ""), request.get("error_type")) if part)
    return [str(request.get("flow", "")), request["request_id"], request["state"], started, spent, failure]


def _narrow(titles: Sequence[str], lines: Sequence[list[str]]) -> None:
    """Shorten ids so that the rest, with a little of the last column, fits into the terminal."""
    at = titles.index("Request")
    widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
    others = sum(widths[:at]) + sum(widths[at + 1 : -1]) + 2 * (len(widths) - 1)
    left = columns(sys.stdout) - others - _LEAST_FAILURE
    for line in lines:
        line[at] = shortened(line[at], max(left, _LEAST_ID))
