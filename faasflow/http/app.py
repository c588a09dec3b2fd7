"""The routes of a flow function, as a Flask application.

Kept from the original: `POST /` and its commands in the query, `/flow/<id>/forward|pause|resume|stop|state`, and the
`X-Faas-Flow-…` headers. It decides nothing: each route is one call of the engine.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from threading import BoundedSemaphore
from urllib.parse import parse_qsl, unquote_plus

from flask import Flask, Response, g, request

from faasflow.config import Settings, parse_age, parse_duration, parse_time
from faasflow.engine.callback import CALLBACK_HEADER, REQUEST_ID_HEADER, check_target
from faasflow.engine.engine import Answer, Engine
from faasflow.engine.kept import Part
from faasflow.engine.lifecycle import RequestState
from faasflow.errors import BadRequestError, ConfigError, MessageError, UnauthorizedError
from faasflow.http.answers import answered, content_type, error_response, json_response, text_response
from faasflow.http.auth import Gate
from faasflow.http.clock import ClockReport
from faasflow.http.paths import IdConverter, LastIdConverter, RawPaths, decoded
from faasflow.naming import header_text
from faasflow.scope import Scope, entered
from faasflow.transport.retry import DELIVERY_HEADER

LONGEST_LIST = 1000
LONGEST_MESSAGE = 1024 * 1024

logger = logging.getLogger(__name__)

# A request of this id could be started, and its story be asked for by no path.
_TAKEN_IDS = ("dead-letters", "unreadable")
_COMMANDS = {"export-dag", "pause-flow", "stop-flow", "resume-flow", "state"}
_OPEN = {"health", "ready", "forward"}  # a message between nodes is verified by the signature it carries
_MARGIN = 1.0
_TICK = 30.0  # seconds that a caller waits for what its tick began
_WAITING = 32
_PREFERRED_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d+)\"?\s*(?=$|[,;])", re.IGNORECASE)


def create_app(engine: Engine, *, settings: Settings | None = None) -> Flask:
    """The application of one flow. Without settings nobody has to sign, and a caller may wait as long as it likes.

    At most `settings.threads` callers wait for results at a time; the server needs threads besides, since what they
    wait for comes through it."""
    app = Flask("faasflow", static_folder=None)
    app.url_map.merge_slashes = False
    app.url_value_preprocessor(_id_of_query)
    app.url_map.converters |= {"id": IdConverter, "last_id": LastIdConverter}
    app.wsgi_app = RawPaths(app.wsgi_app)  # type: ignore[method-assign]
    app.register_error_handler(Exception, lambda error: _error_response(engine.flow, error))
    if settings is not None and settings.authenticate_request:
        app.before_request(_checked(Gate(settings, engine.flow)))
    waiting = BoundedSemaphore(settings.threads if settings is not None else _WAITING)
    allow = settings.callback_allow if settings is not None else ()
    _Front(engine, longest_wait=_longest_wait(settings), waiting=waiting, callback_allow=allow).add_routes(app)
    return app


class _NamelessError(ConfigError):
    status = 503


class _Front:
    def __init__(
        self, engine: Engine, *, longest_wait: float, waiting: BoundedSemaphore, callback_allow: tuple[str, ...]
    ) -> None:
        self._engine = engine
        self._callback_allow = callback_allow
        self._longest_wait = longest_wait
        self._waiting = waiting
        self._clock = ClockReport(engine.clock_status)

    def add_routes(self, app: Flask) -> None:
        def add(rule: str, view: Callable[..., Response], *methods: str) -> None:
            app.add_url_rule(rule, view.__name__.strip("_"), view, methods=methods)

        add("/", self._root, "GET", "POST")
        for rule in app.url_map.iter_rules("root"):  # HEAD must change nothing, while a GET does so here
            (rule.methods or set()).discard("HEAD")
        add("/flow", self._list, "GET")
        add("/flow/tick", self._tick, "POST")
        add("/flow/dead-letters", self._dead_letters, "GET")
        add("/flow/unreadable", self._unreadable, "GET")
        add("/flow/unreadable", self._restore, "POST")
        add("/flow/<last_id:id>", self._story, "GET")
        add("/flow/<id:id>/state", self._state, "GET")
        add("/flow/<id:id>/result", self._result, "GET")
        add("/flow/<id:id>/data", self._data, "GET")
        add("/flow/<id:id>/forward", self._forward, "POST")
        add("/flow/<id:id>/pause", self._pause, "POST")
        add("/flow/<id:id>/resume", self._resume, "POST")
        add("/flow/<id:id>/stop", self._stop, "POST")
        add("/flow/<id:id>/retry", self._retry, "POST")
        add("/_/health", self._health, "GET")
        add("/_/ready", self._ready, "GET")

    def _root(self) -> Response:
        """The original's dispatcher: a command in the query, else a start."""
        query = _query()
        if query.get("export-dag", "").lower() == "true":
            return self._export()
        for name, command in self._commands.items():
            if name in query:
                g.request_id = query[name]
                return command(query[name])
        return self._start()

    @property
    def _commands(self) -> dict[str, Callable[[str], Response]]:
        return {
            "pause-flow": self._pause,
            "stop-flow": self._stop,
            "resume-flow": self._resume,
            "state": self._state,
        }

    def _start(self) -> Response:
        seconds, query = self._wish()
        callback = request.headers.get(CALLBACK_HEADER, "").strip()
        if callback:
            check_target(callback, self._callback_allow)
        if (id := _header_id()) in _TAKEN_IDS:
            raise BadRequestError(f"The request id {id!r} is the name of a route.", hint="Use another id.")
        answer = self._engine.start(
            request.get_data(cache=False),
            query=query,
            request_id=_header_id(),
            callback=callback,
            headers=dict(request.headers),
        )
        response = answered(self._wait(answer, seconds))
        if callback:
            response.headers[CALLBACK_HEADER] = header_text(callback)
        return response

    def _export(self) -> Response:
        from faasflow.graph.export import to_json

        text = json.dumps(to_json(self._engine.definition()), indent=4)
        return Response(text + "\n", content_type="application/json")

    def _forward(self, id: str) -> Response:
        g.request_id = id
        message = request.stream.read(LONGEST_MESSAGE + 1)
        if len(message) > LONGEST_MESSAGE:
            raise MessageError(f"The message has more than {LONGEST_MESSAGE} bytes.")
        self._engine.deliver(id, message, is_again=request.headers.get(DELIVERY_HEADER, "1") != "1")
        response = Response(b"")
        response.call_on_close(self._sweep)
        return response

    def _sweep(self) -> None:
        try:
            self._engine.sweep()
        except Exception as error:  # the delivery is done, and has its answer
            logger.warning("Flow %r: a sweep failed with %s: %s", self._engine.flow, type(error).__name__, error)

    def _pause(self, id: str) -> Response:
        self._engine.pause(id)
        return text_response(f"Successfully paused request {id}")

    def _resume(self, id: str) -> Response:
        self._engine.resume(id)
        return text_response(f"Successfully resumed request {id}")

    def _stop(self, id: str) -> Response:
        self._engine.stop(id)
        return text_response(f"Successfully stopped request {id}")

    def _retry(self, id: str) -> Response:
        self._engine.retry(id, node=request.args.get("node", ""), input=request.get_data(cache=False) or None)
        return text_response(f"Request {id} is queued again")

    def _tick(self) -> Response:
        return json_response(self._engine.tick(wait=_TICK))

    def _state(self, id: str) -> Response:
        return text_response(self._engine.state(id).value)

    def _story(self, id: str) -> Response:
        is_folded = request.args.get("fold", "").lower() in ("1", "true")
        return json_response(self._engine.story(id, is_folded=is_folded, node=request.args.get("node", "")))

    def _result(self, id: str) -> Response:
        seconds, _ = self._wish()
        return answered(self._wait(self._engine.answer(id), seconds))

    def _data(self, id: str) -> Response:
        part = request.args.get("part", Part.RESULT)
        if part not in [*Part]:
            raise BadRequestError(f"The part {part!r} is none. Use one of {', '.join(Part)}.")
        value = self._engine.data(id, request.args.get("node", ""), Part(part))
        return Response(value, content_type=content_type(value))

    def _list(self) -> Response:
        page = self._engine.requests(
            limit=_limit(),
            after=request.args.get("after", ""),
            states=_wanted_states(),
            since=_time("since", 0.0),
            before=_time("before", float("inf")),
        )
        return json_response({"flow": self._engine.flow, "requests": page.rows, "next": page.next})

    def _dead_letters(self) -> Response:
        rows = self._engine.dead_letters(limit=_limit(), after=request.args.get("after", ""))
        return json_response({"flow": self._engine.flow, "dead_letters": rows})

    def _unreadable(self) -> Response:
        return json_response({"flow": self._engine.flow, "unreadable": self._engine.unreadable(limit=_limit())})

    def _restore(self) -> Response:
        """Remove what cannot be read, by the name of one that the list shows; without a name, try again to read."""
        if name := request.args.get("remove", ""):
            self._engine.remove_unreadable(name)
            return text_response(f"Successfully removed {name}")
        return json_response({"restored": self._engine.restore_unreadable()})

    def _health(self) -> Response:
        clock = self._clock.line()
        return text_response(f"OK\n{clock}\n" if clock else "OK")

    def _ready(self) -> Response:
        if not self._engine.flow:
            raise _NamelessError("The flow has no name.", hint="Set workflow_name to the name of the function.")
        self._engine.definition()
        self._engine.requests(limit=1)
        return text_response("OK")

    def _wait(self, answer: Answer, seconds: float) -> Answer:
        """What is known after the wait. Who comes when too many wait already is not held."""
        if seconds == 0.0 or answer.state.has_ended or not self._waiting.acquire(blocking=False):
            return answer
        try:
            return self._engine.wait(answer.request_id, seconds)
        finally:
            self._waiting.release()

    def _wish(self) -> tuple[float, str]:
        """How many seconds to wait, and the query without that wish."""
        parts = [part for part in _query_text().split("&") if part]
        wishes = [part for part in parts if _key_of(part) == "wait"]
        query = "&".join(part for part in parts if part not in wishes)
        if not wishes:
            preferred = _PREFERRED_WAIT.search(request.headers.get("Prefer", ""))
            return (min(float(preferred[1]), self._longest_wait) if preferred else 0.0), query
        text = unquote_plus(wishes[0].partition("=")[2])
        seconds = parse_duration(text)
        if seconds is None:
            raise BadRequestError(f"The wait {text!r} is not understood.", hint="Write it like '30s' or '1m30s'.")
        return min(seconds, self._longest_wait), query


def _checked(gate: Gate) -> Callable[[], None]:
    def check() -> None:
        if request.endpoint not in _OPEN:
            is_start = request.endpoint == "root" and request.method == "POST" and not _COMMANDS & _query().keys()
            gate.check(request.environ, is_start=is_start)

    return check


def _error_response(flow: str, error: Exception) -> Response:
    id = _request_id()
    with entered(Scope(flow, id)) if id else nullcontext():
        if isinstance(error, BadRequestError | UnauthorizedError):
            # The path and not the query, which may hold what is nobody's business.
            what = (flow, request.method, request.path, id, error.status, error.message)
            logger.warning("Flow %r: %s %r for request %r is refused with %d: %s", *what)
        return error_response(error, id)


def _id_of_query(_endpoint: str | None, values: dict[str, str] | None) -> None:
    """Take the id from the query, where it would not pass every gateway's path unharmed: `/flow/-/state?id=..`."""
    if values and values.get("id") == "-" and "id" in request.args:
        values["id"] = request.args["id"]


def _limit() -> int:
    text = request.args.get("limit", "100")
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= LONGEST_LIST:
        raise BadRequestError(f"The limit {text!r} is not a number from 1 to {LONGEST_LIST}.")
    return int(text)


def _wanted_states() -> set[RequestState]:
    words = [word.strip().upper() for text in request.args.getlist("state") for word in text.split(",")]
    names = [word for word in words if word]
    for name in names:
        if name not in RequestState.__members__:
            raise BadRequestError(f"The state {name!r} is none. Use one of {', '.join(RequestState)}.")
    return {RequestState[name] for name in names}


def _time(name: str, default: float) -> float:
    text = request.args.get(name, "")
    seconds = parse_time(text) if text else default
    if seconds is None and (ago := parse_age(text)) is not None:
        seconds = max(0.0, time.time() - ago)
    if seconds is None:
        raise BadRequestError(
            f"The time {name}={text!r} is not understood.",
            hint="Write seconds since the epoch, RFC 3339 like 2026-01-31T12:00:00Z, or how long ago it was, like 2h.",
        )
    return seconds


def _longest_wait(settings: Settings | None) -> float:
    """An answer must be on its way before the watchdog ends the call at `exec_timeout`."""
    limit = settings.exec_timeout if settings is not None else 0.0
    return max(limit - _MARGIN, limit / 2) if limit else float("inf")


def _request_id() -> str:
    """The id that the request names, for an error to say it."""
    return str(g.get("request_id") or (request.view_args or {}).get("id") or _header_id())


def _header_id() -> str:
    return decoded(request.headers.get(REQUEST_ID_HEADER, "").strip().encode("latin-1", "replace"))


def _query() -> dict[str, str]:
    """The query; of a name that is given several times, the first value."""
    return dict(reversed(parse_qsl(_query_text(), keep_blank_values=True)))


def _query_text() -> str:
    return decoded(request.query_string)


def _key_of(part: str) -> str:
    return unquote_plus(part.partition("=")[0])
