"""What is set of tracing: whether, to where, and how a trace is told to those who are called."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from faasflow.config.reader import Reader, Reading, Source
from faasflow.config.text import HIDDEN, is_plain_url

AGENT = "jaeger.faasflow:6831"
COLLECTOR = "http://jaeger.faasflow:4318"
ENDPOINT, HEADERS = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"

_AGENT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?")
_HEADER = re.compile(r"\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=([^,=]*(?:=[^,]*)?)")
_SPANS = "/v1/traces"
_AGENT_PORT = 6831
_DEAD_PORTS = {
    "5775": "Nothing listens on port 5775 any more: Jaeger 2 takes spans on 6831 (UDP). Set trace_server to that port.",
    "4317": "Port 4317 is for OTLP over gRPC: over HTTP it is 4318. Set trace_server to that port.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """Where spans go. `server` is `host:port` of a Jaeger agent, or the URL of an OTLP receiver, which gets `headers`.
    `client` makes the spans: `jaeger`, or `otel` for OpenTelemetry's. `propagation` is how a trace is told in headers:
    `jaeger`, `w3c` for both its way and Jaeger's, or empty where OpenTelemetry says."""

    server: str
    client: str = "jaeger"
    propagation: str = "jaeger"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def is_otlp(self) -> bool:
        return "://" in self.server

    @property
    def spans_url(self) -> str:
        """Where an OTLP receiver takes spans."""
        return self.server + _SPANS

    @property
    def agent(self) -> tuple[str, int]:
        """Host and port of a Jaeger agent."""
        parts = urlsplit(f"//{self.server}")
        return parts.hostname or "", parts.port or _AGENT_PORT

    @property
    def warning(self) -> str:
        """What is wrong with the server, as far as its address tells; else empty."""
        return _DEAD_PORTS.get(self.server.rpartition(":")[2], "")


def trace_settings(read: Reader) -> TraceSettings | None:
    """How requests are traced; `None` where they are not."""
    if not read.boolean("enable_tracing", False):
        for name in ("trace_server", "trace_client", "trace_propagation"):
            read.unused(name, "not used: enable_tracing is false")
        return None
    client = _choice(read, "trace_client", ("jaeger", "otel"))
    return TraceSettings(
        server=_server(read, client), client=client, propagation=_propagation(read, client), headers=_headers(read)
    )


def _server(read: Reader, client: str) -> str:
    default = COLLECTOR if client == "otel" else AGENT
    name = "trace_server"
    if read.text(name):
        read.unused(ENDPOINT, "not used: trace_server is set")
    elif read.text(ENDPOINT):
        name = ENDPOINT
    text = read.text(name, default)
    if name == "trace_server" and "://" not in text and client != "otel":
        return _agent(read, text)
    return _collector(read, name, text, default)


def _agent(read: Reader, text: str) -> str:
    found = _AGENT.fullmatch(text)
    port = int(found[2] or _AGENT_PORT) if found else 0
    if not found or not 0 < port < 65536:
        read.refuse("trace_server", text, "host:port of a Jaeger agent, or an OTLP URL such as 'http://jaeger:4318'")
        return AGENT
    return f"{found[1]}:{port}"


def _collector(read: Reader, name: str, text: str, default: str) -> str:
    url = text.rstrip("/").removesuffix(_SPANS)
    if not is_plain_url(url):
        form = "an http or https URL of an OTLP receiver, without a login or query, such as 'http://jaeger:4318'"
        read.refuse(name, text, form)
        return default
    return url


def _propagation(read: Reader, client: str) -> str:
    if client != "otel":
        return _choice(read, "trace_propagation", ("jaeger", "w3c"))
    read.unused("trace_propagation", "not used: with trace_client=otel, OTEL_PROPAGATORS says")
    return ""


def _headers(read: Reader) -> tuple[tuple[str, str], ...]:
    text = read.text(HEADERS)
    if not text:
        return ()
    read.readings[HEADERS] = Reading(HEADERS, HIDDEN, Source.ENVIRONMENT)
    found = [_HEADER.fullmatch(part) for part in text.split(",")]
    headers = tuple((one[1], unquote(one[2]).strip()) for one in found if one)
    if len(headers) < len(found) or not all(value.isascii() and value.isprintable() for _, value in headers):
        read.problem(f"Setting {HEADERS!r} is not understood. Give name=value, with commas between.")
        return ()
    return headers


def _choice(read: Reader, name: str, choices: tuple[str, ...]) -> str:
    """One of `choices`, of which the first is the default."""
    text = read.text(name, choices[0]).lower()
    if text in choices:
        return text
    read.refuse(name, text, " or ".join(map(repr, choices)))
    return choices[0]
