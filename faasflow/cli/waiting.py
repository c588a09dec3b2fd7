"""Waiting for the end of a request, through gateways that end a call which takes too long."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from faasflow.cli.request import quoted
from faasflow.errors import FaasflowError

if TYPE_CHECKING:
    import requests

    from faasflow.cli.remote import Remote

PREFER = "Prefer"

_LONGEST_LOOK = 30
_PAUSE = 0.1


class StillRunningError(FaasflowError, TimeoutError):
    """A request has not ended in the time that was given to it."""


def wait_for_end(remote: Remote, flow: str, request_id: str, until: float) -> requests.Response:
    """The answer of a flow once the request has ended, asked for again and again until then; `StillRunningError` if it
    has not at `until`, in seconds of `time.monotonic`."""
    from faasflow.cli.remote import result_path

    while (left := until - time.monotonic()) > 0:
        answer = remote.call(flow, result_path(request_id), method="GET", headers={PREFER: wish(left)})
        if not is_pending(answer):
            return answer
        time.sleep(min(_PAUSE, left))
    raise StillRunningError(
        f"Request {request_id!r} has not ended yet.",
        hint=f"See how it gets on: faasflow track {quoted(flow, request_id)}",
    )


def is_pending(answer: requests.Response) -> bool:
    """Whether it is a flow's word that the request goes on."""
    from faasflow.cli.remote import STATE

    return answer.status_code == 202 and STATE in answer.headers


def wish(seconds: float) -> str:
    """What asks a flow, in the header `Prefer`, to wait before it answers."""
    return f"wait={math.ceil(min(seconds, _LONGEST_LOOK))}"
