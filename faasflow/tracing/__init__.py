"""Tracing: spans of requests, nodes and operations, on the OpenTracing API. Where they go is set; who makes and sends
them is imported late."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from faasflow.config import GATEWAY_DISPATCHER, Settings, TraceSettings

if TYPE_CHECKING:
    from faasflow.events import EventHandler

__all__ = ["find_fault", "open_tracing"]

logger = logging.getLogger(__name__)
_SERVICE = "faasflow"


def open_tracing(settings: Settings) -> EventHandler | None:
    """What makes spans of events, once for a process; `None` where tracing is off. `ConfigError` where a package is
    missing. The service is the flow, or `faasflow` in a process that serves many."""
    trace = settings.trace
    if trace is None:
        return None
    import opentracing  # type: ignore[import-untyped]

    from faasflow.tracing.handler import TracingHandler

    if trace.warning:
        logger.warning(trace.warning)
    service = settings.flow or _SERVICE
    if trace.client == "otel":
        from faasflow.tracing.otel import open_otel

        tracer, close = open_otel(trace, service)
    else:
        from faasflow.tracing.jaeger import open_jaeger

        tracer, close = open_jaeger(trace, service)
    opentracing.set_global_tracer(tracer)  # what the handler's own code traces with
    queue = f"{settings.gateway}/async-function" if settings.dispatcher == GATEWAY_DISPATCHER else ""
    return TracingHandler(tracer, close, queue=queue)


def find_fault(trace: TraceSettings) -> str:
    """Why spans would not arrive, empty if nothing speaks against it. `ConfigError` where a package is missing."""
    if trace.client == "otel":
        from faasflow.tracing.otel import require_otel

        require_otel()
    from faasflow.tracing.jaeger import probe

    return trace.warning or probe(trace)
