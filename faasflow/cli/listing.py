"""`faasflow list` and `faasflow state`: what is on a gateway, and how requests get on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import duration, show, show_table
from faasflow.cli.options import remote_options

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote

_UNSUCCESSFUL = ("FAILED", "STOPPED")


@click.command("list", short_help="List flows and functions, or a flow's requests.")
@click.argument("flow", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, help="With FLOW: how many requests, 1 to 1000 (default: 20)."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON; times are seconds since the epoch.")
@remote_options
def list_(remote: Remote, flow: str | None, limit: int, as_json: bool) -> None:
    """List the flows and functions of a gateway, or the newest requests of FLOW.

    Flows are those with the label faas-flow: "1".

    \b
    Examples:
      faasflow list
      faasflow list greet --limit 5
    """
    from faasflow.cli.remote import story_of

    if flow is None:
        functions = [_function(function) for function in remote.functions()]
        _write(functions, ("Name", "Kind", "Invocations", "Replicas"), as_json=as_json)
        return
    requests = story_of(remote.read(flow, "/flow", query=f"limit={limit}"))["requests"]
    if as_json:
        show(json.dumps(requests, indent=2))
    else:
        show_table(("Request", "State", "Started", "Duration"), map(_request, requests))


@click.command(short_help="Write the state of a request.")
@click.argument("flow")
@click.argument("request")
@remote_options
@click.pass_context
def state(context: click.Context, remote: Remote, flow: str, request: str) -> None:
    """Write the state of a REQUEST of FLOW: RUNNING, PAUSED, FINISHED, FAILED or STOPPED.

    Ends with 1 for FAILED and STOPPED, and if no such request is known.

    \b
    Example:
      faasflow state greet cv6bo1rkf1nc73a2dmv0
    """
    from urllib.parse import urlencode

    answer = remote.read(flow, query=urlencode({"state": request}))
    word = answer.text.strip()
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


def _request(request: Mapping[str, Any]) -> tuple[str, str, str, str]:
    started = datetime.fromtimestamp(request["created"]).strftime("%Y-%m-%d %H:%M:%S")
    ended = request["ended"] or time.time()
    return request["request_id"], request["state"], started, duration(ended - request["created"])
