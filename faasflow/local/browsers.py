"""Keeps pages of other sites away from what listens on this machine, where every browser can reach it.

Two things are checked. The Host header, against DNS rebinding: a page whose own name suddenly means 127.0.0.1 is of the
same origin for its browser, and only its name gives it away. And for requests of browsers, who sent them: the form or
image of a foreign page needs no leave of ours. Clients that are no browsers send none of these headers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_LOCALHOST = "localhost"
_TRUSTED_SITES = ("same-origin", "none")  # none: what somebody typed, or opened from a bookmark
_CALL_ID = "HTTP_X_CALL_ID"


@dataclass(frozen=True, slots=True)
class _Place:
    """Host and port of a Host header or an origin; `port` is `None` where it is the scheme's own."""

    host: str
    port: int | None

    @property
    def is_address(self) -> bool:
        return _address(self.host) is not None

    @property
    def is_loopback(self) -> bool:
        address = _address(self.host)
        return self.host == _LOCALHOST or (address is not None and address.is_loopback)


class BrowserGuard:
    """Hands a request to `app` if its Host is an address, localhost, `own` or one of `names` (421 otherwise) and, where
    a browser sent it, if it comes from a page of the same address or of one of `names` (403). Names have no port."""

    def __init__(self, app: WSGIApplication, *, own: str = _LOCALHOST, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = frozenset(name.strip("[]").lower() for name in names)
        self._hosts = self._names | {own.lower(), _LOCALHOST}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        refusal = self._refusal(environ)
        return self._app(environ, start_response) if refusal is None else refusal(environ, start_response)

    def _refusal(self, environ: WSGIEnvironment) -> Response | None:
        text = environ.get("HTTP_HOST", "")
        host = _place(f"//{text}")
        if host is None or not (host.is_address or host.host in self._hosts):
            return _refused(421, f"The Host header {text!r} is not accepted here.", self._way_out(host))
        if self._is_checked(environ) or self._is_own(environ, host):
            return None
        origin = _origin(environ)
        page = f"The page {origin!r}" if origin else "A page of another site"
        return _refused(403, f"{page} may not call this address.", self._way_out(_place(origin)))

    def _is_checked(self, environ: WSGIEnvironment) -> bool:
        return False

    def _way_out(self, place: _Place | None) -> str:
        return f"To allow it, start the gateway with: faasflow up --allow-host {place.host if place else 'NAME'}"

    def _is_own(self, environ: WSGIEnvironment, host: _Place) -> bool:
        """Whether no page sent a request, or one that may."""
        site = environ.get("HTTP_SEC_FETCH_SITE")
        origin = _origin(environ)
        if site in _TRUSTED_SITES or (site is None and not origin):
            return True
        page = _place(origin)
        if page is None:
            return False
        is_beside = page.is_loopback and host.is_loopback and page.port == host.port
        return page == host or is_beside or page.host in self._names


class FunctionGuard(BrowserGuard):
    """As `BrowserGuard`, for the process of a function. The gateway has checked what it sends, and adds a header that a
    page cannot add: its browser asks first, and that is refused."""

    def __init__(self, app: WSGIApplication) -> None:
        super().__init__(app)

    def _is_checked(self, environ: WSGIEnvironment) -> bool:
        return _CALL_ID in environ

    def _way_out(self, place: _Place | None) -> str:
        return "Call the function through its gateway."


def is_host_name(text: str) -> bool:
    """Whether a text is a host without scheme, port or path."""
    place = _place(f"//{text}")
    return place is not None and place.port is None and place.host == text.strip("[]").lower()


def _origin(environ: WSGIEnvironment) -> str:
    """The origin of the page that sent a request; empty if nothing names one."""
    origin: str = environ.get("HTTP_ORIGIN", "")
    return origin or _origin_of(environ.get("HTTP_REFERER", ""))


def _origin_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "null"
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ("null" if url else "")


def _place(url: str) -> _Place | None:
    """Where a URL points to; `None` if that cannot be told. The ports 80 and 443 are those of the schemes."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or parts.netloc != url.partition("//")[2] or any(mark in url for mark in "@, \t"):
        return None
    return _Place(host, None if port in (80, 443) else port)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _refused(status: int, text: str, hint: str) -> Response:
    return Response(f"{text} {hint}\n", status, content_type="text/plain; charset=utf-8")
