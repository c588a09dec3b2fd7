"""OpenTelemetry behind the OpenTracing API, for those who run it anyway: its SDK makes the spans, its propagators tell
others of a trace, its exporter sends over OTLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faasflow.config import TraceSettings
from faasflow.errors import ConfigError

_PATIENCE = 3.0


def open_otel(trace: TraceSettings, service: str) -> tuple[Any, Callable[[], None]]:
    """A tracer on the provider that the handler has set or, if it has not, on one that sends to where `trace` says; and
    what ends it. `ConfigError` where a package is missing."""
    require_otel()
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.shim.opentracing_shim import create_tracer
    from opentelemetry.trace import get_tracer_provider

    given = get_tracer_provider()
    if isinstance(given, TracerProvider):
        return create_tracer(given), lambda: _flush(given)
    provider = _provider(trace, service)

    def close() -> None:
        _flush(provider)
        provider.shutdown()

    return create_tracer(provider), close


def require_otel() -> None:
    """`ConfigError` where a package is missing."""
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk
        import opentelemetry.shim.opentracing_shim  # noqa: F401
    except ImportError as exc:
        raise ConfigError(
            f"trace_client=otel needs the package {exc.name!r}, which is not installed.",
            hint="pip install 'faasflow[otel]'",
        ) from exc


def _provider(trace: TraceSettings, service: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # Its retries go on until this is over, and so does the end of the process when the receiver is away.
    exporter = OTLPSpanExporter(trace.spans_url, headers=dict(trace.headers), timeout=_PATIENCE)
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=10_000))
    return provider


def _flush(provider: Any) -> None:
    provider.force_flush(int(_PATIENCE * 1000))
