"""Flows that are named by the Host header, as the original's were."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from faasflow.errors import ConfigError
from faasflow.http.answers import error_response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_NAME = re.compile(r"([a-z0-9](?:[-a-z0-9]*[a-z0-9])?)(?:[.:].*)?", re.IGNORECASE | re.DOTALL)
_MOST = 16


class ByHost:
    """Hands a request to the application of the flow that its Host header names: what stands before the first `.` or
    `:`. An address instead of a name is refused, except for the health checks, which `default` answers."""

    def __init__(self, default: WSGIApplication, make: Callable[[str], WSGIApplication]) -> None:
        self._default = default
        self._make = lru_cache(maxsize=_MOST)(make)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/_/"):
            return self._default(environ, start_response)
        host = environ.get("HTTP_HOST", "")
        name = _flow_of(host)
        if not name:
            return error_response(_unnamed(host), "")(environ, start_response)
        return self._make(name)(environ, start_response)


def _flow_of(host: str) -> str:
    """The flow that a Host header names, empty if it is an address."""
    found = _NAME.fullmatch(host)
    return "" if found is None or found[1].isdigit() else found[1].lower()


def _unnamed(host: str) -> ConfigError:
    return ConfigError(
        f"The flow has no name: the Host header is {host!r}.", hint="Set workflow_name to the name of the function."
    )
