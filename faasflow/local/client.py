"""Sends HTTP requests on behalf of others: once, binary-safe, with every header as it came, over pooled connections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError as Urllib3ConnectTimeout
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, ReadTimeoutError
from urllib3.util import SKIP_HEADER

from faasflow.errors import CallTimeoutError, TransportError, UnreachableError
from faasflow.sockets import SOCKET_OPTIONS
from faasflow.transport.connections import POOL_CLASSES

Headers = Sequence[tuple[str, str]]

_CONNECT_TIMEOUT = 3.0
_POOLS = 256
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
_RECOMPUTED = frozenset(("host", "content-length", "expect"))


class LostAnswerError(TransportError):
    """The connection was lost after the call was sent; whether it took place is not known."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of any status."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str, default: str = "") -> str:
        return find_header(self.headers, name) or default


class Client:
    """A pool of connections for `threads` threads."""

    def __init__(self, *, threads: int) -> None:
        self._pools = urllib3.PoolManager(_POOLS, maxsize=threads, retries=False, socket_options=SOCKET_OPTIONS)
        self._pools.pool_classes_by_scheme = POOL_CLASSES

    def send(self, method: str, url: str, *, target: str = "", headers: Headers, body: bytes, timeout: float) -> Reply:
        """Send once to `url` + `target` (a path and query, used as they are) and return whatever is answered; redirects
        are not followed. `UnreachableError`, `LostAnswerError`, `CallTimeoutError` after `timeout` seconds, else
        `TransportError`.

        A pooled connection that the other side has closed is noticed before it is used, and opened anew."""
        parts = urlsplit(url)
        path = (parts.path.rstrip("/") + target if target else parts.path) or "/"
        try:
            answer = self._pools.connection_from_url(url).urlopen(
                method,
                f"{path}?{parts.query}" if parts.query and not target else path,
                body=body or None,
                headers=_outgoing(headers, method=method, size=len(body)),
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=min(_CONNECT_TIMEOUT, timeout), read=timeout),
                decode_content=False,
            )
        except (HTTPError, ValueError) as exc:
            raise _translated(exc, url=url, timeout=timeout) from exc
        return Reply(answer.status, end_to_end(answer.headers.iteritems()), answer.data)

    def close(self) -> None:
        self._pools.clear()


def end_to_end(headers: Iterable[tuple[str, str]]) -> Headers:
    """Headers without those that concern one connection only."""
    pairs = [*headers]
    named = {
        token.strip().lower() for name, value in pairs if name.lower() == "connection" for token in value.split(",")
    }
    return [(name, value) for name, value in pairs if name.lower() not in _HOP_BY_HOP | named]


def find_header(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """The first value of a header, whatever the case of its name."""
    wanted = name.lower()
    return next((value for key, value in headers if key.lower() == wanted), None)


def _outgoing(headers: Headers, *, method: str, size: int) -> urllib3.HTTPHeaderDict:
    outgoing = urllib3.HTTPHeaderDict()
    for name, value in headers:
        if name.lower() not in _RECOMPUTED:
            outgoing.add(name, value)
    if size or method in ("POST", "PUT", "PATCH"):
        outgoing["Content-Length"] = str(size)
    for name in ("User-Agent", "Accept-Encoding"):
        outgoing.setdefault(name, SKIP_HEADER)  # else urllib3 adds its own
    return outgoing


def _translated(exc: Exception, *, url: str, timeout: float) -> TransportError:
    if isinstance(exc, NewConnectionError | Urllib3ConnectTimeout):
        return UnreachableError(f"{url} cannot be reached.")
    if isinstance(exc, ReadTimeoutError):
        return CallTimeoutError(f"{url} did not answer within {timeout:g} s.")
    if isinstance(exc, ProtocolError):
        return LostAnswerError(f"{url} gave no answer: {exc}")
    return TransportError(f"{url} gave no answer: {exc}")
