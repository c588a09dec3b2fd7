"""The Flask applications behind the plain handler styles, after the official OpenFaaS templates for Python.

They follow the templates python3-http and python3-flask, with two differences: a body of bytes in a returned dict
passes unharmed (the official template answers its repr), and an exception is answered with its text. `sys.exit` is one:
the process serves other calls as well, and goes on.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.datastructures import EnvironHeaders
from werkzeug.exceptions import HTTPException

from faasflow.local.stack import Style

Handle = Callable[..., Any]


class Event:
    """The request, as a python3-http handler gets it; `body` is bytes."""

    def __init__(self) -> None:
        self.body: bytes = request.get_data()
        self.headers: EnvironHeaders = request.headers  # type: ignore[assignment]
        self.method: str = request.method
        self.query = request.args
        self.path: str = request.path


class Context:
    """Where a python3-http handler runs."""

    def __init__(self) -> None:
        self.hostname = os.environ.get("HOSTNAME") or socket.gethostname()


def create_app(handle: Handle, *, style: Style) -> Flask:
    """An application that answers every path and method its style routes by calling `handle`; `style` is HTTP or
    FLASK."""
    answer, methods = _STYLES[style]
    return create_routes(lambda: answer(handle), methods=methods)


def create_routes(answer: Callable[[], Any], *, methods: Sequence[str]) -> Flask:
    """An application that answers every path, and beside it what a gateway asks for."""
    app = Flask("function", static_folder=None)

    def call(path: str = "") -> Any:
        try:
            return answer()
        except Exception:
            raise
        except BaseException as error:  # SystemExit would end the thread, and leave the caller without an answer
            return _failed(error)

    app.add_url_rule("/_/health", "health", lambda: "OK")
    app.add_url_rule("/_/ready", "ready", lambda: "OK")
    app.add_url_rule("/", "root", call, methods=methods)
    app.add_url_rule("/<path:path>", "path", call, methods=methods)
    app.register_error_handler(Exception, _failed)
    return app


def _answer_http(handle: Handle) -> Any:
    result = handle(Event(), Context())
    if result is None:
        return Response(b"", 200)
    if not isinstance(result, dict):
        return result
    return _finished(result.get("body"), int(result.get("statusCode", 200)), result.get("headers"))


def _finished(body: Any, status: int, headers: Any) -> Response:
    if isinstance(body, Response):
        response = body
    elif isinstance(body, dict | list):
        response = jsonify(body)
    elif body is None or isinstance(body, bytes | bytearray | str):
        response = Response(bytes(body) if isinstance(body, bytearray) else body or b"")
    else:
        response = Response(str(body))
    response.status_code = status
    pairs = [*(headers.items() if isinstance(headers, dict) else headers or ())]
    for name, _ in pairs:
        response.headers.remove(name)
    for name, value in pairs:
        response.headers.add(name, str(value))
    return response


def _answer_flask(handle: Handle) -> Any:
    result = handle(_text_or_raw())
    return b"" if result is None else result


def _text_or_raw() -> str | bytes:
    raw = os.environ.get("RAW_BODY", "").lower() == "true"
    return request.get_data() if raw else request.get_data(as_text=True)


def _failed(error: BaseException) -> Any:
    if isinstance(error, HTTPException):
        return error
    traceback.print_exception(error, file=sys.stderr)
    return Response(f"{type(error).__name__}: {error}", 500, mimetype="text/plain")


_STYLES: dict[Style, tuple[Callable[[Handle], Any], list[str]]] = {
    Style.HTTP: (_answer_http, ["GET", "PUT", "POST", "PATCH", "DELETE"]),
    Style.FLASK: (_answer_flask, ["GET", "POST"]),
}
