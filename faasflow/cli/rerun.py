"""`faasflow rerun`: a new request with the body and the query of one that is recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from faasflow.cli.console import note, write_result
from faasflow.cli.finding import flow_of
from faasflow.cli.options import body_of, duration, remote_options
from faasflow.cli.request import request_argument
from faasflow.cli.result import write_ended
from faasflow.cli.waiting import PREFER, is_pending, wait_for_end, wish

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote

_GONE = 404


@click.command(short_help="Start a new request from a recorded one.")
@click.option("-d", "--data", metavar="TEXT|@FILE", help="Another body (default: that of REQUEST).")
@click.option("--id", "new_id", metavar="ID", help="Id of the new request (default: one is made).")
@click.option("--wait", type=duration, metavar="DURATION", help="Wait this long, e.g. 30s, and write the result.")
@remote_options
@request_argument
def rerun(
    remote: Remote,
    flow: str | None,
    request: str,
    data: str | None,
    new_id: str | None,
    wait: float | None,
) -> None:
    """Start a new request of the same flow with the body and the query of a REQUEST, however that ended. All of its
    nodes run. The id of the new one goes to stderr. The callback is not repeated.

    To let a failed request go on, with what it has done already: faasflow retry.

    \b
    Examples:
      faasflow rerun cv6bo1rkf1nc73a2dmv0
      faasflow rerun orders order-1 --data @corrected.json --wait 1m
    """
    from faasflow.cli.remote import REQUEST_ID, checked, story_of, story_path
    from faasflow.naming import IdMaker

    name = flow or flow_of(remote, request)
    query = str(story_of(remote.read(name, story_path(request), query="fold=true")).get("query") or "")
    body = _input(remote, name, request) if data is None else body_of(data)
    headers = {REQUEST_ID: new_id or IdMaker()()}
    note(f"request {headers[REQUEST_ID]}")
    if wait is not None:
        headers[PREFER] = wish(wait)
    answer = checked(remote.call(name, query=query, headers=headers, body=body, signs_body=True))
    if not is_pending(answer):
        write_result(answer.content)
    elif wait is not None:
        ended = wait_for_end(remote, name, headers[REQUEST_ID], time.monotonic() + wait)
        write_ended(name, headers[REQUEST_ID], ended)


def _input(remote: Remote, flow: str, request: str) -> bytes:
    """What a request was started with; `RemoteError` if it is not kept any more."""
    from faasflow.cli.remote import RemoteError, data_path

    try:
        return remote.read(flow, data_path(request), query="part=input").content
    except RemoteError as error:
        if error.code == _GONE:
            error.hint = "Give the body with --data."
        raise
