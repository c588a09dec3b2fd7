"""`faasflow list` and `faasflow state`: what is on a gateway, and how requests get on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import duration, show, show_table
from faasflow.cli.options import gateway_option, signer_of, signing_options

_FLOW_LABEL = "faas-flow"
_UNSUCCESSFUL = ("FAILED", "STOPPED")


@click.command("list", short_help="List flows and functions, or a flow's requests.")
@click.argument("flow", required=False)
@gateway_option
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, help="With FLOW: how many requests, 1 to 1000 (default: 20)."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON; times are seconds since the epoch.")
@signing_options
def list_(flow: str | None, gateway: str, limit: int, as_json: bool, sign: str | None, key: str | None) -> None:
    """List the flows and functions of a gateway, or the newest requests of FLOW.

    Flows are those with the label faas-flow: "1".

    \b
    Examples:
      faasflow list
      faasflow list greet --limit 5
    """
    from faasflow.cli.remote import Remote, story_of

    remote = Remote(gateway, signer=signer_of(sign, key))
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
@gateway_option
@signing_options
@click.pass_context
def state(context: click.Context, flow: str, request: str, gateway: str, sign: str | None, key: str | None) -> None:
    """Write the state of a REQUEST of FLOW: RUNNING, PAUSED, FINISHED, FAILED or STOPPED.

    Ends with 1 for FAILED and STOPPED, and if no such request is known.

    \b
    Example:
      faasflow state greet cv6bo1rkf1nc73a2dmv0
    """
    from urllib.parse import urlencode

    from faasflow.cli.remote import Remote

    answer = Remote(gateway, signer=signer_of(sign, key)).read(flow, query=urlencode({"state": request}))
    word = answer.text.strip()
    show(word)
    if word in _UNSUCCESSFUL:
        context.exit(FAILED)


def _function(described: Mapping[str, Any]) -> dict[str, Any]:
    is_flow = (described.get("labels") or {}).get(_FLOW_LABEL) == "1"
    return {
        "name": str(described.get("name", "")),
        "kind": "flow" if is_flow else "function",
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
