"""The data plane: `/function/…` and `/async-function/…`, as plain WSGI, so that paths, queries and bodies pass
unharmed.

It follows the documented behaviour of the OpenFaaS gateway. Three things differ: a function that does not answer in
time is 502 there and 504 here, the async call of an unknown function is 202 there and 404 here, and errors say what is
wrong.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

from faasflow.errors import CallTimeoutError, GatewayError, TransportError
from faasflow.local.client import Headers, end_to_end, find_header
from faasflow.local.delivery import CALL, Call
from faasflow.local.queue import Draft, Queue
from faasflow.local.routing import Absent, Function, Router
from faasflow.naming import IdMaker

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SYNC = "/function/"
ASYNC = "/async-function/"
BODY_LIMIT = 1024 * 1024

_REQUEST_ID = "X-Faas-Flow-Reqid"
_new_id = IdMaker()
_CALL_ID = "X-Call-Id"
_START_TIME = "X-Start-Time"


class Proxy:
    """Answers a call of a function, or takes it into the queue. `body_limit` in bytes is for the queue alone."""

    def __init__(self, router: Router, queue: Queue, *, body_limit: int = BODY_LIMIT) -> None:
        self._router = router
        self._queue = queue
        self._body_limit = body_limit

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raw = raw_target(environ)
        prefix = ASYNC if raw.startswith(ASYNC) else SYNC
        name, target = _split(raw.removeprefix(prefix))
        answer = _Answer(start_response, is_head=environ["REQUEST_METHOD"] == "HEAD")
        if prefix == ASYNC and environ["REQUEST_METHOD"] != "POST":
            return answer.error(405, "An asynchronous call is a POST.", [("Allow", "POST")])
        function = self._router.find(name)
        if function is None:
            return answer.error(404, f"There is no function {name!r}. GET /system/functions lists those there are.")
        if isinstance(function, Absent):
            return answer.error(502, f"Function {function.spec.name!r}: {function.reason}")
        handle = self._enqueue if prefix == ASYNC else self._forward
        return handle(function, target, environ, answer)

    def _forward(self, function: Function, target: str, environ: WSGIEnvironment, answer: _Answer) -> Iterable[bytes]:
        headers, marks = _prepare(environ)
        headers = _named(headers, function, target)
        body = environ["wsgi.input"].read()
        try:
            reply = self._router.call(function, environ["REQUEST_METHOD"], target, headers=headers, body=body)
        except CallTimeoutError as error:
            return answer.error(504, f"Function {function.spec.name!r}: {error}", marks)
        except (TransportError, GatewayError) as error:
            return answer.error(502, f"Function {function.spec.name!r}: {error}", marks)
        own = {name.lower() for name, _ in marks} | {"date", "server"}
        kept = [(name, value) for name, value in reply.headers if name.lower() not in own]
        return answer(reply.status, [*kept, *marks], reply.body)

    def _enqueue(self, function: Function, target: str, environ: WSGIEnvironment, answer: _Answer) -> Iterable[bytes]:
        headers, marks = _prepare(environ)
        callback = find_header(headers, "X-Callback-Url")
        if callback is not None and not _is_url(callback):
            return answer.error(400, f"X-Callback-Url {callback!r} is not an http or https URL.", marks)
        body = environ["wsgi.input"].read(self._body_limit + 1)
        if len(body) > self._body_limit:
            return answer.error(413, f"The body of an asynchronous call may have {self._body_limit} bytes.", marks)
        headers = _named(headers, function, target)
        call = Call(function.spec.name, target, [*headers], body, dict(marks)[_CALL_ID], callback)
        try:
            self._queue.put(Draft(CALL, msgspec.msgpack.encode(call), key=_key(call)))
        except GatewayError as error:
            return answer.error(503, str(error), marks)
        return answer(202, marks, b"")


class _Answer:
    """Answers one request."""

    def __init__(self, start_response: StartResponse, *, is_head: bool) -> None:
        self._start_response = start_response
        self._is_head = is_head

    def __call__(self, status: int, headers: Headers, body: bytes) -> Iterable[bytes]:
        # The length of an answer to HEAD is the function's to say.
        kept = [(name, value) for name, value in headers if self._is_head or name.lower() != "content-length"]
        if not self._is_head:
            kept.append(("Content-Length", str(len(body))))
        self._start_response(f"{status} {_phrase(status)}", kept)
        return [body]

    def error(self, status: int, text: str, headers: Headers = ()) -> Iterable[bytes]:
        return self(status, [*headers, ("Content-Type", "text/plain; charset=utf-8")], f"{text}\n".encode())


def raw_target(environ: WSGIEnvironment) -> str:
    """Path and query as they came on the wire; a request line may hold a whole URL."""
    raw: str = environ["REQUEST_URI"]
    return raw if raw.startswith("/") else "/" + raw.partition("://")[2].partition("/")[2]


def _split(rest: str) -> tuple[str, str]:
    """The name of a function and the path and query behind it."""
    path, question, query = rest.partition("?")
    name, _, inner = path.partition("/")
    return unquote(name), f"/{inner}{question}{query}"


def _prepare(environ: WSGIEnvironment) -> tuple[Headers, Headers]:
    """The headers that a function gets, and those of them that the caller is answered too: call id and start time."""
    given = end_to_end(_headers(environ))
    call_id = find_header(given, _CALL_ID) or str(uuid.uuid4())
    marks = [(_CALL_ID, call_id), (_START_TIME, str(time.time_ns()))]
    replaced = {_CALL_ID.lower(), _START_TIME.lower(), "x-forwarded-for"}
    kept = [(name, value) for name, value in given if name.lower() not in replaced]
    if find_header(kept, "X-Forwarded-Host") is None and "HTTP_HOST" in environ:
        kept.append(("X-Forwarded-Host", environ["HTTP_HOST"]))
    came_by = [*filter(None, [find_header(given, "X-Forwarded-For")]), environ.get("REMOTE_ADDR", "")]
    return [*kept, *marks, ("X-Forwarded-For", ", ".join(came_by))], marks


def _named(headers: Headers, function: Function, target: str) -> Headers:
    """The headers of a call; the start of a request gets its id here, so that it may be sent again."""
    is_start = function.spec.is_flow and target.partition("?")[0] == "/"
    if not is_start or find_header(headers, _REQUEST_ID):
        return headers
    return [*headers, (_REQUEST_ID, _new_id())]


def _headers(environ: WSGIEnvironment) -> Headers:
    named = [(key[5:], value) for key, value in environ.items() if key.startswith("HTTP_")]
    named += [(key, environ[key]) for key in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(key)]
    return [("-".join(part.capitalize() for part in name.split("_")), value) for name, value in named]


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _key(call: Call) -> str | None:
    """A caller who repeats a call under the same Idempotency-Key while it is queued adds nothing."""
    key = find_header(call.headers, "Idempotency-Key")
    return None if key is None else f"{call.function}{call.target} {key}"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
