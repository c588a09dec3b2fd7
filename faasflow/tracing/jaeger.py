"""jaeger-client's tracer with our own reporter: spans go to a Jaeger agent, as Thrift over UDP, or over OTLP."""

from __future__ import annotations

import random
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from typing import Any

import opentracing  # type: ignore[import-untyped]
from jaeger_client.codecs import Codec, TextCodec
from jaeger_client.constants import JAEGER_HOSTNAME_TAG_KEY, JAEGER_IP_TAG_KEY, SAMPLED_FLAG
from jaeger_client.sampler import ConstSampler
from jaeger_client.span import Span
from jaeger_client.span_context import SpanContext
from jaeger_client.thrift import make_jaeger_batch, make_process
from jaeger_client.thrift_gen.agent.Agent import emitBatch_args
from jaeger_client.thrift_gen.jaeger.ttypes import Batch
from jaeger_client.tracer import Tracer
from opentracing import Format
from thrift.protocol.TCompactProtocol import TCompactProtocol  # type: ignore[import-untyped]
from thrift.Thrift import TMessageType  # type: ignore[import-untyped]
from thrift.transport.TTransport import TMemoryBuffer  # type: ignore[import-untyped]

from faasflow.config import TraceSettings
from faasflow.tracing.reporter import Process, Reporter, Sender

_PATIENCE = 3.0
_ANSWER = 0.1
_LONGEST = 65_000  # bytes in a datagram; a little less than what fits
_SHORT = 256
_FEW = 64
_RATE = 4e6  # bytes a second: the buffer of a receiver holds a few datagrams, and is read by a busy thread
_ADDRESS_AGE, _NO_ADDRESS_AGE = 60.0, 5.0

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


def open_jaeger(trace: TraceSettings, service: str) -> tuple[opentracing.Tracer, Callable[[], None]]:
    """A tracer that sends to where `trace` says, and what ends it."""
    reporter = Reporter(_sender(trace))
    is_w3c = trace.propagation == "w3c"
    tracer = Tracer(
        service,
        reporter=reporter,
        sampler=ConstSampler(True),
        generate_128bit_trace_id=trace.is_otlp or is_w3c,
        extra_codecs={Format.HTTP_HEADERS: HeaderCodec(is_w3c=is_w3c)},
        # Without an address the library looks for one, which may take as long as a name server does not answer.
        tags={JAEGER_HOSTNAME_TAG_KEY: socket.gethostname(), JAEGER_IP_TAG_KEY: ""},
    )
    tracer.random = random.SystemRandom()  # the library's own gives the same ids in each child of a process
    return tracer, lambda: reporter.shut_down(_PATIENCE)


def probe(trace: TraceSettings) -> str:
    """Why spans would not arrive, empty if nothing speaks against it: an agent takes them without a word."""
    sender, nobody = _sender(trace)(), make_process("faasflow", {}, 0)
    for _ in range(2):  # that nothing listens is told to the one who sends again
        _, fault = sender.send([], nobody)
        if fault:
            return fault
        time.sleep(_ANSWER)
    return ""


def _sender(trace: TraceSettings) -> Callable[[], Sender]:
    if not trace.is_otlp:
        return lambda: AgentSender(*trace.agent)
    # Not in the thread that sends: a child that is forked meanwhile would be left with half a module.
    from faasflow.tracing.otlp import OtlpSender

    return lambda: OtlpSender(trace.spans_url, dict(trace.headers))


class HeaderCodec(Codec):
    """A trace in headers: `uber-trace-id` and baggage as Jaeger has them and, for W3C, `traceparent` besides, which
    goes first when a caller sends both. What cannot be understood counts as not sent."""

    def __init__(self, *, is_w3c: bool) -> None:
        self._jaeger = TextCodec(url_encoding=True)
        self._is_w3c = is_w3c

    def inject(self, span_context: SpanContext, carrier: dict[str, str]) -> None:
        if self._is_w3c:
            sampled = span_context.flags & SAMPLED_FLAG
            carrier["traceparent"] = f"00-{span_context.trace_id:032x}-{span_context.span_id:016x}-{sampled:02x}"
        self._jaeger.inject(span_context, carrier)

    def extract(self, carrier: dict[str, str]) -> SpanContext | None:
        context: SpanContext | None = None
        with suppress(opentracing.SpanContextCorruptedException):
            context = self._jaeger.extract(carrier)
        if self._is_w3c and (ids := _parent(carrier.get("traceparent", ""))):
            return SpanContext(*ids[:2], None, ids[2], baggage=context.baggage if context else None)
        if context is None or not _can_be_sent(context):
            return None
        return context


def _parent(header: str) -> tuple[int, int, int] | None:
    """Trace, span and flags of a `traceparent`."""
    found = _TRACEPARENT.fullmatch(header.strip())
    trace, span = (int(found[1], 16), int(found[2], 16)) if found else (0, 0)
    return (trace, span, int(found[3], 16) & SAMPLED_FLAG) if found and trace and span else None


def _can_be_sent(context: SpanContext) -> bool:
    """Whether ids are in range, which the library does not look at: one that is not would spoil a batch."""
    if not context.has_trace:
        return context.debug_id is not None  # baggage alone would leave the trace unsampled
    return context.trace_id < 1 << 128 and context.span_id < 1 << 64 and context.flags < 1 << 8


class AgentSender:
    """Sends to a Jaeger agent by UDP, in datagrams that arrive: not too large, and not too many at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._socket: socket.socket | None = None
        self._look_again = 0.0

    def send(self, spans: Sequence[Span], process: Process) -> tuple[int, str]:
        lost, reason = 0, ""
        for datagram, count in datagrams(spans, process):
            problem = self._send(datagram) if datagram else "a span is larger than a datagram"
            if problem:
                lost, reason = lost + count, problem
        return lost, reason

    def _send(self, datagram: bytes) -> str:
        """Send a datagram; what is wrong, if that is known."""
        connected = self._connected()
        if connected is None:
            return f"the name {self._host!r} of the server is not known"
        fault = ""
        try:
            try:
                connected.send(datagram)
            except ConnectionRefusedError:  # the one before this was, which is not sent yet
                fault = f"nothing listens at {self._host}:{self._port}"
                connected.send(datagram)
        except OSError as error:
            self._look_again = 0.0
            return fault or f"{self._host}:{self._port} cannot be reached ({error.strerror})"
        time.sleep(len(datagram) / _RATE)
        return fault

    def _connected(self) -> socket.socket | None:
        """A socket to the address that the name has now; `None` if it has none."""
        if time.monotonic() < self._look_again:
            return self._socket
        if self._socket is not None:
            self._socket.close()
        self._socket = self._open()
        self._look_again = time.monotonic() + (_NO_ADDRESS_AGE if self._socket is None else _ADDRESS_AGE)
        return self._socket

    def _open(self) -> socket.socket | None:
        opened = None
        with suppress(OSError, UnicodeError):  # no such name, or none that could be one
            family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
            opened = socket.socket(family, kind, protocol)
            opened.connect(address)
            return opened
        if opened is not None:
            opened.close()
        return None


def datagrams(spans: Sequence[Span], process: Process) -> Iterator[tuple[bytes, int]]:
    """Datagrams that hold `spans`, each with the number of them; an empty one for what fits in none."""
    found = make_jaeger_batch(spans, process).spans
    for span in found:  # whoever is late may still add to the lists
        span.tags, span.logs, span.duration = [*span.tags], [*span.logs], max(0, span.duration)
    yield from _split(found, process)


def _split(spans: list[Any], process: Process) -> Iterator[tuple[bytes, int]]:
    datagram = _encoded(spans, process)
    if len(datagram) <= _LONGEST:
        yield datagram, len(spans)
    elif len(spans) > 1:
        yield from _split(spans[: len(spans) // 2], process)
        yield from _split(spans[len(spans) // 2 :], process)
    else:
        short = _encoded([_shortened(spans[0])], process)
        yield short if len(short) <= _LONGEST else b"", 1


def _encoded(spans: list[Any], process: Process) -> bytes:
    buffer = TMemoryBuffer()
    protocol = TCompactProtocol(buffer)
    protocol.writeMessageBegin("emitBatch", TMessageType.ONEWAY, 1)
    emitBatch_args(Batch(process=process, spans=spans)).write(protocol)
    protocol.writeMessageEnd()
    encoded: bytes = buffer.getvalue()
    return encoded


def _shortened(span: Any) -> Any:
    """A span without what makes it large, marked as such."""
    short = copy(span)
    short.operationName = span.operationName[:_SHORT]
    short.logs = []
    short.tags = [tag for tag in span.tags if len(tag.vStr or "") <= _SHORT][:_FEW]
    return short
