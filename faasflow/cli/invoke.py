"""`faasflow invoke`: a call of a flow, or of any function, through a gateway."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from faasflow.cli.console import note, write_result
from faasflow.cli.options import (
    body_of,
    data_option,
    duration,
    header,
    query_option,
    query_text,
    remote_options,
)
from faasflow.cli.request import quoted
from faasflow.cli.waiting import PREFER, is_pending, wait_for_end, wish

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote

_CALLBACK = "X-Faas-Flow-Callback-Url"


@click.command(short_help="Call a flow or function through a gateway.")
@click.argument("flow")
@data_option
@query_option
@click.option(
    "-H", "--header", "headers", multiple=True, type=header, metavar="'NAME: VALUE'", help="Header; may be given often."
)
@click.option("-a", "--async", "is_async", is_flag=True, help="Put the call into the gateway's queue.")
@click.option(
    "--wait",
    type=duration,
    metavar="DURATION",
    help="Wait this long, e.g. 30s, for the result of an asynchronous flow (default: do not wait).",
)
@click.option("--callback", metavar="URL", help="Where the flow posts its result, or its failure, at its end.")
@remote_options
def invoke(
    remote: Remote,
    flow: str,
    data: str | None,
    query: list[tuple[str, str]],
    headers: list[tuple[str, str]],
    is_async: bool,
    wait: float | None,
    callback: str | None,
) -> None:
    """Call FLOW, or any function, and write what it answers to stdout; the id of the request goes to stderr.

    A flow of more than one node answers with its id only, unless it is waited for. Ends with 1 if the flow fails, or
    has not ended when the wait is over.

    \b
    Examples:
      faasflow invoke greet --data Ada
      faasflow invoke report --wait 2m < records.csv > report.html
      faasflow invoke report --async --callback https://example.com/done
    """
    from faasflow.cli.remote import REQUEST_ID, checked, pairs_in_headers
    from faasflow.naming import IdMaker

    if is_async and wait is not None:
        raise click.UsageError("--async and --wait exclude each other: what is in the queue is not waited for.")
    sent = pairs_in_headers(headers)
    if callback:
        sent[_CALLBACK] = callback
    body = body_of(data)
    if is_async or wait is not None:
        # Of a queue's answer it is not to be seen, a caller who waits wants it at once; and what is delivered twice
        # is one request with it.
        sent.setdefault(REQUEST_ID, IdMaker()())
    if wait is not None:
        sent.setdefault(PREFER, wish(wait))
        note(f"request {sent[REQUEST_ID]}")
    try:
        answer = remote.call(flow, query=query_text(query), headers=sent, body=body, is_async=is_async, signs_body=True)
        request_id = sent.get(REQUEST_ID) or answer.headers.get(REQUEST_ID, "")
        if is_async and answer.ok:
            note("Function submitted asynchronously.")
        if request_id and wait is None:
            note(f"request {request_id}")
        if is_pending(answer) and wait is not None:
            answer = wait_for_end(remote, flow, request_id, time.monotonic() + wait)
    except KeyboardInterrupt:
        if wait is not None:
            note(f"Interrupted; the request goes on. See how: faasflow track {quoted(flow, sent[REQUEST_ID])}")
        raise
    checked(answer)
    if not is_pending(answer):
        write_result(answer.content)
