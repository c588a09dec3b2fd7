"""Receivers of spans on real ports, and what they received, in one form whatever came."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from google.protobuf import json_format
from jaeger_client.thrift_gen.agent.Agent import emitBatch_args
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.transport.TTransport import TMemoryBuffer

from faasflow.config import Settings, TraceSettings
from faasflow.events import EventHandler
from faasflow.tracing import open_tracing
from tests.support import free_port, wait_until


@dataclass(frozen=True, slots=True)
class Seen:
    """A span as it arrived, in the words of OpenTracing."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: float
    end: float
    tags: dict[str, Any] = field(default_factory=dict)
    logs: list[dict[str, Any]] = field(default_factory=list)


class Receiver(Protocol):
    """What tests ask of one."""

    server: str

    def spans(self) -> list[Seen]: ...


class Agent:
    """A Jaeger agent: takes datagrams with Thrift in them."""

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("127.0.0.1", port or free_port()))
        self._socket.settimeout(0.1)
        self.port = self._socket.getsockname()[1]
        self.server = f"127.0.0.1:{self.port}"
        self.datagrams: list[bytes] = []
        self._is_closed = False
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def spans(self) -> list[Seen]:
        return [span for datagram in [*self.datagrams] for span in decoded(datagram)]

    def close(self) -> None:
        self._is_closed = True
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while not self._is_closed:
            try:
                self.datagrams.append(self._socket.recv(1 << 16))
            except TimeoutError:
                continue


def decoded(datagram: bytes) -> list[Seen]:
    """The spans of a datagram, read with the library's own definitions."""
    protocol = TCompactProtocol(TMemoryBuffer(datagram))
    name, _, _ = protocol.readMessageBegin()
    assert name == "emitBatch"
    arguments = emitBatch_args()
    arguments.read(protocol)
    service = arguments.batch.process.serviceName
    return [_of_thrift(service, span) for span in arguments.batch.spans]


def _of_thrift(service: str, span: Any) -> Seen:
    trace = (span.traceIdHigh % 2**64 << 64) + span.traceIdLow % 2**64
    return Seen(
        service=service,
        name=span.operationName,
        trace=f"{trace:032x}",
        id=f"{span.spanId % 2**64:016x}",
        parent=f"{span.parentSpanId % 2**64:016x}" if span.parentSpanId else "",
        start=span.startTime / 1e6,
        end=(span.startTime + span.duration) / 1e6,
        tags=_unique((tag.key, _value(tag)) for tag in span.tags),
        logs=[_unique((tag.key, _value(tag)) for tag in log.fields) for log in span.logs or ()],
    )


def _value(tag: Any) -> Any:
    return (tag.vStr, tag.vDouble, tag.vBool, tag.vLong)[tag.vType]


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = [*pairs]
    assert len({name for name, _ in pairs}) == len(pairs), pairs
    return dict(pairs)


class Collector:
    """An OTLP receiver: takes what is posted to /v1/traces, as JSON or protobuf, and keeps to the schema. Answers with
    each of `statuses` in turn, and with the last for ever."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[str] = []
        statuses_left = [*(statuses or (200,))]
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = statuses_left.pop(0) if len(statuses_left) > 1 else statuses_left[0]
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                if status == 200:
                    collector._take(self.path, self.headers["Content-Type"], body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self._server.daemon_threads = True
        self.server = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def spans(self) -> list[Seen]:
        assert self.faults == []
        return [
            _of_otlp(group.resource, span)
            for request in self.requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, path: str, kind: str, body: bytes) -> None:
        try:
            assert path == "/v1/traces"
            self.requests.append(_parsed(kind, body))
        except Exception as error:
            self.faults.append(repr(error))


def _parsed(kind: str, body: bytes) -> ExportTraceServiceRequest:
    if kind == "application/x-protobuf":
        return ExportTraceServiceRequest.FromString(body)
    assert kind == "application/json"
    content = json.loads(body, object_hook=_with_bytes)
    return json_format.ParseDict(content, ExportTraceServiceRequest())


def _with_bytes(content: dict[str, Any]) -> dict[str, Any]:
    """OTLP writes ids in hex, where JSON of protobuf has base64."""
    for name, length in (("traceId", 32), ("spanId", 16), ("parentSpanId", 16)):
        if name in content:
            assert len(content[name]) == length, content
            content[name] = base64.b64encode(bytes.fromhex(content[name])).decode()
    return content


_KINDS = {
    OtlpSpan.SPAN_KIND_SERVER: "server",
    OtlpSpan.SPAN_KIND_CLIENT: "client",
    OtlpSpan.SPAN_KIND_PRODUCER: "producer",
}
_NAMES = {"exception.type": "error.kind"}


def _of_otlp(resource: Any, span: Any) -> Seen:
    """Back to the words of OpenTracing, so that one test may look at both."""
    service = next(one.value.string_value for one in resource.attributes if one.key == "service.name")
    kind = {"span.kind": _KINDS[span.kind]} if span.kind in _KINDS else {}
    error = {"error": True} if span.status.code == Status.STATUS_CODE_ERROR else {}
    return Seen(
        service=service,
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        tags=_attributes(span.attributes) | kind | error,
        logs=[_event(event) for event in span.events],
    )


def _event(event: Any) -> dict[str, Any]:
    name = "error" if event.name == "exception" else event.name
    return {"event": name} | {
        _NAMES.get(key, key): value for key, value in _attributes(event.attributes).items() if key != "event"
    }


def _attributes(attributes: Any) -> dict[str, Any]:
    return _unique((one.key, getattr(one.value, one.value.WhichOneof("value"))) for one in attributes)


def tracing(server: str, *, flow: str = "flow", **options: Any) -> EventHandler:
    """What the settings of a flow open, for spans to go to `server`."""
    trace = TraceSettings(server=server, **options)
    opened = open_tracing(Settings(state_store="memory:", data_store="memory:", flow=flow, trace=trace))
    assert opened is not None
    return opened


def received(receiver: Receiver, count: int, *, timeout: float = 20.0) -> list[Seen]:
    """All spans that arrived, once there are `count`, and time for one too many."""
    wait_until(lambda: len(receiver.spans()) >= count, f"{count} spans arrive", timeout=timeout)
    time.sleep(0.05)
    return receiver.spans()


def tree(spans: Iterable[Seen], parent: str = "", *, depth: int = 0) -> str:
    """The names of spans, each below its parent, in the order in which they began."""
    spans = [*spans]
    ids = {span.id for span in spans}
    below = [span for span in spans if span.parent == parent or (not parent and span.parent not in ids)]
    return "".join(
        f"{'  ' * depth}{span.name}\n{tree([one for one in spans if one is not span], span.id, depth=depth + 1)}"
        for span in sorted(below, key=lambda span: (span.start, span.name))
    )
