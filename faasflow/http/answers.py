"""What a flow function answers: results with a fitting type, and errors as JSON."""

from __future__ import annotations

import logging
import math
from typing import Any

import msgspec
from flask import Response
from werkzeug.exceptions import HTTPException

from faasflow.codec import json_decoder
from faasflow.engine.callback import REQUEST_ID_HEADER, STATE_HEADER
from faasflow.engine.closing import failure_text
from faasflow.engine.engine import Answer
from faasflow.engine.lifecycle import RequestState
from faasflow.errors import FaasflowError, TryAgainError
from faasflow.naming import header_text

logger = logging.getLogger(__name__)

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"


def answered(answer: Answer) -> Response:
    """A request as it stands: 200 with the result when it is finished, 500 with what `on_failure` returned (else with
    the failure as JSON) when it failed, 409 when it was stopped, and 202 with its id while it runs."""
    response = _response_of(answer)
    response.headers[REQUEST_ID_HEADER] = header_text(answer.request_id)
    response.headers[STATE_HEADER] = answer.state.value
    return response


def json_response(value: Any, *, status: int = 200) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status, content_type=JSON)


def text_response(text: str) -> Response:
    """Text, for people and scripts."""
    return Response(text, content_type=TEXT)


def error_response(error: Exception, request_id: str) -> Response:
    """An error as JSON: `error`, `request_id`, and `hint`, the way out where one is known."""
    if isinstance(error, FaasflowError):
        pause = error.retry_after if isinstance(error, TryAgainError) else 0.0
        return _error(error.status, error.message, request_id, error.hint, retry_after=pause)
    if isinstance(error, HTTPException):
        return _refused(error, request_id)
    logger.error("Request %r: unexpected %s.", request_id, type(error).__name__, exc_info=error)
    return _error(500, "The function met an unexpected error.", request_id, "Its log says more.")


def _response_of(answer: Answer) -> Response:
    if answer.state is RequestState.FINISHED:
        body = answer.body or b""
        return Response(body, 200, content_type=content_type(body))
    if answer.state is RequestState.FAILED and answer.body is not None:
        return Response(answer.body, 500, content_type=content_type(answer.body))
    if answer.state.has_ended:
        status = 500 if answer.state is RequestState.FAILED else 409
        return Response(failure_text(answer.request_id, answer), status, content_type=JSON)  # type: ignore[arg-type]
    return json_response({"request_id": answer.request_id, "state": answer.state}, status=202)


def content_type(body: bytes) -> str:
    """JSON for an object or array, plain text for any other UTF-8, else bytes."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return BYTES
    return JSON if body[:1] in (b"{", b"[") and _is_json(body) else TEXT


def _is_json(body: bytes) -> bool:
    try:
        json_decoder(msgspec.Raw).decode(body)
    except (ValueError, RecursionError):
        return False
    return True


def _error(status: int, text: str, request_id: str, hint: str, *, retry_after: float = 0.0) -> Response:
    response = json_response({"error": text, "request_id": request_id, "hint": hint}, status=status)
    if status == 503:
        response.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    return response


def _refused(error: HTTPException, request_id: str) -> Response:
    status = error.code or 500
    response = _error(status, f"{error.name}.", request_id, _HINTS.get(status, error.description or ""))
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = ", ".join(sorted(value.split(", ")))
    return response


_HINTS = {
    404: "POST / starts the flow; GET /flow lists its requests; GET /flow/<id> shows one.",
    405: "The header Allow names the methods of this path.",
}
