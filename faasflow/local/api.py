"""The control plane: `/system/…` and `/healthz`, in the shapes that faas-cli and other clients of OpenFaaS read."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, request

import faasflow
from faasflow.config import parse_age
from faasflow.local.logs import BEGINNING, LogLine
from faasflow.local.routing import Function, Router
from faasflow.local.stack import DEFAULT_NAMESPACE, FunctionSpec

_HEARTBEAT = 0.5
_FLOW_LABELS = {"faas-flow": "1"}
_READ_ONLY = "The functions of this gateway are those of its stack file. Change stack.yml and start the gateway again."


def create_api(router: Router, *, is_stopping: Callable[[], bool]) -> Flask:
    """The application behind everything that is not a call of a function."""
    app = Flask("faasflow.gateway", static_folder=None)
    api = _Api(router, is_stopping)
    app.add_url_rule("/", "index", api.index)
    app.add_url_rule("/ui/", "ui", api.index)
    app.add_url_rule("/healthz", "health", lambda: _text("OK"))
    app.add_url_rule("/system/functions", "functions", api.functions)
    app.add_url_rule("/system/functions", "deploy", lambda: _text(_READ_ONLY, 501), methods=["POST", "PUT", "DELETE"])
    app.add_url_rule("/system/function/<name>", "function", api.function)
    app.add_url_rule("/system/scale-function/<name>", "scale", api.scale, methods=["POST"])
    app.add_url_rule("/system/namespaces", "namespaces", lambda: [DEFAULT_NAMESPACE])
    app.add_url_rule("/system/info", "info", _info)
    app.add_url_rule("/system/logs", "logs", api.logs)
    return app


class _Api:
    def __init__(self, router: Router, is_stopping: Callable[[], bool]) -> None:
        self._router = router
        self._is_stopping = is_stopping

    def index(self) -> Response:
        names = ", ".join(sorted(self._router.functions)) or "none"
        return _text(f"faasflow gateway {faasflow.__version__}. Functions: {names}. Call one at /function/NAME.")

    def functions(self) -> list[dict[str, Any]]:
        wanted = request.args.get("namespace") or None
        found = sorted(self._router.functions.values(), key=lambda function: function.spec.name)
        return [describe(function) for function in found if wanted in (None, function.spec.namespace)]

    def function(self, name: str) -> Response | dict[str, Any]:
        function = self._router.find(name)
        return _unknown(name) if function is None else describe(function)

    def scale(self, name: str) -> Response:
        # One process serves a function, whatever is asked for; clients scale up before they call.
        return _unknown(name) if self._router.find(name) is None else _text("", 202)

    def logs(self) -> Response:
        name = request.args.get("name", "")
        function = self._router.find(name)
        if function is None:
            return _unknown(name) if name else _text("Name a function: /system/logs?name=NAME", 400)
        try:
            tail = int(request.args.get("tail") or -1)
            since = _time(request.args.get("since", ""))
        except ValueError:
            return _text(
                "'tail' must be a whole number, 'since' a time as in 2026-01-31T12:00:00Z or how long ago, as in 2h.",
                400,
            )
        is_gone = request.environ["waitress.client_disconnected"]
        follows = request.args.get("follow", "").lower() in ("1", "true")
        ended = (lambda: self._is_stopping() or is_gone()) if follows else lambda: True
        return Response(_ndjson(function, tail, since, ended), mimetype="application/x-ndjson")


def describe(function: Function) -> dict[str, Any]:
    """A function, as the provider of a cluster describes it."""
    spec = function.spec
    return {
        "name": spec.name,
        "image": spec.image,
        "namespace": spec.namespace,
        "envProcess": "python -m faasflow.local.serve" if spec.lang else "",
        "labels": {**(_FLOW_LABELS if spec.is_flow else {}), **spec.labels},
        "annotations": dict(spec.annotations),
        "secrets": list(spec.secrets),
        "replicas": function.replicas,
        "availableReplicas": function.available,
        "invocationCount": function.invocations,
        "createdAt": _stamp(datetime.fromtimestamp(function.created, UTC)),
    }


def _ndjson(function: Function, tail: int, since: datetime, ended: Callable[[], bool]) -> Iterator[bytes]:
    """The lines there are, then those that come, until `ended`."""
    last = function.logs.last
    lines = function.logs.lines(tail=tail, since=since)
    while True:
        for line in lines:
            last = line.number
            yield _encode(line, function.spec)
        if ended():
            return
        lines = function.logs.after(last, timeout=_HEARTBEAT)


def _encode(line: LogLine, spec: FunctionSpec) -> bytes:
    record = {
        "name": spec.name,
        "namespace": spec.namespace,
        "instance": line.instance,
        "timestamp": _stamp(line.timestamp),
        "text": line.text,
    }
    return json.dumps(record).encode() + b"\n"


def _info() -> dict[str, Any]:
    version = {"release": faasflow.__version__, "sha": "", "commit_message": ""}
    provider = {"provider": "faasflow", "name": "faasflow", "orchestration": "local", "version": version}
    return {"provider": provider, "version": version, "arch": platform.machine()}


def _unknown(name: str) -> Response:
    return _text(f"There is no function {name!r}. GET /system/functions lists those there are.", 404)


def _text(text: str, status: int = 200) -> Response:
    return Response(f"{text}\n" if text else "", status, mimetype="text/plain")


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _time(text: str) -> datetime:
    if not text:
        return BEGINNING
    if ago := parse_age(text):
        return datetime.fromtimestamp(max(0.0, time.time() - ago), UTC)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
