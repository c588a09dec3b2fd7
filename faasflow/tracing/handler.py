"""Makes spans of events: the request, its nodes, their operations.

The tree is that of the original. A request's span is a child of the caller's, if that sent one. A node's span is a
child of what forwarded it: the span whose context came with the message, which is that of the node before, or that of
the request where nothing was before. An operation's span is a child of its node's, and its context goes with the call.

A span ends with its delivery at the latest, since with the OpenTracing API no other process can end it. So the span of
a request covers its start only. Nothing that a request works on becomes part of a span, nor does the text of an error,
which may quote it. While an operation runs, its span is the active one: what the handler's own code traces is a child.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import opentracing  # type: ignore[import-untyped]
from opentracing import Format

from faasflow.errors import CallError
from faasflow.events import Event, EventHandler

_LONGEST = 1024
_REQUEST = ("request",)
_UNFINISHED = "unfinished"
_OPEN = {_UNFINISHED: "true"}

Key = tuple[str, ...]


class TracingHandler(EventHandler):
    """Makes spans with `tracer`, of every flow of the process. `close` sends what is left; `queue` is the URL under
    which the gateway queues messages, empty if it does not."""

    def __init__(self, tracer: opentracing.Tracer, close: Callable[[], None], *, queue: str = "") -> None:
        self._tracer = tracer
        self._close = close
        self._queue = queue

    def configure(self, flow: str, request_id: str) -> EventHandler:
        forwarding = {"span.kind": "client", "http.method": "POST", "http.url": f"{self._queue}/{flow}"}
        tags = {"flow": flow, "request": request_id}
        return _Delivery(self._tracer, tags, forwarding if self._queue else {"span.kind": "producer"})

    def close(self) -> None:
        self._close()


class _Span:
    """A span that is finished later than it ends, with its delivery: a node forwards after its end. `late` has the
    tags that may still change."""

    def __init__(self, span: Any, late: dict[str, str]) -> None:
        self._span = span
        self._late = late
        self._ended: float | None = None

    @property
    def context(self) -> Any:
        return self._span.context

    def activate(self, tracer: opentracing.Tracer) -> Any:
        """Let spans that this thread makes be children of this one, until what is given back is closed."""
        return tracer.scope_manager.activate(self._span, finish_on_close=False)

    def forwards(self, tags: dict[str, str]) -> None:
        self._late |= tags

    def end(self, event: Event) -> None:
        """Take the outcome that an event tells."""
        self._ended = event.time
        self._late.pop(_UNFINISHED, None)
        if event.state:
            self._span.set_tag("state", _text(event.state))
        if not event.is_recorded:
            self._span.set_tag("recorded", False)
        if event.error is not None:
            self._fail(event.error, event.time)

    def finish(self) -> None:
        for name, value in self._late.items():
            self._span.set_tag(name, value)
        self._span.finish(self._ended)

    def _fail(self, error: BaseException, time: float) -> None:
        self._span.set_tag("error", True)
        if isinstance(error, CallError):
            self._span.set_tag("http.status_code", error.code)
        self._span.log_kv({"event": "error", "error.kind": type(error).__name__}, timestamp=time)


class _Delivery(EventHandler):
    """The spans of one delivery. A node that is timed out is ended by another thread than the one it runs in, so that
    whoever takes a span out of `_open` finishes it."""

    def __init__(self, tracer: opentracing.Tracer, tags: dict[str, str], forwarding: dict[str, str]) -> None:
        self._tracer = tracer
        self._tags = tags
        self._forwarding = forwarding
        self._open: dict[Key, _Span] = {}
        self._request: _Span | None = None
        self._step: _Span | None = None  # of the first node: what comes after it in this delivery is its child
        self._scope: Any = None  # of the operation that runs, in its thread
        self._came_with: Any = None
        self._is_later = False

    def report_request_start(self, event: Event) -> None:
        self._came_with = self._sent(event)
        self._request = self._start(_REQUEST, event.request_id, self._came_with, event, {}, {"span.kind": "server"})

    def report_request_end(self, event: Event) -> None:
        if event.is_recorded:
            self._end(_REQUEST, event)
        else:
            # Somebody started it before, and it has its trace.
            self._open.pop(_REQUEST, None)
            self._request = None

    def report_request_failure(self, event: Event) -> None:
        self._end(_REQUEST, event)

    def report_execution_continuation(self, event: Event) -> None:
        self._is_later = True
        self._came_with = self._sent(event)

    def report_execution_forward(self, event: Event) -> None:
        if (span := self._step or self._request) is not None:
            self._inject(span, event)
        if self._step is not None:
            self._step.forwards(self._forwarding)

    def report_node_start(self, event: Event) -> None:
        tags = {"async": "true"} if self._is_later else {}
        late = {"span.kind": "server"} if self._is_later else {}
        span = self._start(_node(event), event.node, self._parent(), event, tags, late | _OPEN)
        self._step = self._step or span

    def report_node_end(self, event: Event) -> None:
        self._end(_node(event), event)

    def report_node_failure(self, event: Event) -> None:
        self._end(_node(event), event)

    def report_operation_start(self, event: Event) -> None:
        node = self._open.get(_node(event))
        parent = node.context if node is not None else self._parent()
        tags = {"operation": _text(event.operation)}
        tags |= {f"operation.{_text(key)}": _text(value) for key, value in event.properties.items()}
        if event.url:
            tags |= {"span.kind": "client", "http.method": event.method, "http.url": _text(event.url)}
        span = self._start(_operation(event), event.operation, parent, event, tags, _OPEN)
        self._inject(span, event)
        self._scope = span.activate(self._tracer)

    def report_operation_end(self, event: Event) -> None:
        self._leave()
        self._end(_operation(event), event)

    def report_operation_failure(self, event: Event) -> None:
        self._leave()
        self._end(_operation(event), event)

    def flush(self) -> None:
        for key in reversed([*self._open]):
            if (span := self._open.pop(key, None)) is not None:
                span.finish()

    def _leave(self) -> None:
        """What the handler's code traces from here on is not part of the operation."""
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.close()

    def _parent(self) -> Any:
        span = self._step or self._request
        return span.context if span is not None else self._came_with

    def _start(
        self, key: Key, name: str, parent: Any, event: Event, tags: dict[str, str], late: dict[str, str]
    ) -> _Span:
        if (before := self._open.pop(key, None)) is not None:
            before.finish()
        span = self._tracer.start_span(
            _text(name), child_of=parent, tags=self._named(event) | tags, start_time=event.time, ignore_active_span=True
        )
        self._open[key] = started = _Span(span, {**late})
        return started

    def _named(self, event: Event) -> dict[str, Any]:
        """The tags that say what a span is of."""
        if not event.node:
            return {**self._tags}
        phase = {"phase": event.phase} if event.phase != "node" else {}
        return {**self._tags, "node": _text(event.node), "attempt": event.attempt, **phase}

    def _end(self, key: Key, event: Event) -> None:
        if (span := self._open.get(key)) is not None:
            span.end(event)

    def _sent(self, event: Event) -> Any:
        """The context that came with an event's headers, if any did that can be understood."""
        headers = {name.lower(): value for name, value in event.headers.items()}
        try:
            return self._tracer.extract(Format.HTTP_HEADERS, headers)
        except opentracing.SpanContextCorruptedException:
            return None

    def _inject(self, span: _Span, event: Event) -> None:
        self._tracer.inject(span.context, Format.HTTP_HEADERS, event.headers)


def _node(event: Event) -> Key:
    return "node", event.node, event.phase


def _operation(event: Event) -> Key:
    return "operation", event.node, event.phase


def _text(text: str) -> str:
    """`text` as any receiver takes it."""
    return text[:_LONGEST].encode("utf-8", "replace").decode()
