"""Functions of the template python3, as the classic watchdog serves them: a process for each call, which gets the
request in `Http_…` variables and whose standard output is the answer.

Two things differ: standard error goes to the log, and not into the answer, and an error is answered with its text.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flask import Flask, Response, request

from faasflow.config import parse_duration
from faasflow.local.styles import create_routes

_CALL = Path(__file__).with_name("classic_call.py")
_TEXT = "text/plain; charset=utf-8"
_LIMIT = "exec_timeout"
_KILLED = 408
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def create_classic_app(folder: Path) -> Flask:
    """An application that runs the `handle` of a folder's handler.py for each call. One that takes longer than the
    variable `exec_timeout` is killed, and answered 408."""
    limit = parse_duration(os.environ.get(_LIMIT, "")) or None
    command = [sys.executable, "-P", "-B", str(_CALL), str(folder)]

    def call(path: str = "") -> Response:
        try:
            done = subprocess.run(
                command,
                input=request.get_data(),
                stdout=subprocess.PIPE,
                env=_environment(),
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            return Response(f"Killed after {limit:g} s.", _KILLED, content_type=_TEXT)
        return _answer(done.stdout) if done.returncode == 0 else _failure(done.returncode, done.stdout)

    return create_routes(call, methods=_METHODS)


def _environment() -> dict[str, str | bytes]:
    """The function's own, and what the watchdog tells of a request: its headers, method, path, query and length."""
    length = str(request.content_length or 0)
    texts = {f"Http_{name.replace('-', '_')}": value for name, value in reversed([*request.headers.items()])}
    texts |= {"Http_Method": request.method, "Http_Host": request.host}
    texts |= {"Http_ContentLength": length, "Http_Content_Length": length}
    variables = {name: value.encode("latin-1", "replace") for name, value in texts.items()}
    variables["Http_Path"] = request.path.encode()
    if request.query_string:
        variables["Http_Query"] = request.query_string
    return {**os.environ, **{name: value for name, value in variables.items() if b"\0" not in value}}


def _answer(body: bytes) -> Response:
    return Response(body, content_type=request.headers.get("Content-Type") or _TEXT)


def _failure(code: int, output: bytes) -> Response:
    """The last line that was printed says why, unless the process ended without a word; the others are for the log."""
    *lines, reason = output.decode("utf-8", "replace").rstrip("\n").split("\n")
    for line in lines:
        print(line, file=sys.stderr)
    return Response(reason or f"The process of the call ended with exit status {code}.", 500, content_type=_TEXT)
