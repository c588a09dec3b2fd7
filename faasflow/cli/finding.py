"""Which flow of a gateway knows a request, for commands that are given no more than its id."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

from faasflow.errors import RequestNotFoundError

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote

_UNKNOWN = 404


def flow_of(remote: Remote, request: str) -> str:
    """The one flow of the gateway that knows a request; `RequestNotFoundError` if none does, a misuse if several do.
    Where none does and a flow could not be asked, its error is raised."""
    from faasflow.cli.remote import checked

    answers = {flow: remote.call(flow, method="GET", query=urlencode({"state": request})) for flow in remote.flows()}
    knowing = [flow for flow, answer in answers.items() if answer.ok]
    if len(knowing) > 1:
        raise click.UsageError(f"Request {request!r} is known to {', '.join(knowing)}. Say which with --flow.")
    if knowing:
        return knowing[0]
    for answer in answers.values():
        if answer.status_code != _UNKNOWN:
            checked(answer)
    raise RequestNotFoundError(f"No flow of {remote.url} knows request {request!r}.", hint="See: faasflow list FLOW")
