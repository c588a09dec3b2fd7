"""Request ids of any text in paths and headers.

WSGI decodes a path before an application sees it, and `a%2Fstate` can no longer be told from `a/state`. So routes are
matched against the path as it came, and an id is decoded after that. Behind proxies that decode paths themselves, an id
with slashes still works where no part of it reads like a command.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from werkzeug.routing import BaseConverter

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class RawPaths:
    """Gives an application the path as it came on the wire."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = _raw_path(environ)
        return self._app(environ, start_response)


_COMMANDS = ("forward", "pause", "resume", "stop", "retry", "state", "result", "data")


class IdConverter(BaseConverter):
    """A request id with a command behind it."""

    regex = ".+"
    part_isolating = False

    def to_python(self, value: str) -> str:
        return decoded(unquote_to_bytes(value))


class LastIdConverter(IdConverter):
    """A request id that ends the path."""

    # Else GET /flow/x/pause would ask for a request "x/pause" instead of being refused.
    regex = rf"(?!.*/(?:{'|'.join(_COMMANDS)})\Z).+"


def decoded(data: bytes) -> str:
    """The text of an id: UTF-8, or else Latin-1, which is what HTTP once asked for."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _raw_path(environ: WSGIEnvironment) -> str:
    raw: str = environ.get("REQUEST_URI") or quote(environ["PATH_INFO"], encoding="latin-1")
    if not raw.startswith("/"):  # a request line may hold a whole URL
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    return quote(raw.partition("?")[0], safe="/%:@!$&'()*+,;=~-._", encoding="latin-1")
