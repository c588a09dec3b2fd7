"""Tells event handlers of one delivery. Whatever a handler does, the request goes on as it would without it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from faasflow.engine.guard import UserCodeError, user_code
from faasflow.engine.position import Phase, Step
from faasflow.events import Event, EventHandler

logger = logging.getLogger(__name__)

What = Literal[
    "request_start",
    "request_end",
    "request_failure",
    "execution_forward",
    "execution_continuation",
    "node_start",
    "node_end",
    "node_failure",
    "operation_start",
    "operation_end",
    "operation_failure",
]

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_NO_TEXT = re.compile("[\ud800-\udfff]")
_LONGEST_HEADERS = 4096


class Reports:
    """The events of one delivery of a request. `handlers` are configured when there is the first thing to tell."""

    def __init__(
        self, handlers: Sequence[EventHandler], flow: str, request_id: str, *, now: Callable[[], float]
    ) -> None:
        self._handlers = handlers
        self._flow = flow
        self._request_id = request_id
        self._now = now
        self._told: list[EventHandler] | None = None

    def tell(self, what: What, **details: Any) -> dict[str, str]:
        """Tell an event with these fields of `Event`; the headers as the handlers leave them."""
        if not self._handlers:
            return {}
        if self._told is None:
            self._told = self._configured()
        event = Event(flow=self._flow, request_id=self._request_id, time=self._now(), **details)
        for handler in self._told:
            with _guarded(handler, what):
                getattr(handler, f"report_{what}")(event)
        return _sound(event.headers)

    def tell_of(self, what: What, step: Step, **details: Any) -> dict[str, str]:
        """`tell` for a step."""
        return self.tell(what, node=step.position.path, phase=step.phase.value, **details) if self._handlers else {}

    def go_on(self, node: str, headers: Mapping[str, str], *, phase: Phase = Phase.NODE) -> None:
        """Tell that a request goes on here, unless something was told of it in this delivery before."""
        if self._told is None:
            self.tell("execution_continuation", node=node, phase=phase.value, headers=dict(headers))

    def flush(self) -> None:
        """The delivery is over."""
        for handler in self._told or ():
            with _guarded(handler, "flush"):
                handler.flush()

    def _configured(self) -> list[EventHandler]:
        found = []
        for handler in self._handlers:
            with _guarded(handler, "configure"):
                found.append(handler.configure(self._flow, self._request_id))
        return found


@contextmanager
def _guarded(handler: EventHandler, what: str) -> Iterator[None]:
    try:
        with user_code():
            yield
    except UserCodeError as failed:
        # Its text may quote what the handler was told of.
        logger.warning("Event handler %s failed at %s with %s.", type(handler).__name__, what, failed)


def _sound(headers: Mapping[Any, Any]) -> dict[str, str]:
    """Those headers that can be sent; what is no name, no text or too much in all is left out."""
    sound: dict[str, str] = {}
    length = 0
    for name, value in headers.items():
        if not (isinstance(name, str) and isinstance(value, str) and _HEADER_NAME.fullmatch(name)):
            continue
        if _NO_TEXT.search(value):
            continue
        length += len(name) + len(value)
        if length <= _LONGEST_HEADERS:
            sound[name] = value
    return sound
