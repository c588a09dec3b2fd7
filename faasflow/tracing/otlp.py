"""Spans of jaeger-client as OTLP: JSON over HTTP, in the names that OpenTelemetry gives to what OpenTracing knows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import requests
from jaeger_client.span import Span

from faasflow.tracing.reporter import Process

_TIMEOUT = (2.0, 5.0)
_PAUSES = (0.0, 1.0)  # before a second and a third try
_TRY_AGAIN = (429, 502, 503, 504)
_KINDS = {"server": 2, "client": 3, "producer": 4, "consumer": 5}
_INTERNAL, _ERROR = 1, 2
_KIND_TAG, _ERROR_TAG = "span.kind", "error"
_NAMES = {"hostname": "host.name", "error.kind": "exception.type"}


class OtlpSender:
    """Posts to the URL of an OTLP receiver. What it has no room for now is sent again twice."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.headers.update({"Content-Type": "application/json", "User-Agent": "faasflow", **headers})

    def send(self, spans: Sequence[Span], process: Process) -> tuple[int, str]:
        body = msgspec.json.encode(otlp(spans, process))
        problem, may_repeat = self._post(body)
        for pause in _PAUSES:
            if not may_repeat:
                break
            time.sleep(pause)
            problem, may_repeat = self._post(body)
        return (len(spans), problem) if problem else (0, "")

    def _post(self, body: bytes) -> tuple[str, bool]:
        """What went wrong, if something did, and whether another try may help."""
        try:
            answer = self._session.post(self._url, data=body, timeout=_TIMEOUT, allow_redirects=False)
        except requests.Timeout:
            return f"{self._url} does not answer in time", False
        except requests.ConnectionError:
            return f"{self._url} cannot be reached", True
        except requests.RequestException as error:
            return f"{self._url}: {type(error).__name__}", False
        if answer.ok and not answer.is_redirect:
            return "", False
        return f"{self._url} answered {answer.status_code}", answer.status_code in _TRY_AGAIN


def otlp(spans: Sequence[Span], process: Process) -> dict[str, Any]:
    """The body of an export request."""
    resource = {"attributes": [_attribute("service.name", process.serviceName), *map(_tag, process.tags)]}
    scoped = {"scope": {"name": "faasflow"}, "spans": [*map(_span, spans)]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scoped]}]}


def _span(span: Span) -> dict[str, Any]:
    tags = {tag.key: tag for tag in [*span.tags]}
    kind, error = tags.pop(_KIND_TAG, None), tags.pop(_ERROR_TAG, None)
    start, end = span.start_time, span.end_time or span.start_time
    return {
        "traceId": f"{span.trace_id:032x}",
        "spanId": f"{span.span_id:016x}",
        **({"parentSpanId": f"{span.parent_id:016x}"} if span.parent_id else {}),
        "name": span.operation_name,
        "kind": _KINDS.get(kind.vStr, _INTERNAL) if kind else _INTERNAL,
        "startTimeUnixNano": _nanoseconds(start),
        "endTimeUnixNano": _nanoseconds(max(start, end)),
        "attributes": [*map(_tag, tags.values())],
        "events": [_event(log) for log in [*span.logs]],
        "status": {"code": _ERROR} if error and error.vBool else {},
        "flags": span.flags & 1,
    }


def _event(log: Any) -> dict[str, Any]:
    name = next((field.vStr for field in log.fields if field.key == "event"), "log")
    return {
        "timeUnixNano": str(log.timestamp * 1000),
        "name": "exception" if name == _ERROR_TAG else name,
        "attributes": [_tag(field) for field in log.fields if field.key != "event"],
    }


def _tag(tag: Any) -> dict[str, Any]:
    value = next(one for one in (tag.vStr, tag.vBool, tag.vLong, tag.vDouble, "") if one is not None)
    return _attribute(_NAMES.get(tag.key, tag.key), value)


def _attribute(name: str, value: str | bool | int | float) -> dict[str, Any]:
    match value:
        case bool():
            return {"key": name, "value": {"boolValue": value}}
        case int():
            return {"key": name, "value": {"intValue": str(value)}}
        case float():
            return {"key": name, "value": {"doubleValue": value}}
    return {"key": name, "value": {"stringValue": value}}


def _nanoseconds(seconds: float) -> str:
    return str(int(seconds * 1e6) * 1000)
