"""`faasflow result`: what a request came to."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faasflow.cli.console import write_result
from faasflow.cli.finding import flow_of
from faasflow.cli.options import duration, remote_options
from faasflow.cli.request import quoted, request_argument
from faasflow.cli.waiting import StillRunningError, is_pending, wait_for_end

if TYPE_CHECKING:
    import requests

    from faasflow.cli.remote import Remote


@click.command(short_help="Write the result of a request.")
@click.option("--wait", type=duration, metavar="DURATION", help="Wait this long for its end, e.g. 30s.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it to this file instead of stdout; nothing is written unless there is a result.",
)
@remote_options
@request_argument
def result(remote: Remote, request: str, flow: str | None, wait: float | None, output: Path | None) -> None:
    """Write the result of a REQUEST to stdout, as it is.

    Ends with 1 for a request that has not ended, has failed, was stopped, or is not known; stderr says which, and for
    one that failed what it answers.

    \b
    Examples:
      faasflow result cv6bo1rkf1nc73a2dmv0
      faasflow result orders order-1 --wait 2m -o invoice.pdf
    """
    from faasflow.cli.remote import result_path

    name = flow or flow_of(remote, request)
    answer = (
        remote.call(name, result_path(request), method="GET")
        if wait is None
        else wait_for_end(remote, name, request, time.monotonic() + wait)
    )
    write_ended(name, request, answer, output)


def write_ended(flow: str, request: str, answer: requests.Response, output: Path | None = None) -> None:
    """Write the result that a flow answered, to stdout or a file; `StillRunningError` or `RemoteError` for what is
    none."""
    from faasflow.cli.remote import checked

    _check_ended(flow, request, answer)
    _write(checked(answer).content, output)


def _check_ended(flow: str, request: str, answer: requests.Response) -> None:
    from faasflow.cli.remote import STATE, RemoteError

    state = answer.headers.get(STATE, "")
    if is_pending(answer):
        named = quoted(flow, request)
        is_paused = state == "PAUSED"
        way = (
            f"Let it go on: faasflow resume {named}" if is_paused else f"Wait for it: faasflow result {named} --wait 1m"
        )
        raise StillRunningError(f"Request {request!r} has not ended: it is {state}.", hint=way)
    if answer.ok and not state:
        raise RemoteError(f"{flow!r} did not answer as a flow does.", code=answer.status_code, hint="Is it a flow?")


def _write(data: bytes, output: Path | None) -> None:
    if output is None:
        write_result(data)
        return
    try:
        output.write_bytes(data)
    except OSError as exc:
        raise click.ClickException(f"{str(output)!r} cannot be written: {exc.strerror}.") from exc
